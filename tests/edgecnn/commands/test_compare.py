"""`edgecnn compare`: several backbones under one protocol, measured as int8 files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgecnn.evaluation.comparison import Candidate, pareto
from edgecnn.training.run import read_run

QUICK = ("--weights", "none", "--recipe", "scratch", "--size", 32, "--epochs", 2, "--batch-size", 8)


def _candidate(backbone, val, latency_ms, size_mb):
    return Candidate(backbone, val, val, val, (0.0, 1.0), "pass", latency_ms, size_mb, 1.0, "")


def test_pareto_front_keeps_whatever_is_best_at_something():
    accurate, quick, small = _candidate("a", 0.9, 9, 9), _candidate("b", 0.8, 1, 5), _candidate("c", 0.7, 5, 1)
    beaten = _candidate("d", 0.8, 2, 5)
    assert pareto([accurate, quick, small, beaten]) == {"a", "b", "c"}
    assert pareto([quick, _candidate("e", 0.8, 1, 5)]) == {"b", "e"}, "equals do not beat each other"


@pytest.mark.long
def test_compared_networks_have_runs_artifacts_and_a_page(here, shapes, tmp_path):
    words = ("compare", shapes, "--backbones", "basic_cnn,lenet5", "--out", tmp_path / "both", *QUICK)
    done = here(*words, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {one["backbone"] for one in document["backbones"]} == {"basic_cnn", "lenet5"}
    assert any(one["pareto"] for one in document["backbones"])
    assert {one["gate"] for one in document["backbones"]} <= {"pass", "unproven", "fail"}
    runs = [read_run(tmp_path / "both" / name) for name in ("basic_cnn", "lenet5")]
    assert runs[0].pictures == runs[1].pictures, "one split for all"
    assert all(run.config.command.startswith("edgecnn") for run in runs)
    page = (tmp_path / "both" / "compare.html").read_text("utf-8")
    for name in ("basic_cnn", "lenet5"):
        assert page.count(name) >= 2, "in the table and in the plot"
    for one in document["backbones"]:
        assert f"<td>{'REFUSED' if one['gate'] == 'fail' else one['gate']}</td>" in page
        assert Path(one["artifact"]).is_file()
    again = here(*words)
    assert again.returncode == 0, again.stderr
    assert "basic_cnn" in again.stdout
    assert [read_run(run.folder).metrics["train_s"] for run in runs] == [run.metrics["train_s"] for run in runs]
    other = here(*words[:-1], 4)
    assert (other.returncode, other.stdout) == (2, "")
    assert "holds a run with other settings" in other.stderr


@pytest.mark.long
def test_compared_networks_see_pictures_as_their_recipe_has_it(here, shapes, tmp_path):
    words = ("--weights", "none", "--recipe", "best", "--size", 32, "--epochs", 1, "--soup", 1, "--min-delta", 0.1)
    done = here("compare", shapes, "--backbones", "basic_cnn,lenet5", "--out", tmp_path / "both", *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("edgecnn: --min-delta: not used, it is for --patience\n") == 1
    for name in ("basic_cnn", "lenet5"):
        assert read_run(tmp_path / "both" / name).config.preprocessing.fit == "pad"


def test_one_backbone_is_no_comparison(shapes, refused, tmp_path):
    assert "names two or more" in refused("compare", shapes, "--backbones", "lenet5,", code=2)
    assert "did you mean" in refused("compare", shapes, "--backbones", "lenet5,mobilenet_v9", code=2)
