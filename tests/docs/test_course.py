"""The course's lessons do what they say: both languages have the same commands, every option exists, and they run."""

from __future__ import annotations

import glob
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import typer

from edgecnn.data import embedded
from edgecnn.training.options import GROUP_OF, GROUPS, check
from edgecnn.training.presets import make_config, unused
from edgecnn_runtime.cli import _lab, _own

DOCS = Path(__file__).parents[2] / "docs"
OWN_PHOTOS, OWN_PHOTO = "PHOTOS", "new.jpg"
# The quickstart is replaced by unpacking its pictures, the standard recipe takes minutes: both are tested elsewhere.
NOT_RUN = ("edgecnn quickstart", "--recipe standard", "--camera 0")
LIMIT_S = 600
OPTIONS = ("recipe", "backbone", "weights", "size", "fit", "crop_fraction", "filter", "seed", "views")
PICTURES = 20  # of each class in train, val and test: what the lessons print of all of them is for people


def _blocks(name: str) -> list[str]:
    text = (DOCS / name).read_text("utf-8").replace("FOTOS", OWN_PHOTOS)
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def _lines(name: str) -> list[str]:
    return [line for block in _blocks(name) for line in block.splitlines()]


COMMANDS = [line for line in _lines("course.md") if line.startswith("edgecnn ")]


def test_both_languages_have_the_same_commands():
    lines = _lines("course.md")
    assert len(lines) > 40
    assert _lines("curso.md") == lines


@pytest.mark.parametrize("name", ["course.md", "curso.md"])
def test_what_is_linked_exists(name):
    links = re.findall(r"\]\(([^)#:]+)\)", (DOCS / name).read_text("utf-8"))
    assert len(links) >= 10
    assert [link for link in links if not (DOCS / link).exists()] == []


@pytest.mark.parametrize("line", COMMANDS)
def test_every_option_and_its_value_exist(line):
    name, *words = shlex.split(line)[1:]
    app = typer.Typer()
    app.command(name)({**_lab(), **_own()}[name]())
    context = typer.main.get_command(app).make_context(name, words)  # parses, runs nothing; raises for what is unknown
    for option, value in context.params.items():
        if name != "export" and option in GROUP_OF and value is not None:  # export has a --precision of its own
            check(option, value, GROUPS[GROUP_OF[option]])
    if name in ("train", "augment"):
        given = {option: value for option, value in context.params.items() if value is not None}
        of_training = {option: value for option, value in given.items() if option in {*GROUP_OF, *OPTIONS}}
        made, _ = make_config(Path("photos"), of_training, {"a": 500, "b": 500})  # raises where they do not go together
        assert unused(made, of_training) == []


@pytest.fixture
def lessons(tmp_path):
    """A folder with what the lessons take for granted: the quickstart's pictures, and a video."""
    (tmp_path / "runs").mkdir()
    data = embedded.unpack(tmp_path / "runs")
    for label in data.glob("*/*/"):
        for path in sorted(label.iterdir())[PICTURES:]:
            path.unlink()
    video = cv2.VideoWriter(str(tmp_path / "video.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (280, 280))
    for path in sorted(glob.glob(f"{data}/test/bag/*.png"))[:10]:
        video.write(cv2.resize(cv2.imread(path), (280, 280)))
    video.release()
    return tmp_path


@pytest.mark.long
def test_the_lessons_run_in_order(lessons):
    for block in _blocks("course.md"):
        if OWN_PHOTOS in block or OWN_PHOTO in block:
            continue
        for line in block.splitlines():
            if any(words in line for words in NOT_RUN):
                continue
            program = re.sub(r"^edgecnn ", f"{shlex.quote(sys.executable)} -m edgecnn_runtime ", line)
            done = subprocess.run(program, shell=True, cwd=lessons, capture_output=True, text=True, timeout=LIMIT_S)
            print(f"$ {line}\n{done.stdout}{done.stderr}", flush=True)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            assert "error:" not in done.stderr
            assert done.stdout or not line.startswith("edgecnn ")
