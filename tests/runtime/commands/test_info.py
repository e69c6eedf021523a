"""`edgecnn info` in the process of the test."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgecnn_runtime.classifier import read_artifact, write_artifact
from edgecnn_runtime.cli import main
from edgecnn_runtime.contract import Accuracy, Contract, Publication


def info(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["info", *map(str, words)])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_for_people(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = dict(line.split(maxsplit=1) for line in info(capsys, artifact).splitlines())
    assert rows["input"] == "32x32 px RGB, 0-255"
    assert rows["preprocessing"] == "squash, fast_area"
    assert rows["output"] == "softmax, 3 labels: red, green, blue"
    assert rows["goldens"] == "4"
    assert rows["weights"] == "by hand"
    assert "accuracy" not in rows
    assert rows["graph"].endswith("unaltered")


def test_its_accuracy_is_said(tiny_artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph, contract, _ = read_artifact(tiny_artifact)
    own = tmp_path / "a.tflite"
    test = Accuracy(0.9, (0.85, 0.93), 200)
    for provenance, words in (
        (replace(contract.provenance, test=test), "90.0% (85.0% to 93.0%) on 200 test pictures"),
        (replace(contract.provenance, published_top1=75.1), "75.1 % on ImageNet, as published"),
    ):
        write_artifact(own, graph, replace(contract, provenance=provenance))
        assert words in info(capsys, own)


def test_json_holds_the_contract_without_the_pictures(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(info(capsys, artifact, "--json"))
    assert document["size_bytes"] == artifact.stat().st_size
    assert document["contract"]["labels"] == ["red", "green", "blue"]
    assert len(document["contract"]["goldens"]) == 4
    assert all("png" not in golden for golden in document["contract"]["goldens"])


def test_how_the_engine_runs_it(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = json.loads(info(capsys, artifact, "--json"))["engine"]
    words = dict(line.split(maxsplit=1) for line in info(capsys, artifact).splitlines())["engine"]
    if artifact.suffix == ".onnx":
        assert engine["operators"] > engine["transposes"] >= 0
        assert words == f"{engine['operators']} operators, {engine['transposes']} of them Transpose"
    else:
        assert engine["partitions"] == 1
        assert words == "1 partition for the delegate"


def test_without_an_engine_the_rest_is_shown(
    artifact: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgecnn_runtime.backends import tflite
    from edgecnn_runtime.errors import ModelError

    def missing() -> None:
        raise ModelError("no TFLite engine is installed")

    monkeypatch.setattr(tflite, "_interpreter_class", missing)
    rows = dict(line.split(maxsplit=1) for line in info(capsys, artifact).splitlines())
    assert rows["output"] == "softmax, 3 labels: red, green, blue"
    assert artifact.suffix == ".onnx" or rows["engine"] == "not known: no TFLite engine is installed"


def test_the_contract_as_the_file_carries_it(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = info(capsys, artifact, "--contract")
    assert printed.startswith('{\n  "')
    graph, contract, module = read_artifact(artifact)
    assert json.loads(printed) == json.loads(module.split(artifact.read_bytes())[1])
    assert Contract.from_json(printed) == contract
    assert contract.graph_sha256 == hashlib.sha256(graph).hexdigest()


def test_one_answer_at_a_time(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["info", str(artifact), "--contract", "--json"])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "--labels, --contract and --json exclude one another" in said.err


def test_what_the_author_states(tiny_artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "author" not in info(capsys, tiny_artifact)
    graph, contract, _ = read_artifact(tiny_artifact)
    own = tmp_path / "a.tflite"
    stated = replace(contract.provenance, publication=Publication("Ana Núñez", "CC-BY-4.0"))
    write_artifact(own, graph, replace(contract, provenance=stated))
    rows = dict(line.split(maxsplit=1) for line in info(capsys, own).splitlines())
    assert (rows["author"], rows["license"]) == ("Ana Núñez", "CC-BY-4.0")
    assert "version" not in rows


def test_labels_alone(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert info(capsys, artifact, "--labels") == "red\ngreen\nblue\n"
