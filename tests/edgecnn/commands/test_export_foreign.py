"""`edgecnn export MODEL`: classifiers that were made elsewhere, through the command line and back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from edgecnn_runtime import Classifier

LABELS = ("Kreis é", "quadra t", "三角")
PYTORCH = Path(__file__).parents[2] / "converters" / "golden" / "small_cnn.onnx"
STATISTICS = ("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--logits")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, draw_shapes) -> Path:
    """Pictures, labels and three models, in a folder with an accent. Tests must not alter it."""
    folder = tmp_path_factory.mktemp("fremd é")
    draw_shapes(folder / "photos", LABELS, count=20)
    draw_shapes(folder / "split" / "train", LABELS, count=4, seed=1)
    draw_shapes(folder / "split" / "test", LABELS, count=5, seed=2)
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n", "utf-8")
    shutil.copy(PYTORCH, folder / "net.onnx")
    network = colours((20, 24, 3))
    network.save(folder / "mine.keras")
    network.export(folder / "served", verbose=False)
    return folder


def colours(shape):
    """Knows red, green and blue, which the shapes have; input 0-1, output probabilities."""
    inputs = keras.Input(shape)
    x = keras.layers.Conv2D(3, 1, activation="relu", use_bias=False)(inputs)  # how far a channel is above the others
    x = keras.layers.GlobalAveragePooling2D()(x)
    network = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", use_bias=False)(x))
    network.set_weights([(1.5 * np.eye(3) - 0.5)[np.newaxis, np.newaxis], 60 * np.eye(3)])
    return network


def _document(process):
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.count("\n") == 1
    return json.loads(process.stdout)


@pytest.mark.parametrize(
    ("model", "words"),
    [("mine.keras", ("--range", "0:1")), ("served", ("--range", "0:1")), ("net.onnx", STATISTICS)],
)
def test_every_kind_becomes_proven_files(edgecnn, here, folder, tmp_path, model, words):
    """The command as it is typed: what it says of the files, and that they work by themselves."""
    stated = ("--labels", folder / "labels.txt", *words, "--fit", "squash", "--data", folder / "photos")
    document = _document(edgecnn("export", folder / model, *stated, "--out", "my models", "--json", cwd=tmp_path))
    stem = Path(model).stem
    made = {Path(artifact["path"]).name: artifact for artifact in document["artifacts"]}
    tflite = [f"{stem}-{precision}.tflite" for precision in ("float32", "float16", "dynamic", "int8")]
    assert list(made) == [
        *([] if model == "net.onnx" else tflite),
        *(f"{stem}-{precision}.onnx" for precision in ("float32", "float16", "int8")),
    ]
    assert sorted(path.name for path in (tmp_path / "my models").iterdir()) == sorted(made)
    for name, artifact in made.items():
        # 15 of the 60 pictures calibrate; of each label every second of the others judges.
        assert (artifact["gate"]["pictures"], artifact["agreement"] > 0.9) == (24, True), name
        assert artifact["max_difference"] <= {"float32": 1e-4, "float16": 1e-2}.get(artifact["precision"], 0.1)
        path = tmp_path / "my models" / name
        contract = Classifier.load(path).contract
        assert (contract.labels, contract.preprocessing.fit) == (LABELS, "squash")
        assert contract.provenance.weights == f"{model}, made elsewhere"
        assert (contract.provenance.gate.pictures, contract.provenance.test.pictures) == (24, 21)
        assert here("selftest", path).returncode == 0
        results = _document(here("classify", path, folder / "photos", "--json"))["results"]
        right = np.mean([Path(result["path"]).parent.name == result["label"] for result in results])
        assert right == 1.0 or model == "net.onnx"
        assert f"{model}, made elsewhere" in here("info", path).stdout


def test_an_onnx_file_needs_no_tensorflow(folder, tmp_path):
    import subprocess
    import sys

    words = ["export", folder / "net.onnx", "--labels", folder / "labels.txt", *STATISTICS, "--data", folder / "photos"]
    program = (
        "import sys\nfrom edgecnn_runtime import cli\n"
        f"try:\n    cli.main({[*map(str, words), '--out', str(tmp_path)]})\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "assert not {'tensorflow', 'keras', 'torch'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "net-int8.onnx").is_file()


def test_the_same_answers_as_classify_gives_for_the_model_itself(here, folder, tmp_path):
    """One who knows what to say to `classify` knows it here."""
    stated = ("--labels", folder / "labels.txt", "--range", "-1:1", "--logits", "--fit", "pad")
    assert here("export", folder / "net.onnx", *stated, "--out", tmp_path).returncode == 0
    own = _document(here("classify", tmp_path / "net-float32.onnx", folder / "photos", "--json"))["results"]
    other = _document(here("classify", folder / "net.onnx", folder / "photos", "--size", "20x24", *stated, "--json"))
    for one, two in zip(own, other["results"], strict=True):
        assert (one["path"], one["label"]) == (two["path"], two["label"])
        assert one["probability"] == pytest.approx(two["probability"], abs=1e-4)


def test_without_labelled_pictures_one_line_says_that_nothing_is_proven(here, folder, tmp_path):
    words = ("export", folder / "net.onnx", "--labels", folder / "labels.txt", *STATISTICS, "--out", tmp_path)
    process = here(*words)
    assert (process.returncode, process.stderr) == (0, "")
    assert "no int8: it needs some pictures to calibrate with: --calibrate FOLDER\n" in process.stdout
    assert "no gate: it needs labelled pictures, which the model has never seen: --data FOLDER\n" in process.stdout
    assert "not measured" in process.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net-float16.onnx", "net-float32.onnx"]
    process = here(*words, "--calibrate", folder / "photos", "--precision", "int8")
    assert "no int8" not in process.stdout
    assert "no gate: " in process.stdout
    assert Classifier.load(tmp_path / "net-int8.onnx").contract.provenance.gate is None


def test_what_calibrates_judges_nothing(here, refused, folder, tmp_path, draw_shapes):
    words = ("export", folder / "net.onnx", "--labels", folder / "labels.txt", *STATISTICS, "--out", tmp_path, "--json")
    words += ("--overwrite", "--precision", "int8", "--format", "onnx")

    def judged(*more):
        (artifact,) = _document(here(*words, *more))["artifacts"]
        test = Classifier.load(artifact["path"].removesuffix(".rejected")).contract.provenance.test
        return artifact["gate"]["pictures"], test.pictures

    assert judged("--data", folder / "split") == (9, 6)  # the training split calibrates
    assert judged("--data", folder / "photos", "--calibrate", folder / "split") == (30, 30)
    copies = tmp_path / "copies"
    copies.mkdir()
    for number, picture in enumerate(sorted((folder / "photos").rglob("*.png"))[:24]):
        shutil.copy(picture, copies / f"{number}.png")
    assert judged("--data", folder / "photos", "--calibrate", copies) == (18, 18)
    draw_shapes(tmp_path / "all three" / "train", LABELS, count=4, seed=1)
    draw_shapes(tmp_path / "all three" / "val", LABELS, count=3, seed=3)
    draw_shapes(tmp_path / "all three" / "test", LABELS, count=5, seed=2)
    assert judged("--data", tmp_path / "all three") == (9, 15)  # by which nothing is decided
    assert "all of its pictures calibrate" in refused(*words, "--data", folder / "photos", "--calibrate", folder)


def test_a_grey_network_with_one_output_of_any_size(here, folder, tmp_path):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, None, 1))
    x = keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(4, 3)(inputs))
    network = keras.Model(inputs, keras.layers.Dense(1)(x))
    network.save(tmp_path / "grey.keras")
    (tmp_path / "two.txt").write_text("no\nyes\n")
    words = ("--labels", tmp_path / "two.txt", "--mean", "0.5", "--std", "0.25", "--logits", "--size", "24x32")
    words += ("--precision", "float32", "--fit", "squash")
    assert here("export", tmp_path / "grey.keras", *words, "--out", tmp_path / "out").returncode == 0
    picture = cv2.cvtColor(cv2.imread(str(folder / "photos" / LABELS[0] / "00.png")), cv2.COLOR_BGR2RGB)
    for format in ("tflite", "onnx"):
        classifier = Classifier.load(tmp_path / "out" / f"grey-float32.{format}")
        pixels = classifier.preprocess(picture)
        grey = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        logit = np.asarray(network(((grey / 255 - 0.5) / 0.25)[np.newaxis, ..., np.newaxis], training=False)).item()
        assert classifier.contract.activation == "sigmoid"
        np.testing.assert_allclose(classifier.infer(pixels)[1], 1 / (1 + np.exp(-logit)), atol=1e-4)


def test_existing_files_are_replaced_only_on_request(here, refused, folder, tmp_path):
    words = ("export", folder / "net.onnx", "--labels", folder / "labels.txt", *STATISTICS, "--out", tmp_path)
    (tmp_path / "net-float32.onnx").write_bytes(b"mine")
    assert "net-float32.onnx exists already; add --overwrite to replace it" in refused(*words)
    assert (tmp_path / "net-float32.onnx").read_bytes() == b"mine"
    assert here(*words, "--overwrite").returncode == 0


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (("net.onnx", "--labels", "labels.txt"), "needs --range LOW:HIGH (what it wants for black", 2),
        (("net.onnx", "--labels", "labels.txt", "--range", "0:1", *STATISTICS), "needs --range LOW:HIGH", 2),
        (("net.onnx", "--labels", "labels.txt", "--mean", "0.5"), "or --mean and --std", 2),
        (("net.onnx", "--labels", "labels.txt", "--mean", "0.5,1", "--std", "1"), "--mean is one number, or three", 2),
        (("net.onnx", "--labels", "labels.txt", "--mean", "0.5", "--std", "0"), "--std is of pixels from 0 to 1", 2),
        (("net.onnx", "--labels", "labels.txt", "--mean", "123", "--std", "58"), "divide by 255 (received: 123)", 2),
        (("net.onnx", "--labels", "labels.txt", "--range", "1"), "--range is LOW:HIGH", 2),
        (("net.onnx", "--labels", "labels.txt", "--range", "nan:1"), "--range is two different numbers", 2),
        (("net.onnx", "--range", "0:1"), "needs --labels FILE, a text file with one label a line", 2),
        (("net.onnx", "--labels", "none.txt", "--range", "0:1"), "none.txt: labels cannot be read", 1),
        (
            ("net.onnx", "--labels", "two.txt", "--range", "0:1", "--logits"),
            "two.txt: has 2 labels, net.onnx needs 3",
            1,
        ),
        (
            ("net.onnx", "--labels", "same.txt", "--range", "0:1", "--logits"),
            "same.txt: contract: labels must differ",
            1,
        ),
        (("net.onnx", "--labels", "labels.txt", "--range", "0:1"), "for logits state --logits", 1),
        (("net.onnx", "--labels", "labels.txt", "--size", "9", *STATISTICS), "input is 20x24 px, --size says 9x9", 2),
        (("net.onnx", "--labels", "labels.txt", "--fit", "cut", *STATISTICS), "--fit is crop, squash or pad", 2),
        (
            ("net.onnx", "--labels", "labels.txt", "--format", "tflite", *STATISTICS),
            "an ONNX file gives --format onnx",
            2,
        ),
        (("net.onnx", "--labels", "labels.txt", "--precision", "int8", *STATISTICS), "int8 needs pictures to calib", 1),
        (("net.onnx", "--labels", "labels.txt", "--data", "others", *STATISTICS), "the model has no label 'Stern'", 1),
        (("net.onnx", "--labels", "labels.txt", "--pictures", "photos", *STATISTICS), "--pictures goes with a run", 2),
        (("none.onnx", "--labels", "labels.txt", *STATISTICS), "none.onnx: cannot be read", 1),
        (("none.keras", "--labels", "labels.txt", *STATISTICS), "none.keras: no such file", 1),
        (("net.pt", "--labels", "labels.txt", *STATISTICS), "write the model by torch.onnx.export", 2),
        (("photos", "--labels", "labels.txt"), "--fit go with a model from elsewhere", 2),
        (("photos", "--out", "models"), "--out goes with --pretrained and foreign models", 2),
        (("--pretrained", "efficientnet_lite0", "--strict"), "--max-drop and --strict are of the gate", 2),
        (("net.onnx", "--labels", "labels.txt", "--max-drop", "1", *STATISTICS), "--max-drop and --strict are of", 2),
        (("photos", "--logits"), "--fit go with a model from elsewhere", 2),
        (("--pretrained", "efficientnet_lite0", "--fit", "pad"), "--fit go with a model from elsewhere", 2),
    ],
)
def test_mistakes_are_one_line(refused, folder, tmp_path, draw_shapes, monkeypatch, words, message, code):
    monkeypatch.chdir(tmp_path)
    for name in ("net.onnx", "labels.txt"):
        shutil.copy(folder / name, tmp_path)
    (tmp_path / "two.txt").write_text("no\nyes\n")
    (tmp_path / "same.txt").write_text("no\nyes\nno\n")
    draw_shapes(tmp_path / "others", ("Stern", *LABELS[:2]), count=2)
    assert message in refused("export", *words, code=code)
    assert not (tmp_path / "models").exists() or not list((tmp_path / "models").iterdir())


def test_what_8_bits_break_is_fine_tuned_and_the_output_says_so(here, unbalanced, tmp_path):
    unbalanced.model.save(tmp_path / "wide.keras")
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    for number, (picture, right) in enumerate(zip(unbalanced.pictures, unbalanced.expected.argmax(1), strict=True)):
        path = tmp_path / "photos" / "abc"[right] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
    stated = ("--labels", tmp_path / "labels.txt", "--range", "0:255", "--data", tmp_path / "photos")
    words = ("export", tmp_path / "wide.keras", *stated, "--format", "onnx", "--precision", "int8", "--max-drop", "10")
    (artifact,) = _document(here(*words, "--out", tmp_path / "models", "--json"))["artifacts"]
    assert [attempt["repair"]["tuned"] for attempt in artifact["attempts"]] == [False, False, False, False, True]
    assert artifact["gate"] == artifact["attempts"][-1]["gate"]
    assert artifact["left_out"] == ""
    assert Path(artifact["path"]).name == "wide-int8.onnx"
    said = here(*words, "--out", tmp_path / "models", "--overwrite")
    assert "fine-tuning (QAT)" in said.stdout
    assert said.stderr == ""
