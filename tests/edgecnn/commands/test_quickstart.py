"""`edgecnn quickstart` from nothing to four proven artifacts and a report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgecnn.training.run import read_run
from edgecnn_runtime import Classifier


@pytest.mark.long
def test_quickstart_end_to_end(edgecnn, tmp_path):
    process = edgecnn("quickstart", "--out", "a run", "--json", cwd=tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.count("\n") == 1
    document = json.loads(process.stdout)
    assert (document["schema"], document["command"], document["run"]) == (1, "quickstart", "a run")
    assert document["accuracy"]["test"] >= 0.8

    run = read_run(tmp_path / "a run")
    assert run.metrics["weights_sha256"] == document["weights_sha256"]
    made = document["artifacts"]
    assert [(artifact["format"], artifact["precision"]) for artifact in made] == [
        ("tflite", "float32"), ("tflite", "int8"), ("onnx", "float32"), ("onnx", "int8")
    ]  # fmt: skip
    for artifact in made:
        low, high = artifact["interval"]["test"]
        assert 0.8 <= low <= artifact["accuracy"]["test"] <= high <= 1
        if artifact["precision"] == "float32":
            assert (artifact["agreement"], artifact["drop_points"]) == (1.0, 0.0)
            assert artifact["max_difference"] <= 1e-4
        else:
            assert abs(artifact["drop_points"]) <= 3
            assert artifact["agreement"] >= 0.9
        contract = Classifier.load(tmp_path / artifact["path"]).contract
        assert contract.provenance.test.accuracy == artifact["accuracy"]["test"]
        assert contract.provenance.test.pictures == run.metrics["pictures"]["test"]

    report = (tmp_path / "a run" / "report.html").read_text("utf-8")
    assert not re.findall(r"(?:src|href)\s*=\s*[\"'](?!data:|#)", report), "one file, nothing beside it"
    assert "<script src" not in report
    assert "@import" not in report
    for artifact in made:
        assert Path(artifact["path"]).name in report
    assert run.config.command.startswith("edgecnn ")
    for command in ("edgecnn train", "edgecnn export", "edgecnn live"):
        assert command in report

    again = edgecnn("quickstart", "--out", "a run", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (1, "")
    assert "a run exists already" in again.stderr
    assert again.stderr.count("\n") == 1
