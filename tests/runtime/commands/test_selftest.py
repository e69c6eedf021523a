"""`edgecnn selftest` in the process of the test."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgecnn_runtime.classifier import read_artifact, write_artifact
from edgecnn_runtime.cli import main


def selftest(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["selftest", *map(str, words)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_it_passes(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert selftest(artifact) == 0
    assert capsys.readouterr().out.startswith(f"{artifact}: passed, 4 goldens, largest difference ")
    assert selftest(artifact, "--json", "--threads", 2) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["passed"], document["goldens"]) == (True, 4)
    assert 0 <= document["worst"] <= 1


def test_a_device_that_computes_something_else_fails(
    tiny_artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph, contract, _ = read_artifact(tiny_artifact)
    golden = contract.goldens[0]
    wrong = replace(golden, probabilities=golden.probabilities[::-1])
    path = tmp_path / "a.tflite"
    write_artifact(path, graph, replace(contract, goldens=(golden, wrong)))
    assert selftest(path) == 1
    assert f"edgecnn: error: {path}: self-test failed" in capsys.readouterr().err


def test_without_goldens_nothing_is_proven(
    tiny_artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph, contract, _ = read_artifact(tiny_artifact)
    path = tmp_path / "a.tflite"
    write_artifact(path, graph, replace(contract, goldens=()))
    assert selftest(path) == 1
    assert "has no goldens; export it again" in capsys.readouterr().err
