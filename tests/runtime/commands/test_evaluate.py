"""`edgecnn evaluate` as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn_runtime.metrics import wilson_interval

BGR = {"red": (0, 0, 220), "green": (0, 220, 0), "blue": (220, 0, 0)}


def evaluate(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgecnn_runtime", "evaluate", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def add(folder: Path, name: str, colour: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / name), np.full((20, 20, 3), BGR[colour], np.uint8))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three of each class, one of them of the wrong colour."""
    for label in BGR:
        for index in range(3):
            add(tmp_path / "photos" / label, f"{index}.png", "red" if (label, index) == ("blue", 2) else label)
    return tmp_path / "photos"


def test_figures(artifact: Path, photos: Path) -> None:
    done = evaluate(artifact, photos, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert (answer["schema"], answer["command"], answer["unreadable"]) == (1, "evaluate", [])
    assert answer["accuracy"] == {"test": pytest.approx(8 / 9)}
    assert answer["interval"] == {"test": pytest.approx(list(wilson_interval(8, 9)))}
    assert answer["pictures"] == {"test": 9}
    assert answer["recall"] == {"red": 1.0, "green": 1.0, "blue": pytest.approx(2 / 3)}
    assert answer["median_ms"] > 0


def test_for_people(tiny_artifact: Path, photos: Path) -> None:
    done = evaluate(tiny_artifact, photos)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("accuracy  88.9%  (95 % interval ")
    assert lines[0].endswith("8 of 9")
    assert lines[-1].endswith("66.7% of 3  most often taken for red (1)")


def test_the_split_is_chosen(tiny_artifact: Path, tmp_path: Path) -> None:
    for split, wrong in (("train", "red"), ("test", "green")):
        add(tmp_path / split / "red", "1.png", "red")
        add(tmp_path / split / "green", "1.png", wrong)
    for split, accuracy in (("test", 1.0), ("train", 0.5), ("all", 0.75)):
        words = ["--split", split]
        assert json.loads(evaluate(tiny_artifact, tmp_path, "--json", *words).stdout)["accuracy"] == {split: accuracy}
    done = evaluate(tiny_artifact, tmp_path, "--split", "val")
    assert done.returncode == 1
    assert "has no pictures in split 'val'" in done.stderr
    assert evaluate(tiny_artifact, tmp_path, "--split", "half").returncode == 2


def test_an_unreadable_picture_is_listed_and_left_out(tiny_artifact: Path, photos: Path) -> None:
    (photos / "red" / "bad.png").write_bytes(b"nothing")
    answer = json.loads(evaluate(tiny_artifact, photos, "--json").stdout)
    assert answer["pictures"] == {"test": 9}
    assert [entry["path"] for entry in answer["unreadable"]] == [f"{photos}/red/bad.png"]
    done = evaluate(tiny_artifact, photos)
    assert done.returncode == 0
    assert done.stderr.endswith("(left out)\n")


def test_nothing_readable_unknown_labels_and_missing_data(tiny_artifact: Path, photos: Path, tmp_path: Path) -> None:
    add(photos / "purple", "1.png", "red")
    done = evaluate(tiny_artifact, photos)
    assert done.returncode == 1
    assert "the model has no label 'purple' (it has: red, green, blue)" in done.stderr
    for label in ("red", "green"):
        (tmp_path / "bad" / label).mkdir(parents=True)
        (tmp_path / "bad" / label / "1.png").write_bytes(b"nothing")
    done = evaluate(tiny_artifact, tmp_path / "bad")
    assert done.returncode == 1
    assert "no picture could be read" in done.stderr
    assert "no such folder or file" in evaluate(tiny_artifact, tmp_path / "none").stderr
