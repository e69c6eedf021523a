"""`edgecnn classify` as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgecnn_runtime.classifier import read_artifact, write_artifact

RGB = {"red": (220, 0, 0), "green": (0, 220, 0), "blue": (0, 0, 220)}


def classify(*words: object, data: bytes | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "edgecnn_runtime", "classify", *map(str, words)]
    return subprocess.run(command, capture_output=True, input=data, cwd=cwd, timeout=60)


def document(done: subprocess.CompletedProcess[bytes]) -> Any:
    return json.loads(done.stdout)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "été à Köln"
    folder.mkdir()
    for name, rgb in RGB.items():
        cv2.imwrite(str(folder / f"{name}.png"), np.full((40, 30, 3), rgb[::-1], np.uint8))
    return folder


def test_one_picture_for_people(artifact: Path, photos: Path) -> None:
    done = classify(artifact, photos / "red.png", "--top", 2)
    assert done.returncode == 0
    assert done.stderr == b""
    (line,) = done.stdout.decode().splitlines()
    assert line.startswith(f"{photos}/red.png: red 99.")
    assert line.endswith(" ms)")
    assert line.count("%") == 2


def test_json_is_one_document(artifact: Path, photos: Path) -> None:
    done = classify(artifact, photos, "--json", "--top", 1)
    assert (done.returncode, done.stderr) == (0, b"")
    answer = document(done)
    assert (answer["schema"], answer["command"], answer["unreadable"]) == (1, "classify", [])
    assert [result["label"] for result in answer["results"]] == ["blue", "green", "red"]
    first = answer["results"][0]
    assert set(first) == {"path", "label", "probability", "top", "timings_ms"}
    assert first["path"] == f"{photos}/blue.png"
    assert first["top"] == [{"label": "blue", "probability": first["probability"]}]
    assert set(first["timings_ms"]) == {"decode", "preprocess", "inference", "total"}


def test_files_folders_globs_and_stdin_together(tiny_artifact: Path, photos: Path) -> None:
    data = (photos / "green.png").read_bytes()
    done = classify(tiny_artifact, photos / "red.png", f"{photos}/b*.png", "-", photos, "--json", data=data)
    labels = [result["label"] for result in document(done)["results"]]
    assert labels == ["red", "blue", "green", "blue", "green", "red"]
    assert document(done)["results"][2]["path"] == "-"


def test_names_with_magic_characters_are_names(tiny_artifact: Path, photos: Path) -> None:
    (photos / "red.png").rename(photos / "a[1]*.png")
    assert document(classify(tiny_artifact, "a[1]*.png", "--json", cwd=photos))["results"][0]["label"] == "red"


def test_below_the_threshold_there_is_no_label(tiny_artifact: Path, photos: Path) -> None:
    cv2.imwrite(str(photos / "grey.png"), np.full((9, 9, 3), 99, np.uint8))
    result = document(classify(tiny_artifact, photos / "grey.png", "--threshold", 0.9, "--json"))["results"][0]
    assert result["label"] is None
    assert result["probability"] < 0.9
    assert b": unknown: " in classify(tiny_artifact, photos / "grey.png", "--threshold", 0.9).stdout


def test_labels_with_accents_and_spaces(tiny_artifact: Path, photos: Path, tmp_path: Path) -> None:
    graph, contract, _ = read_artifact(tiny_artifact)
    own = tmp_path / "modèle 1.tflite"
    write_artifact(own, graph, replace(contract, labels=("crème brûlée", "寿司", "pão"), goldens=()))
    assert "寿司".encode() in classify(own, photos / "green.png").stdout
    assert document(classify(own, photos / "red.png", "--json"))["results"][0]["label"] == "crème brûlée"


def test_an_unreadable_file_in_a_folder_is_passed_over_but_a_named_one_is_a_failure(
    tiny_artifact: Path, photos: Path
) -> None:
    bad = photos / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff no picture")
    done = classify(tiny_artifact, photos, "--json")
    assert (done.returncode, len(document(done)["results"])) == (0, 3)
    assert document(done)["unreadable"][0]["path"] == str(bad)
    done = classify(tiny_artifact, photos)
    assert done.returncode == 0
    assert done.stderr.decode().startswith(f"edgecnn: {bad}: the JPEG file is truncated or damaged")
    done = classify(tiny_artifact, bad, photos / "red.png", "--json")
    assert (done.returncode, len(document(done)["results"])) == (1, 1)
    done = classify(tiny_artifact, bad)
    assert (done.returncode, done.stdout) == (1, b"")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["missing.png", "no*match.png", "."])
def test_nothing_to_classify_is_a_failure_with_a_reason(tiny_artifact: Path, tmp_path: Path, name: str) -> None:
    done = classify(tiny_artifact, name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_empty_stdin(tiny_artifact: Path) -> None:
    done = classify(tiny_artifact, "-", data=b"")
    assert done.returncode == 1
    assert b"the file is empty" in done.stderr


def test_a_foreign_model_by_what_is_stated(tmp_path: Path, tiny_float_graph: bytes, photos: Path) -> None:
    model, labels = tmp_path / "foreign.tflite", tmp_path / "labels.txt"
    model.write_bytes(tiny_float_graph)
    labels.write_text("rouge\nvert\nbleu\n")
    stated = ["--size", 32, "--range", "0:255", "--labels", labels, "--fit", "squash"]
    assert b"bleu 99." in classify(model, photos / "blue.png", *stated).stdout
    for words, message in (
        (["--size", "big", *stated[2:]], b"--size is a number of pixels or HEIGHTxWIDTH"),
        ([*stated[:2], "--range", "1", *stated[4:]], b"--range is LOW:HIGH"),
        ([*stated[:6], "--fit", "fill"], b"--fit is crop, squash or pad"),
    ):
        done = classify(model, photos / "blue.png", *words)
        assert done.returncode == 2
        assert message in done.stderr
    assert b"labels cannot be read" in classify(model, "x", *stated[:4], "--labels", tmp_path / "none").stderr
