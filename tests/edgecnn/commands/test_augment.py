"""`edgecnn augment`: a page to look at, and a warning where a view may be of another class."""

from __future__ import annotations

import base64
import json
import re

import cv2
import numpy as np
import pytest

from edgecnn.evaluation.augment_page import MIXTURES, VIEWS, warnings
from edgecnn.training.options import Augmentation


def _pictures(page):
    found = re.findall(r'src="data:image/(?:png|jpeg);base64,([^"]+)"', page)
    return [cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR) for data in found]


def test_page_shows_every_class_as_it_is_and_as_the_network_sees_it(here, shapes, tmp_path):
    out = tmp_path / "views.html"
    words = ("augment", shapes, "--out", out, "--size", 48, "--rotation", 0.1, "--mixup", 0.4)
    done = here(*words, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert (document["command"], document["page"], document["warnings"]) == ("augment", str(out), [])
    assert document["augmentation"]["rotation"] == 0.1
    page = out.read_text("utf-8")
    for label in ("circle", "square", "triangle"):
        assert f"<h2>{label} " in page
    pictures = _pictures(page)
    assert len(pictures) == 12 * (1 + VIEWS) + MIXTURES
    assert {picture.shape for picture in pictures} == {(48, 48, 3)}
    assert len({picture.tobytes() for picture in pictures[: 1 + VIEWS]}) == 1 + VIEWS
    assert re.search(r"circle \d+% \+ |square \d+% \+ |triangle \d+%", page)

    before = out.read_bytes()
    assert "exists already" in here(*words).stderr
    assert here(*words, "--overwrite").returncode == 0
    assert out.read_bytes() == before, "equal commands give equal pages"


def test_what_is_typed_wins_over_the_file(here, shapes, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('recipe = "best"\nsize = 64\nrotation = 0.2\n', "utf-8")
    words = ("augment", shapes, "--config", file, "--out", tmp_path / "views.html", "--json")
    done = here(*words, "--size", 40, "--recipe", "course")
    assert json.loads(done.stdout)["augmentation"] == {
        **vars(Augmentation(flip="horizontal", zoom=0.1, translation=0.1)),
        "rotation": 0.2,
    }
    assert _pictures((tmp_path / "views.html").read_text("utf-8"))[0].shape == (40, 40, 3)


def test_views_are_of_the_size_that_the_network_is_tuned_at(here, shapes, tmp_path):
    words = ("augment", shapes, "--out", tmp_path / "views.html", "--recipe", "best", "--overwrite")
    # The page shows nothing larger than 240 px.
    for size, whole, smaller in (((), 240, 224), (("--size", 128), 128, 96)):
        assert here(*words, *size).returncode == 0
        pictures = _pictures((tmp_path / "views.html").read_text("utf-8"))
        assert [picture.shape[0] for picture in pictures[: 1 + VIEWS]] == [whole, *[smaller] * VIEWS]
        assert {picture.shape for picture in pictures[-MIXTURES:]} == {(smaller, smaller, 3)}


def test_unreadable_pictures_and_labels_of_markup_do_no_harm(here, draw_shapes, tmp_path):
    data = draw_shapes(tmp_path / "data", ("<b>one", "two"), count=3)
    (data / "two" / "00.png").write_bytes(b"none")
    done = here("augment", data, "--out", tmp_path / "views.html", "--size", 32)
    assert done.returncode == 0
    assert "left out: " in done.stderr
    page = (tmp_path / "views.html").read_text("utf-8")
    assert "<b>one" not in page
    assert "&lt;b&gt;one" in page


@pytest.mark.parametrize(
    ("labels", "options", "said"),
    [
        (("6", "9"), Augmentation(flip="horizontal"), "flip: mirrored letters and digits"),
        (("6", "9"), Augmentation(rotation=0.3), "rotation: upside down, a 6 is a 9 (classes 6, 9)"),
        (("turn-left", "turn-right"), Augmentation(flip="both"), "left becomes right"),
        (("izquierda", "derecha"), Augmentation(flip="horizontal"), "left becomes right"),
        (("thumb_up", "thumb_down"), Augmentation(flip="vertical"), "up becomes down"),
    ],
)
def test_warning_where_the_class_may_change(labels, options, said):
    assert said in "\n".join(warnings(options, labels))


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        (("cat", "dog"), Augmentation(flip="both", rotation=0.5)),
        (("6", "9"), Augmentation(rotation=0.1, zoom=0.5)),
        (("bright", "upset"), Augmentation(flip="both")),
        (("left", "right"), Augmentation(flip="vertical")),
    ],
)
def test_no_warning_without_cause(labels, options):
    assert warnings(options, labels) == []


def test_warning_reaches_the_terminal(here, draw_shapes, tmp_path):
    data = draw_shapes(tmp_path / "digits", ("6", "9"), count=3)
    done = here("augment", data, "--out", tmp_path / "views.html", "--size", 32, "--flip", "horizontal")
    assert done.stderr.startswith("edgecnn: warning: flip: mirrored letters and digits")
    assert "Warning: flip" in (tmp_path / "views.html").read_text("utf-8")
