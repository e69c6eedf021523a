"""`edgecnn train`: one document or a few lines, one line for every mistake, and the same weights for the same seed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from edgecnn.training.run import Config, at_work, begin_run, part_of, read_run
from edgecnn.training.train import load_model
from edgecnn_runtime.errors import EdgecnnError

SCRATCH = ("--backbone", "basic_cnn", "--weights", "none", "--size", 32, "--epochs", 2, "--batch-size", 8)


def _document(process):
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.count("\n") == 1
    document = json.loads(process.stdout)
    assert document["schema"] == 1
    return document


def test_json_is_the_only_output_and_one_seed_gives_one_model(edgecnn, here, shapes, tmp_path):
    def train(run, name, seed):
        return _document(run("train", shapes, "--out", tmp_path / name, *SCRATCH, "--seed", seed, "--json"))

    first = train(edgecnn, "first", 3)
    hashes = {"again": train(edgecnn, "again", 3)["weights_sha256"], "other": train(here, "other", 4)["weights_sha256"]}
    assert (first["command"], first["run"], first["recipe"]) == ("train", str(tmp_path / "first"), "scratch")
    assert first["accuracy"].keys() == first["interval"].keys() == {"train", "val", "test"}
    assert first["pictures"] == {"train": 24, "val": 6, "test": 6}
    assert first["unreadable"] == []
    assert hashes["again"] == first["weights_sha256"] != hashes["other"]
    run = read_run(tmp_path / "first")
    assert run.metrics["weights_sha256"] == first["weights_sha256"]
    load_model(run)


@pytest.mark.slow
def test_one_seed_gives_one_model_by_the_fast_recipe(edgecnn, here, shapes, tmp_path):
    hashes = []
    for number, (run, seed) in enumerate(((edgecnn, 3), (here, 3), (here, 4))):
        words = ("--size", 64, "--views", 1, "--epochs", 8, "--seed", seed)
        document = _document(run("train", shapes, "--out", tmp_path / str(number), *words, "--json"))
        assert document["recipe"] == "fast"  # so few pictures
        assert document["accuracy"]["train"] >= 0.9
        hashes.append(document["weights_sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_lines_for_people(here, draw_shapes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = draw_shapes(tmp_path / "my shapes")
    (data / "circle" / "broken.jpg").write_bytes(b"\xff\xd8")
    process = here("train", "my shapes", *SCRATCH)
    assert process.returncode == 0
    assert process.stderr.startswith(f"edgecnn: left out: {data}/circle/broken.jpg: ")
    assert process.stderr.count("\n") == 1
    assert "37 pictures, 3 classes: recipe scratch, because the weights are random" in process.stdout
    assert process.stdout.endswith("next: edgecnn export 'runs/my shapes'\n")
    assert (tmp_path / "runs" / "my shapes" / "report.html").is_file()


def _empty_class(data):
    (data / "void").mkdir()


def _one_class(data):
    for name in ("square", "triangle"):
        for path in (data / name).iterdir():
            path.unlink()
        (data / name).rmdir()


def _unknown_label(data):
    for name in ("train", "val"):
        (data / name).mkdir()
    for name in ("circle", "square"):
        (data / name).rename(data / "train" / name)
    (data / "triangle").rename(data / "val" / "triangle")


def _no_readable_picture(data):
    for path in data.rglob("*.png"):
        path.write_bytes(b"none")


def _class_without_readable_picture(data):
    for path in (data / "circle").iterdir():
        path.write_bytes(b"none")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_one_class, "only one class ('circle')"),
        (_empty_class, "void: the class folder holds no pictures"),
        (_unknown_label, "unknown label 'triangle'"),
        (_no_readable_picture, "no readable picture among 12"),
        (_class_without_readable_picture, "class 'circle' has no readable training picture"),
    ],
)
def test_data_that_cannot_be_trained_on_is_one_line(draw_shapes, refused, tmp_path, spoil, message):
    data = draw_shapes(tmp_path / "data", count=4)
    spoil(data)
    assert message in refused("train", data, "--out", tmp_path / "run", *SCRATCH)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (("--backbone", "mobilenet_v9"), "did you mean mobilenet", 2),
        (("--weights", "missing.weights.h5"), "missing.weights.h5", 1),
        (("--output", "sigmoid"), "sigmoid is for two classes", 2),
        (("--output", "tanh"), "--output is one of softmax, sigmoid (received: tanh)", 2),
        (("--fit", "stretch"), "--fit is crop, squash or pad (received: stretch)", 2),
        (("--recipe", "slow"), "no such recipe: 'slow'", 2),
        (("--filter", "sepia"), "filters must be among gray", 1),
        (("--size", 4), "--size", 2),
        (("--dropout", "1"), "--dropout", 2),
        (("--backbone", "inception_v3", "--weights", "none", "--size", 64), "at least 75 x 75", 2),
        (("--backbone", "resnet34", "--weights", "imagenet"), "has no ImageNet weights: use --weights none", 2),
    ],
)
def test_wrong_option_is_one_line(shapes, refused, tmp_path, words, message, code):
    assert message in refused("train", shapes, "--out", tmp_path / "run", "--size", 32, *words, code=code)
    assert not list(tmp_path.iterdir())


def test_a_class_that_augmentation_may_change_is_named(here, draw_shapes, tmp_path):
    data = draw_shapes(tmp_path / "data", ("left", "right"), count=6)
    done = here("train", data, "--out", tmp_path / "run", *SCRATCH, "--flip", "horizontal")
    assert done.returncode == 0, done.stderr
    assert "warning: flip: left becomes right (classes left, right); 'edgecnn augment' shows it" in done.stderr
    done = here("train", data, "--out", tmp_path / "run", "--overwrite", *SCRATCH, "--flip", "none")
    assert "warning" not in done.stderr


def test_missing_data_is_one_line(refused, tmp_path):
    assert "no such folder or file" in refused("train", tmp_path / "nowhere", "--out", tmp_path / "run")


def test_damaged_weights_file_is_one_line(shapes, refused, tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    words = ("--backbone", "basic_cnn", "--size", 32, "--weights", path)
    assert "weights.h5" in refused("train", shapes, "--out", tmp_path / "run", *words)


def test_existing_folder_is_refused_at_once(shapes, refused, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    assert "exists already; name another folder with --out, or add --overwrite" in refused(
        "train", shapes, "--out", run, *SCRATCH
    )
    (run / "config.json").rename(run / "diary.txt")
    assert "is not a run folder, so it is not overwritten" in refused(
        "train", shapes, "--out", run, *SCRATCH, "--overwrite"
    )


def test_killed_training_leaves_no_run_and_the_next_one_works(here, shapes, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))
    words = ["train", shapes, "--out", tmp_path / "run", *SCRATCH]
    endless = [*words, "--epochs", 100_000, "--patience", 100_000]
    process = subprocess.Popen([sys.executable, "-m", "edgecnn_runtime", *map(str, endless)], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "cache").rglob("*.pictures")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(3)  # the pictures are decoded; the network is being built or trained
        assert process.poll() is None
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "run.part"]
    assert _document(here(*words, "--json", "--overwrite"))["pictures"]["train"] == 24
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "run"]


def test_tensorboard_files_are_written_for_every_stage(here, shapes, tmp_path):
    words = ("--recipe", "standard", *SCRATCH, "--tensorboard")
    done = here("train", shapes, "--out", tmp_path / "run", *words)
    assert done.returncode == 0, done.stderr
    for stage in ("head", "backbone"):
        assert list((tmp_path / "run" / "tensorboard" / stage / "train").glob("events.*"))


def test_reject_threshold_goes_into_the_run_or_says_why_not(here, shapes, tmp_path):
    words = ("--reject-at", "30%", *SCRATCH, "--epochs", 40, "--learning-rate", 0.003, "--json")
    metrics = _document(here("train", shapes, "--out", tmp_path / "run", *words))
    assert 0.0 <= metrics["reject_threshold"] < 1.0
    assert 0.0 < metrics["answered"] <= 1.0
    assert metrics["reject_note"] == ""
    assert read_run(tmp_path / "run").config.reject_at == 0.3
    done = here("train", shapes, "--out", tmp_path / "other", "--reject-at", "0.001", *SCRATCH)
    assert done.returncode == 0
    assert "no reject threshold: no threshold keeps wrong answers to 0.1 %" in done.stderr
    page = (tmp_path / "other" / "report.html").read_text()
    assert "a reject threshold was asked for, but no threshold keeps wrong answers to 0.1 %" in page


def test_two_trainings_do_not_mix_in_one_folder(refused, shapes, tmp_path):
    run = tmp_path / "run"
    part = begin_run(run, Config(str(shapes), "basic_cnn", 32, 32), ("circle", "square"), (), overwrite=False)
    before = sorted(part.iterdir())
    with at_work(run):
        for more in ((), ("--overwrite",)):
            assert "another training is at work there" in refused("train", shapes, "--out", run, *SCRATCH, *more)
        assert sorted(part.iterdir()) == before
    with at_work(run):  # it ends with the block
        pass
    part.rename(run)
    with pytest.raises(EdgecnnError, match=r"run\.part: cannot be opened: No such file"), at_work(run):
        pass


def test_an_interrupted_training_is_resumed_by_one_process_alone(here, refused, shapes, tmp_path, monkeypatch):
    from edgecnn.commands import _training

    run = tmp_path / "run"
    monkeypatch.setattr(_training, "publish_run", lambda folder: None)
    assert "nothing to resume" in refused("train", "--resume", run)
    assert here("train", shapes, "--out", run, *SCRATCH).returncode == 0
    before = sorted(part_of(run).iterdir())
    with at_work(run):
        assert "another training is at work there" in refused("train", "--resume", run)
    assert sorted(part_of(run).iterdir()) == before


def test_a_class_without_test_pictures_is_named(here, shapes, tmp_path):
    rows = ["path,label,split"]
    for path in sorted(shapes.rglob("*.png")):
        split = ("train", "val", "test")[max(0, int(path.stem) - 9)] if path.parent.name != "square" else "train"
        rows.append(f"{path},{path.parent.name},{split}")
    (tmp_path / "shapes.csv").write_text("\n".join(rows))
    done = here("train", tmp_path / "shapes.csv", "--out", tmp_path / "run", *SCRATCH)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no test picture of square: how well it is known was not measured\n" in done.stdout


@pytest.mark.parametrize("share", ["5 percent", "0", "100%", "-1%"])
def test_wrong_share_is_one_line(shapes, refused, tmp_path, share):
    words = ("train", shapes, "--out", tmp_path / "run", "--reject-at", share)
    assert "--reject-at is a share such as 5% or 0.05" in refused(*words, code=2)
