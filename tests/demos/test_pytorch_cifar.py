"""demos/pytorch_cifar.py as a person runs it; PyTorch is not among what tests install."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn_runtime import Classifier

DEMO = Path(__file__).parents[2] / "demos" / "pytorch_cifar.py"
TORCH = importlib.util.find_spec("torch") is not None


def demo(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DEMO), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300)


@pytest.mark.skipif(TORCH, reason="PyTorch is installed")
def test_without_pytorch_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    done = demo(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "pytorch_cifar.py: PyTorch is not installed: run \"pip install 'edgecnn[pytorch]'\"\n"


@pytest.mark.skipif(not TORCH, reason="PyTorch is not installed")
def test_it_trains_and_leaves_proven_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label, bgr in (("rot", (0, 0, 200)), ("blau é", (200, 0, 0))):
        for number in range(60):
            path = tmp_path / "photos" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = np.clip(np.array(bgr) + rng.integers(0, 56, (40, 50, 3)), 0, 255).astype(np.uint8)
            path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    done = demo(tmp_path, "photos")
    assert (done.returncode, done.stderr) == (0, "")
    assert "PyTorch: 100.0% of 24 test pictures" in done.stdout
    assert "by 24 pictures that calibration never saw" in done.stdout
    for precision in ("float32", "int8"):
        classifier = Classifier.load(tmp_path / "runs" / "pytorch" / f"small_cnn-{precision}.onnx")
        assert classifier.selftest() <= 1
        assert classifier.contract.provenance.test.accuracy == 1.0


def test_it_is_short() -> None:
    assert len(DEMO.read_text("utf-8").splitlines()) < 110
