"""Damaged and forged models: an error in one line, never a crash of the process."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from edgecnn_runtime.classifier import read_artifact
from edgecnn_runtime.errors import ModelError

GOLDEN = Path(__file__).parents[1] / "golden"
CHILD = Path(__file__).with_name("fuzz_child.py")


def fuzz(graph: Path, seed: int, count: int) -> None:
    words = [sys.executable, str(CHILD), str(graph), str(seed), str(count)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    last = done.stdout.splitlines()[-1] if done.stdout else "none"
    assert done.returncode == 0, f"died with {done.returncode} of mutation {last} of {graph.name}: {done.stderr[-500:]}"
    _, passed, _, ran = last.split()
    assert int(ran) > count / 50, "the mutations are too coarse to reach the engine"
    assert int(passed) < count / 2, "the check lets nearly everything through"


@pytest.mark.parametrize("name", ["tiny-int8", "tiny-float32", "operators-int8", "operators-float32"])
def test_tflite_graphs(name: str) -> None:
    fuzz(GOLDEN / f"{name}.tflite", 0, 400)


def test_onnx_graph(tmp_path: Path, tiny_onnx_graph: bytes) -> None:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_onnx_graph)
    words = [sys.executable, str(CHILD), str(path), "0", "400"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout[-100:]} {done.stderr[-500:]}"
    assert "passed" in done.stdout.splitlines()[-1]


def test_of_an_artifact_every_changed_byte_is_seen(artifact: Path, tmp_path: Path) -> None:
    whole, (graph, contract, _) = artifact.read_bytes(), read_artifact(artifact)
    path = tmp_path / artifact.name
    for seed in range(300):
        rng = random.Random(seed)
        place, other = rng.randrange(len(whole)), rng.randrange(len(whole))
        data = {
            0: whole[:place],
            1: whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :],
            2: whole[:place] + whole[other : other + 40] + whole[place + 40 :],
            3: whole[place:],
            4: whole[:place] + whole[other:],
        }[seed % 5]
        path.write_bytes(data)
        try:
            received = read_artifact(path)
        except ModelError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017 - a copied stretch may equal what it replaces
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert received[:2] == (graph, contract)
