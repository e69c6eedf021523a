"""demos/webcam.py as a person runs it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

WEBCAM = Path(__file__).parents[2] / "demos" / "webcam.py"


def webcam(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    words = (sys.executable, WEBCAM, *words)
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, env=environment, timeout=60)


def test_it_says_what_a_video_shows(tiny_artifact: Path, tmp_path: Path) -> None:
    video = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (64, 48))
    for bgr in [(0, 0, 220)] * 30 + [(0, 220, 0)] * 30 + [(220, 0, 0)] * 30:
        writer.write(np.full((48, 64, 3), bgr, np.uint8))
    writer.release()
    done = webcam(tiny_artifact, video)
    assert done.returncode == 0, done.stderr
    labels = [line.split()[0] for line in done.stdout.splitlines()]
    assert [label for label, _ in itertools.groupby(labels)] == ["red", "green", "blue"]


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "python demos/webcam.py ARTIFACT"), (["missing.tflite"], "webcam.py: missing.tflite: cannot be read")],
)
def test_mistakes_are_explained(words: list[str], message: str) -> None:
    done = webcam(*words)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_camera_is_one_line(tiny_artifact: Path) -> None:
    done = webcam(tiny_artifact, "987")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("webcam.py: camera 987: ")


def test_it_is_short() -> None:
    assert len(WEBCAM.read_text("utf-8").splitlines()) < 50
