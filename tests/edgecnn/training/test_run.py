"""The run folder: whole or absent, read back as written, refused in one line when it is damaged."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecnn.training.run import begin_run, check_new, part_of, publish_run, read_run, weights_sha256
from edgecnn.training.train import load_model, reload_pictures
from edgecnn_runtime.errors import EdgecnnError

FILES = {"config.json", "history.csv", "labels.txt", "metrics.json", "model.keras", "report.html", "splits.csv"}


def test_run_folder_holds_every_file(finished):
    assert {path.name for path in finished.folder.iterdir()} == FILES
    assert [path.name for path in finished.folder.parent.iterdir()] == [finished.folder.name]
    assert finished.labels == ("circle", "square", "triangle")
    assert (finished.folder / "labels.txt").read_text("utf-8") == "circle\nsquare\ntriangle\n"

    counts = {split: sum(p.split == split for p in finished.pictures) for split in ("train", "val", "test")}
    assert counts == finished.metrics["pictures"] == {"train": 24, "val": 6, "test": 6}
    assert {p.path for p in finished.pictures} >= {"circle/00.png", "triangle/11.png"}
    assert all(len(p.sha256) == 64 for p in finished.pictures)

    with open(finished.folder / "history.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert finished.history.keys() == {"stage", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
    assert finished.history["loss"] == [float(row["loss"]) for row in rows]

    metrics = json.loads((finished.folder / "metrics.json").read_text("utf-8"))
    for split in ("train", "val", "test"):
        low, high = metrics["interval"][split]
        assert 0 <= low <= metrics["accuracy"][split] <= high <= 1
    report = (finished.folder / "report.html").read_text("utf-8")
    assert "basic_cnn" in report
    assert 'src="http' not in report


def test_config_round_trip(finished, config, shapes):
    assert finished.config == config(shapes)


def test_model_round_trip(finished):
    import keras

    model = load_model(finished)
    assert weights_sha256(model) == finished.metrics["weights_sha256"]
    pictures = reload_pictures(finished)
    batch = pictures.pixels[pictures.of("test")].astype(np.float32)
    probabilities = np.asarray(model.predict_on_batch(batch))
    right = (probabilities.argmax(1) == pictures.truth[pictures.of("test")]).mean()
    assert right == finished.metrics["accuracy"]["test"]
    # Anybody's Keras opens the file too, without code of ours.
    again = keras.models.load_model(finished.folder / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(np.asarray(again.predict_on_batch(batch)), probabilities)


def test_weights_sha256_depends_on_every_number(finished):
    model = load_model(finished)
    weights = model.get_weights()
    weights[-1][0] = np.nextafter(weights[-1][0], np.float32(2))
    model.set_weights(weights)
    assert weights_sha256(model) != finished.metrics["weights_sha256"]


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(4096))


def _nul(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b",", b"\0", 1) if path.suffix == ".csv" else b"\0")


def _list(path: Path) -> None:
    path.write_text("[]")


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished.folder, tmp_path / "run é"))


@pytest.mark.parametrize("damage", [_halve, _empty, _noise, _nul, _list, Path.unlink])
@pytest.mark.parametrize("name", sorted(FILES - {"report.html"}))
def test_damaged_file_is_one_line(copy, name, damage):
    damage(copy / name)
    try:
        run = read_run(copy)
    except EdgecnnError as error:
        message = str(error)
    else:
        if name == "history.csv":  # a shorter table is a table; nothing but the report reads it
            assert damage in (_empty, _nul, _list)
            return
        assert name == "model.keras"
        with pytest.raises(EdgecnnError) as raised:
            load_model(run)
        message = str(raised.value)
    assert str(copy) in message
    assert "\n" not in message
    assert len(message) < 400
    assert "train" in message


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("config.json", '"height": 32', '"height": "32"'),
        ("config.json", '"height": 32', '"height": 64'),
        ("config.json", '"basic_cnn"', '"lenet5"'),
        ("config.json", '"seed"', '"sead"'),
        ("config.json", '"dropout": 0.0', '"dropout": "much"'),
        ("config.json", '"fit": "crop"', '"fit": "stretch"'),
        ("metrics.json", '"weights_sha256": "', '"weights_sha256": "0'),
        ("metrics.json", '"weights_sha256"', '"hash"'),
        ("metrics.json", '"data_sha256"', '"hash"'),
        ("labels.txt", "circle\n", "circle\ncircle\n"),
        ("labels.txt", "circle\n", ""),
        ("labels.txt", "circle\nsquare\n", "square\ncircle\nextra\n"),
        ("labels.txt", "circle\nsquare\n", "square\ncircle\n"),
        ("history.csv", ",accuracy", ",accuracy,x"),
        ("splits.csv", ",train,", ",training,"),
    ],
)
def test_altered_file_is_one_line(copy, name, before, after):
    text = (copy / name).read_text("utf-8")
    assert before in text
    (copy / name).write_text(text.replace(before, after, 1), "utf-8")
    with pytest.raises(EdgecnnError) as raised:
        load_model(read_run(copy))
    assert "\n" not in str(raised.value)


def test_altered_weights_are_refused(copy):
    run = read_run(copy)
    model = load_model(run)
    weights = model.get_weights()
    weights[0] += 1e-3
    model.set_weights(weights)
    model.save(copy / "model.keras")
    with pytest.raises(EdgecnnError, match=r"model\.keras: these are not the weights"):
        load_model(read_run(copy))


def test_run_of_a_newer_version_is_refused(copy):
    path = copy / "config.json"
    path.write_text(path.read_text("utf-8").replace('"schema": 2', '"schema": 3'), "utf-8")
    with pytest.raises(EdgecnnError, match="schema 3; this edgecnn reads 2"):
        read_run(copy)


def test_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(EdgecnnError, match=r"not a run folder \(config.json is missing\)"):
        read_run(tmp_path)
    with pytest.raises(EdgecnnError, match="not a run folder"):
        read_run(tmp_path / "nowhere")


def test_labels_keep_every_character(finished, tmp_path):
    labels = (" spaced", "Grüne Äpfel", "a\u2028b", "日本語")
    pictures = [replace(finished.pictures[0], path='a,b\n"c".png', label=label) for label in labels]
    begin_run(tmp_path / "run", finished.config, labels, pictures, False)
    publish_run(tmp_path / "run")
    for name in ("metrics.json", "history.csv"):
        shutil.copy(finished.folder / name, tmp_path / "run")
    again = read_run(tmp_path / "run")
    assert again.labels == labels
    assert list(again.pictures) == pictures


def test_overwriting_keeps_the_old_run_until_the_new_one_is_whole(finished, tmp_path):
    target = tmp_path / "deep" / "run"

    def begin(overwrite):
        return begin_run(target, finished.config, finished.labels, finished.pictures, overwrite)

    assert begin(False) == part_of(target)
    assert not target.exists()
    publish_run(target)
    (target / "more").write_text("old")
    with pytest.raises(EdgecnnError, match=r"exists already; .*--overwrite"):
        begin(False)
    begin(True)
    for name in ("head-done.npz", ".network.npz.123.tmp"):  # checkpoints, and what a kill leaves of one
        (part_of(target) / name).touch()
    assert (target / "more").read_text() == "old"
    publish_run(target)
    assert {path.name for path in target.iterdir()} == {"config.json", "labels.txt", "metrics.json", "splits.csv"}
    assert [path.name for path in target.parent.iterdir()] == ["run"]


def test_interrupted_training_is_not_thrown_away(finished, tmp_path):
    target = tmp_path / "run"
    part = begin_run(target, finished.config, finished.labels, finished.pictures, False)
    begin_run(target, finished.config, finished.labels, finished.pictures, False)  # nothing was learnt yet
    (part / "head-done.npz").write_bytes(b"learnt")
    with pytest.raises(EdgecnnError, match=r"interrupted training; go on with 'edgecnn train --resume .*run'"):
        begin_run(target, finished.config, finished.labels, finished.pictures, False)
    with pytest.raises(EdgecnnError, match="its training was interrupted; go on with"):
        read_run(target)
    begin_run(target, finished.config, finished.labels, finished.pictures, True)
    assert not (part / "head-done.npz").exists()


def test_what_is_no_run_is_never_overwritten(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "mine.jpg").write_bytes(b"precious")
    with pytest.raises(EdgecnnError, match="is not a run folder, so it is not overwritten"):
        check_new(photos, True)
    with pytest.raises(EdgecnnError, match="is not a run folder"):
        check_new(photos / "mine.jpg", True)
    empty = tmp_path / "empty"
    empty.mkdir()
    check_new(empty, True)
    check_new(tmp_path / "absent", False)


def test_place_that_cannot_be_written_is_one_line(finished, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgecnnError, match="cannot be written: "):
        begin_run(tmp_path / "file" / "run", finished.config, finished.labels, finished.pictures, False)


def test_a_run_never_takes_the_place_of_data_or_of_what_is_no_run(draw_shapes, refused, tmp_path):
    words = ("--backbone", "basic_cnn", "--weights", "none", "--size", 32, "--epochs", 1)
    data = draw_shapes(tmp_path / "birds.part")
    before = sorted(data.rglob("*"))
    for name, given in ((data, data), (tmp_path / "inside.part", tmp_path / "inside.part" / "data")):
        if given != data:
            draw_shapes(given)
        for more in ((), ("--overwrite",)):
            line = refused("train", given, "--out", str(name).removesuffix(".part"), *words, *more)
            assert f"{name} holds the data; name another folder with --out" in line
    assert sorted(data.rglob("*")) == before
    other = tmp_path / "run.part" / "precious.txt"
    other.parent.mkdir()
    other.write_text("kept")
    assert "is not an interrupted training" in refused("train", data, "--out", tmp_path / "run", *words, "--overwrite")
    assert other.read_text() == "kept"


def test_a_picture_whose_name_is_not_utf_8_is_named(draw_shapes, refused, tmp_path):
    data = draw_shapes(tmp_path / "data")
    picture = next(data.rglob("*.png"))
    try:
        picture.rename(picture.with_name("caf\udce9.png"))
    except OSError:
        pytest.skip("this file system takes no such name")
    line = refused("train", data, "--out", tmp_path / "run", "--backbone", "basic_cnn", "--size", 32)
    assert "caf\\udce9.png': the name is not valid UTF-8; rename it" in line
    assert not list(tmp_path.glob("run*"))


def test_opencv_keeps_its_limits_whatever_imports_it_first():
    code = "import os, edgecnn.pages; print(os.environ['OPENCV_IO_MAX_IMAGE_PIXELS'], os.environ['OPENCV_LOG_LEVEL'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(2**27), "SILENT"]


def test_compare_says_at_once_which_network_cannot_be_built(shapes, refused, tmp_path):
    words = ("compare", shapes, "--out", tmp_path / "compared", "--recipe", "fast", "--size", 32)
    line = refused(*words, "--backbones", "efficientnet_lite0,lenet5", code=2)
    assert "lenet5 has no ImageNet weights" in line
    assert not (tmp_path / "compared").exists()
