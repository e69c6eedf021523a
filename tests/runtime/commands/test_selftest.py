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


def test_labels_in_another_order_are_seen_whoever_wrote_the_contract(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph, contract, _ = read_artifact(artifact)
    path = tmp_path / artifact.name
    write_artifact(path, graph, replace(contract, labels=contract.labels[::-1]))
    assert selftest(path) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"edgecnn: error: {path}: self-test failed: the model or the order of its labels is not")
    assert error.count("\n") == 1


def test_a_contract_of_another_file_is_seen(
    tiny_artifact: Path, tiny_float_graph: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, contract, _ = read_artifact(tiny_artifact)
    path = tmp_path / "a.tflite"
    write_artifact(path, tiny_float_graph, contract)
    assert selftest(path) == 1
    assert "self-test failed: the model or the order of its labels is not" in capsys.readouterr().err


def test_goldens_that_do_not_say_what_they_were_measured_of_hold_by_their_numbers(
    tiny_artifact: Path, tmp_path: Path
) -> None:
    graph, contract, _ = read_artifact(tiny_artifact)
    path = tmp_path / "a.tflite"
    goldens = tuple(replace(golden, subject_sha256="") for golden in contract.goldens)
    write_artifact(path, graph, replace(contract, goldens=goldens, labels=contract.labels[::-1]))
    assert selftest(path) == 0
