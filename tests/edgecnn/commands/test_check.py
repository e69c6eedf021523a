"""`edgecnn check`: summary, one JSON document, a page on demand, exit codes."""

from __future__ import annotations

import importlib.util
import json
import shutil

import pytest

from edgecnn import backbones


@pytest.fixture
def faulty(shapes, tmp_path):
    folder = shutil.copytree(shapes, tmp_path / "shapes")
    whole = (folder / "circle" / "00.png").read_bytes()
    (folder / "circle" / "00.png").write_bytes(whole[:900])
    (folder / "square" / "01.png").rename(folder / "square" / "01.jpg")
    shutil.copy(folder / "square" / "02.png", folder / "triangle" / "copy.png")
    return folder


def test_summary_names_kinds_files_and_remedies(here, faulty):
    process = here("check", faulty, "--backbone", "lenet5")
    assert (process.returncode, process.stderr) == (0, "")
    for line in (
        "error    truncated: 1",
        "circle/00.png: the PNG file is truncated or damaged",
        "error    exact duplicates across classes: 1",
        "square/02.png = triangle/copy.png: labels square, triangle",
        "-> keep one, with the right label",
        "warning  wrong extension: 1",
        "square/01.jpg: holds a PNG picture",
        "left out: suspected labels were not looked for: the weights of lenet5 are not at hand",
        "2 errors, 4 warnings, 1 note",
        "--out check.html",
    ):
        assert line in process.stdout


def test_strict_fails_on_errors_and_warnings_alone(here, faulty, draw_shapes, tmp_path):
    assert here("check", faulty, "--backbone", "lenet5", "--strict").returncode == 1
    sound = draw_shapes(tmp_path / "sound", count=20, seed=5)
    process = here("check", sound, "--backbone", "lenet5", "--strict")
    assert process.returncode == 0, process.stdout
    assert "0 errors, 0 warnings, 1 note\n" in process.stdout  # all are 60 px high


def test_a_page_without_a_folder_is_said_before_the_looking(refused, faulty, tmp_path):
    message = refused("check", faulty, "--backbone", "lenet5", "--out", tmp_path / "nowhere" / "page.html")
    assert f"there is no folder {tmp_path / 'nowhere'}; make it, or choose another --out" in message


def test_json_is_the_only_output(here, faulty, tmp_path):
    page = tmp_path / "page.html"
    process = here("check", faulty, "--backbone", "lenet5", "--json", "--out", page)
    assert (process.returncode, process.stderr, process.stdout.count("\n")) == (0, "", 1)
    document = json.loads(process.stdout)
    assert (document["schema"], document["command"], document["page"]) == (1, "check", str(page))
    assert document["pictures"] == sum(document["classes"].values()) == 36
    assert document["found"] == {"errors": 2, "warnings": 4, "notes": 1}
    assert {"kind", "severity", "files", "detail", "remedy", "guess"} == document["findings"][0].keys()
    assert document["feigned_accuracy"] is None
    assert "<!doctype html>" in page.read_text("utf-8")


def test_a_page_is_not_overwritten_unasked(here, refused, shapes, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("mine")
    message = refused("check", shapes, "--backbone", "lenet5", "--out", page)
    assert "--overwrite" in message
    assert page.read_text() == "mine"
    assert here("check", shapes, "--backbone", "lenet5", "--out", page, "--overwrite").returncode == 0
    assert page.read_text("utf-8") != "mine"


def test_nothing_to_examine_and_unknown_backbone(refused, tmp_path):
    assert "no such folder" in refused("check", tmp_path / "nowhere", "--backbone", "lenet5")
    assert "there is no backbone" in refused("check", tmp_path, "--backbone", "nothing", code=2)


def test_without_tensorflow_the_other_checks_run(here, faulty, monkeypatch):
    if not backbones.get("efficientnet_lite0").weights_at_hand():
        pytest.skip("needs the weights of efficientnet_lite0")
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if name == "tensorflow" else real(name, *a))
    process = here("check", faulty)
    assert process.returncode == 0
    assert "not looked for: building a network needs TensorFlow" in process.stdout
    assert "error    truncated: 1" in process.stdout


@pytest.mark.slow
def test_swapped_labels_are_suspected_by_the_backbone(here, draw_shapes, tmp_path):
    if not backbones.get("efficientnet_lite0").weights_at_hand():
        pytest.skip("needs the weights of efficientnet_lite0")
    folder = draw_shapes(tmp_path / "shapes", count=40, seed=3)
    (folder / "circle" / "05.png").rename(folder / "square" / "x.png")
    document = json.loads(here("check", folder, "--json").stdout)
    suspects = [(f["files"], f["guess"]) for f in document["findings"] if f["kind"] == "suspected label"]
    assert suspects == [(["square/x.png"], "circle")]
    assert document["left_out"] == []
