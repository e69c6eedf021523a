"""Coloured shapes to train on, and the command line in this process and in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn_runtime import cli

CLASSES = ("circle", "square", "triangle")
_BGR = ((40, 40, 220), (40, 200, 40), (220, 80, 40))

Draw = Callable[..., Path]


def _shape(kind: int, rng: np.random.Generator) -> np.ndarray:
    """One picture, ``(60, 80, 3)`` uint8 BGR: the kind says the shape and its colour."""
    picture = rng.integers(90, 170, (60, 80, 3), dtype=np.uint8)
    x, y, r = int(rng.integers(28, 52)), int(rng.integers(24, 36)), int(rng.integers(14, 22))
    if kind == 0:
        cv2.circle(picture, (x, y), r, _BGR[kind], -1)
    elif kind == 1:
        cv2.rectangle(picture, (x - r, y - r), (x + r, y + r), _BGR[kind], -1)
    else:
        cv2.fillPoly(picture, [np.array([(x, y - r), (x - r, y + r), (x + r, y + r)], np.int32)], _BGR[kind])
    return picture


@pytest.fixture(scope="session")
def draw_shapes() -> Draw:
    """Writes ``folder/<class>/<number>.png``, `count` of each class, and returns the folder."""

    def draw(folder: Path, classes: Sequence[str] = CLASSES, count: int = 12, seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        for kind, name in enumerate(classes):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                png = cv2.imencode(".png", _shape(kind, rng))[1].tobytes()
                (folder / name / f"{number:02}.png").write_bytes(png)
        return folder

    return draw


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory, draw_shapes: Draw) -> Path:
    """Three classes of twelve pictures. Tests must not alter them."""
    return draw_shapes(tmp_path_factory.mktemp("shapes") / "shapes")


@pytest.fixture(scope="session")
def edgecnn() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command in a process of its own, as a user starts it."""

    def run(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgecnn_runtime", *map(str, words)]
        environment = {**os.environ, "PYTHONPATH": "", "PYTHONUTF8": "1"}
        return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd, env=environment)

    return run


@pytest.fixture
def here(capfd: pytest.CaptureFixture[str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command in this process, which has TensorFlow loaded already."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        arguments = [str(word) for word in words]
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), *capfd.readouterr())

    return run


@pytest.fixture
def refused(here: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., str]:
    """Runs a command that must fail, and returns its one line on stderr."""

    def run(*words: object, code: int = 1) -> str:
        process = here(*words)
        assert (process.returncode, process.stdout) == (code, ""), process.stderr
        assert process.stderr.startswith("edgecnn: error: ")
        assert process.stderr.count("\n") == 1, process.stderr
        assert len(process.stderr) < 500
        return process.stderr

    return run
