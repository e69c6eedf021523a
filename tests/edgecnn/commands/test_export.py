"""`edgecnn export`: artifacts of a run and of a pretrained backbone, through the command line and back."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn.commands._artifacts import choose_variants
from edgecnn.commands._pretrained import imagenet_labels
from edgecnn.commands._training import train_run
from edgecnn.training.options import Augmentation, Optimization
from edgecnn.training.run import Config
from edgecnn_runtime import Classifier
from edgecnn_runtime.classifier import read_artifact
from edgecnn_runtime.contract import Publication
from edgecnn_runtime.errors import UsageError

LABELS = ("Grüne Äpfel", "quadra t", "三角")
ALL = [("tflite", p) for p in ("float32", "float16", "dynamic", "int8")]
ALL += [("onnx", p) for p in ("float32", "float16", "int8")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, draw_shapes) -> Path:
    """A run whose folder, data and labels have spaces and accents. Tests must not alter it."""
    folder = tmp_path_factory.mktemp("Läufe") / "mein Lauf"
    data = draw_shapes(folder.parent / "Fotos é", LABELS)
    options = Optimization(epochs=40, batch_size=24, learning_rate=3e-3, patience=40)
    views = Augmentation(flip="horizontal", crop=0.7, brightness=0.05)
    config = Config(
        str(data), "basic_cnn", 32, 32, weights="none", recipe="scratch", optimization=options, augmentation=views
    )
    train_run(config, folder, False, 2)
    return folder


@pytest.fixture
def run(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "Lauf 2"))


def _document(process):
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.count("\n") == 1
    return json.loads(process.stdout)


def test_everything_is_exported_and_one_document_says_so(edgecnn, run):
    document = _document(edgecnn("export", run, "--json"))
    assert (document["schema"], document["command"], document["folder"]) == (1, "export", str(run / "artifacts"))
    made = document["artifacts"]
    assert [(artifact["format"], artifact["precision"]) for artifact in made] == ALL
    assert sorted(path.name for path in (run / "artifacts").iterdir()) == sorted(Path(a["path"]).name for a in made)
    report = (run / "report.html").read_text("utf-8")
    for artifact in made:
        assert artifact["accuracy"] == {"test": 1.0}
        assert artifact["interval"]["test"][1] == 1.0
        assert (artifact["agreement"], artifact["drop_points"]) == (1.0, 0.0)
        assert artifact["max_difference"] <= {"float32": 1e-4, "float16": 1e-2}.get(artifact["precision"], 0.1)
        assert artifact["latency_ms"] > 0
        assert Path(artifact["path"]).name in report
        assert artifact["size_mb"] == pytest.approx(Path(artifact["path"]).stat().st_size / 1e6)


def test_what_the_author_states_is_in_the_file(here, refused, run):
    words = ("--author", "Ana Núñez", "--license", "CC-BY-4.0", "--model-version", "1.2")
    document = _document(here("export", run, "--format", "tflite", "--precision", "float32", *words, "--json"))
    path = Path(document["artifacts"][0]["path"])
    assert Classifier.load(path).contract.provenance.publication == Publication("Ana Núñez", "CC-BY-4.0", "1.2")
    assert "Ana Núñez".encode() in read_artifact(path)[0], "of the graph, where TFLite's metadata are"
    assert "one line of printable characters" in refused("export", run, "--author", "Ana\nNúñez")


def test_labels_and_paths_come_back_from_the_artifact(here, run):
    _document(here("export", run, "--format", "onnx", "--precision", "float32", "--json"))
    artifact = run / "artifacts" / "basic_cnn-float32.onnx"
    shutil.rmtree(run.parent / "elsewhere", ignore_errors=True)
    moved = shutil.move(artifact, run.parent / "nur diese Datei é.onnx")
    contract = Classifier.load(moved).contract
    assert contract.labels == LABELS
    assert contract.provenance.test.pictures == 6
    assert contract.provenance.data_hash == json.loads((run / "metrics.json").read_text("utf-8"))["data_sha256"]
    data = Path(json.loads((run / "config.json").read_text("utf-8"))["data"])
    document = _document(here("classify", moved, data, "--json"))
    assert len(document["results"]) == 36
    right = [Path(result["path"]).parent.name == result["label"] for result in document["results"]]
    assert np.mean(right) >= 0.95
    assert _document(here("evaluate", moved, data, "--json"))["accuracy"]["test"] == np.mean(right)
    assert here("selftest", moved).returncode == 0


def test_one_variant_is_shown_as_a_table(here, run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    process = here("export", run, "--format", "tflite", "--precision", "int8")
    assert (process.returncode, process.stderr) == (0, "")
    row, gate = [line for line in process.stdout.splitlines() if line.split()[:2] == ["tflite", "int8"]]
    assert gate.split()[2] in ("pass", "unproven")
    assert "100.0 % (" in row.replace("100.0%", "100.0 %")
    assert process.stdout.endswith(f"next: edgecnn live '{run}/artifacts/basic_cnn-int8.tflite' --camera 0\n")
    assert [path.name for path in (run / "artifacts").iterdir()] == ["basic_cnn-int8.tflite"]


def test_few_pictures_leave_the_gate_open_and_more_decide(edgecnn, here, run, tmp_path, draw_shapes):
    words = ("export", run, "--format", "tflite", "--precision", "float32", "--overwrite")
    open_ = here(*words)
    assert (open_.returncode, open_.stderr) == (0, "")
    assert "unproven: basic_cnn-float32.tflite: too few pictures to be sure either way; some " in open_.stdout
    assert "labelled pictures more, with --data FOLDER, would tell" in open_.stdout
    strict = here(*words, "--strict", "--json")
    assert (strict.returncode, strict.stderr) == (4, "")
    assert json.loads(strict.stdout)["artifacts"][0]["gate"]["outcome"] == "unproven"
    info = here("info", run / "artifacts" / "basic_cnn-float32.tflite").stdout
    assert "gate           UNPROVEN: drop +0.00 points (" in info

    new = draw_shapes(tmp_path / "more", LABELS, count=100, seed=9)
    (new / LABELS[0] / "broken.png").write_bytes(b"no picture")
    process = edgecnn(*words, "--strict", "--data", new, "--json")
    assert (process.returncode, process.stderr.count("\n")) == (0, 1)
    assert "edgecnn: left out: " in process.stderr
    assert "broken.png" in process.stderr
    document = json.loads(process.stdout)
    gate = document["artifacts"][0]["gate"]
    assert (gate["outcome"], gate["pictures"], gate["views"]) == ("pass", 306, 1)
    assert document["artifacts"][0]["accuracy"]["test"] == 1.0
    record = Classifier.load(run / "artifacts" / "basic_cnn-float32.tflite").contract.provenance
    assert (record.gate.outcome, record.gate.pictures, record.test.pictures) == ("pass", 306, 6)


def test_data_for_the_gate_are_new_to_the_run_and_of_its_labels(refused, run, tmp_path, draw_shapes):
    words = ("export", run, "--format", "tflite", "--precision", "float32", "--data")
    own = json.loads((run / "config.json").read_text("utf-8"))["data"]
    assert "all of its pictures are the run's own already" in refused(*words, own)
    other = draw_shapes(tmp_path / "other", ("Stern", *LABELS[:2]), count=3, seed=4)
    assert "the run has no label 'Stern'" in refused(*words, other)
    assert "--max-drop is a number of points from 0 to 100" in refused("export", run, "--max-drop", "-1", code=2)
    assert "--data and --pictures go with a run" in refused("export", "--pretrained", "lenet5", "--data", other, code=2)
    assert not (run / "artifacts").exists()


def test_a_file_that_drops_too_far_is_kept_as_rejected_alone(here, run, monkeypatch):
    """A network that gets negatives of the pictures stands for any export that went wrong."""
    import keras

    from edgecnn.commands import _artifacts

    own = _artifacts.freeze

    def negative(model, height, width):
        inputs = keras.Input((height, width, 3))
        return own(keras.Model(inputs, model(255.0 - inputs)), height, width)

    good = here("export", run, "--format", "tflite", "--precision", "float32")
    assert good.returncode == 0
    path = run / "artifacts" / "basic_cnn-float32.tflite"
    before = path.read_bytes()
    monkeypatch.setattr(_artifacts, "freeze", negative)
    bad = here("export", run, "--format", "tflite", "--precision", "float32", "--overwrite")
    assert (bad.returncode, bad.stderr) == (3, "")
    assert (
        "REFUSED: the drop is larger than allowed; the file is kept as basic_cnn-float32.tflite.rejected" in bad.stdout
    )
    assert "next:" not in bad.stdout
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, f"{path.name}.rejected"]
    assert path.read_bytes() == before

    assert f"; {path.name} is that of an earlier export\n" in bad.stdout
    monkeypatch.setattr(_artifacts, "freeze", own)
    assert here("export", run, "--format", "tflite", "--precision", "float32", "--overwrite").returncode == 0
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    monkeypatch.setattr(_artifacts, "freeze", negative)

    worse = here("export", run, "--format", "tflite", "--precision", "int8")  # whatever is tried, and float16 too
    assert (worse.returncode, worse.stderr) == (3, "")
    assert "tflite int8 cost too much as it is always made" in worse.stdout
    for words in (
        "as always",
        "equalization",
        "joint rounding",
        "clipped ranges",
        "head trained again",
        "1 layer in float",
    ):
        assert f" {words} " in worse.stdout
    assert "kept as basic_cnn-int8.tflite.rejected\n" in worse.stdout
    assert "kept as basic_cnn-float16.tflite.rejected\n" in worse.stdout


def test_calibration_sees_every_class_however_many_pictures_there_are(tmp_path, draw_shapes):
    from edgecnn.commands._artifacts import decode_calibration
    from edgecnn_runtime.contract import Contract, Provenance

    data = draw_shapes(tmp_path / "data", LABELS, count=66)
    paths = sorted(data.rglob("*.png"))
    contract = Contract(32, 32, LABELS, Provenance(backbone="x", precision="", weights="none"))
    decoded = decode_calibration(paths, contract)
    assert len(decoded.hashes) == 100
    known = {hashlib.sha256(path.read_bytes()).hexdigest(): path.parent.name for path in paths}
    assert {known[content] for content in decoded.hashes} == {*LABELS}


def test_a_folder_that_cannot_be_written_to_is_said_at_once(refused):
    words = ("export", "--pretrained", "efficientnet_lite0", "--precision", "float32")
    assert "/proc: cannot be written to: " in refused(*words, "--out", "/proc")


def test_existing_artifact_is_replaced_only_on_request(here, refused, run):
    path = run / "artifacts" / "basic_cnn-float32.tflite"
    path.parent.mkdir()
    words = ("export", run, "--format", "tflite", "--precision", "float32")
    other = path.with_name(f"{path.name}.rejected")
    other.write_bytes(b"mine")
    assert "basic_cnn-float32.tflite.rejected exists already; add --overwrite" in refused(*words)
    other.unlink()
    path.write_bytes(b"mine")
    assert "basic_cnn-float32.tflite exists already; add --overwrite to replace it" in refused(*words)
    assert path.read_bytes() == b"mine"
    assert here(*words, "--overwrite").returncode == 0
    assert Classifier.load(path).selftest() <= 1


def test_damaged_runs_and_missing_data_are_one_line(refused, run, tmp_path):
    words = ("--format", "tflite", "--precision", "float32")
    assert "not a run folder" in refused("export", tmp_path / "nowhere", *words)
    assert "say where with --pictures" in refused("export", run, *words, "--pictures", tmp_path / "nowhere")
    config = (run / "config.json").read_text("utf-8")
    (run / "config.json").write_text(config.replace('"basic_cnn"', '"lenet5"'), "utf-8")
    assert "model.keras: the model is missing or damaged; train it again" in refused("export", run, *words)
    (run / "config.json").write_text(config, "utf-8")
    (run / "model.keras").write_bytes((run / "model.keras").read_bytes()[:5000])
    assert "model.keras: the model is missing or damaged" in refused("export", run, *words)
    (run / "labels.txt").unlink()
    assert "not a run folder (labels.txt is missing)" in refused("export", run, *words)
    assert not (run / "artifacts").exists() or not list((run / "artifacts").iterdir())


def test_moved_pictures_are_found(here, run, tmp_path):
    config = (run / "config.json").read_text("utf-8")
    data = json.loads(config)["data"]
    shutil.copytree(data, tmp_path / "umgezogen")
    (run / "config.json").write_text(config.replace(data, "/gone/for ever"), "utf-8")
    words = ("export", run, "--format", "tflite", "--precision", "float32", "--json")
    assert "/gone/for ever" in here(*words).stderr
    assert len(_document(here(*words, "--pictures", tmp_path / "umgezogen"))["artifacts"]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name a run folder, a model, or a backbone with --pretrained"),
        (("run", "--pretrained", "efficientnet_lite0"), "name a run folder, a model, or a backbone with --pretrained"),
        (("run", "--calibrate", "photos"), "--calibrate goes with --pretrained"),
        (("run", "--format", "coreml"), "no such format: coreml (known: tflite, onnx)"),
        (("run", "--precision", "int4"), "precision int4 does not exist for tflite or onnx"),
        (("run", "--format", "onnx", "--precision", "dynamic"), "precision dynamic does not exist for onnx"),
        (("--pretrained", "efficientnet_lite9"), "did you mean efficientnet_lite"),
        (("--pretrained", "resnet34"), "has no ready ImageNet classifier: choose one of efficientnet_lite0"),
        (("--pretrained", "mobilenet_v2", "--precision", "float32"), "has no ready ImageNet classifier"),
    ],
)
def test_wrong_use_is_one_line(refused, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused("export", *words, code=2)
    assert not list(tmp_path.rglob("*.tflite"))


def test_variants_are_chosen_in_the_order_of_the_tables():
    assert choose_variants([], []) == ALL
    assert choose_variants(["onnx", "onnx"], ["int8", "float32"]) == [("onnx", "float32"), ("onnx", "int8")]
    assert choose_variants([], ["dynamic"]) == [("tflite", "dynamic")]
    with pytest.raises(UsageError):
        choose_variants(["onnx"], ["int8", "dynamic"])


def test_imagenet_labels_differ():
    labels = imagenet_labels()
    assert len(labels) == len(set(labels)) == 1000
    assert all(label.strip() == label for label in labels)
    assert sum(label.startswith("crane (n") for label in labels) == 2


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, draw_shapes) -> Path:
    """A few pictures to calibrate with."""
    return draw_shapes(tmp_path_factory.mktemp("photos") / "some photos", count=3)


def test_pretrained_backbone_recognises_a_thousand_things(edgecnn, here, pictures, tmp_path):
    words = ("--format", "tflite", "--precision", "float32", "--out", "my models", "--json")
    document = _document(edgecnn("export", "--pretrained", "efficientnet_lite0", *words, cwd=tmp_path))
    (made,) = document["artifacts"]
    assert made["path"] == "my models/efficientnet_lite0-float32.tflite"
    assert made["accuracy"] == {"test": None}
    assert (made["drop_points"], made["agreement"]) == (None, None)
    artifact = tmp_path / made["path"]
    contract = _document(here("info", artifact, "--json"))["contract"]
    assert contract["provenance"]["published_top1"] == 75.1
    assert (len(contract["labels"]), contract["provenance"]["test"]) == (1000, None)
    assert "75.1" in here("info", artifact).stdout
    traffic_light = np.zeros((240, 320, 3), np.uint8)
    for y, colour in ((60, (0, 0, 255)), (120, (0, 200, 255)), (180, (0, 255, 0))):
        cv2.circle(traffic_light, (160, y), 24, colour, -1)
    cv2.imwrite(str(tmp_path / "light.png"), traffic_light)
    (result,) = _document(here("classify", artifact, tmp_path / "light.png", "--json"))["results"]
    assert "traffic light" in [entry["label"] for entry in result["top"]]


@pytest.mark.slow
def test_pretrained_int8_calibrates_with_given_pictures(here, refused, pictures, tmp_path):
    words = ("export", "--pretrained", "efficientnet_lite0", "--format", "tflite", "--precision", "int8")
    out = ("--out", tmp_path / "models")
    assert "int8 needs pictures to calibrate with: state --calibrate FOLDER" in refused(*words, *out)
    (tmp_path / "none").mkdir()
    assert "no picture to calibrate with" in refused(*words, *out, "--calibrate", tmp_path / "none")
    assert "cannot be read" in refused(*words, *out, "--calibrate", tmp_path / "nowhere")
    (made,) = _document(here(*words, *out, "--calibrate", pictures, "--json"))["artifacts"]
    classifier = Classifier.load(made["path"])
    assert len(classifier.contract.labels) == 1000
    assert classifier.classify(pictures / "circle" / "00.png").probabilities.sum() == pytest.approx(1, abs=1e-4)
    assert "exists already" in refused(*words, *out, "--calibrate", pictures)


@pytest.mark.slow
def test_a_run_that_8_bits_break_is_fine_tuned_on_its_own_pictures(here, run):
    """Channels of the first map, thousands of times larger than others, for which the next layer makes up."""
    from edgecnn.training.run import read_run, weights_sha256
    from edgecnn.training.train import load_model

    model = load_model(read_run(run))
    wide, narrow = model.get_layer("conv1"), model.get_layer("conv2")
    factor = np.random.default_rng(0).permutation(np.geomspace(1, 1e5, wide.filters)).astype(np.float32)
    wide.set_weights([each * factor for each in wide.get_weights()])
    narrow.set_weights([narrow.get_weights()[0] / factor[:, np.newaxis], narrow.get_weights()[1]])
    model.save(run / "model.keras")
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    (run / "metrics.json").write_text(json.dumps({**metrics, "weights_sha256": weights_sha256(model)}), "utf-8")
    document = json.loads(here("export", run, "--format", "onnx", "--precision", "int8", "--json").stdout)
    first, *_, last = document["artifacts"][0]["attempts"]
    assert first["gate"]["drop_points"] > 10
    assert last["words"] == "fine-tuning (QAT)"
    assert last["gate"]["drop_points"] < first["gate"]["drop_points"]
