from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from edgecnn.evaluation.plots import MAX_IMAGE_SIDE_PX, confusion_matrix, curves, reliability
from edgecnn_runtime.metrics import Bin

HISTORY = {
    "epoch": [1, 2, 3],
    "loss": [1.0, 0.5, 0.4],
    "accuracy": [0.5, 0.7, 0.8],
    "val_loss": [1.1, 0.7, float("nan")],
    "val_accuracy": [0.4, 0.6, 0.7],
    "seconds": [1.0, 1.0, 1.0],
}


def texts(svg: str) -> list[str]:
    return [
        "".join(element.itertext()) for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")
    ]


def test_curves_name_what_they_show() -> None:
    shown = texts(curves(HISTORY))
    assert {"loss", "accuracy", "epoch", "training", "validation"} <= set(shown)
    assert "seconds" not in shown


def test_a_metric_without_columns_gets_no_panel() -> None:
    shown = texts(curves({"loss": [1.0], "val_loss": [2.0]}))
    assert "loss" in shown
    assert "accuracy" not in shown
    assert "1" in shown, "one epoch gets a whole number on the axis"
    assert curves({}) == curves({"epoch": [], "loss": []}) == ""


def test_colours_follow_the_page() -> None:
    svg = curves(HISTORY)
    assert "var(--accent," in svg
    assert "#01020" not in svg


@pytest.mark.parametrize("classes", [2, 3, 10, 40, 41, 120, 1000])
def test_confusion_matrix_for_any_number_of_classes(classes: int) -> None:
    counts = np.eye(classes, dtype=np.int64) * 7
    counts[0, 1] = 3
    svg = confusion_matrix(counts, [f"class {index}" for index in range(classes)])
    shown = texts(svg)
    assert shown.count("7") == (classes if classes <= 40 else 0)
    assert shown.count("3") == (classes <= 40)
    assert "class 0" in shown
    side = int(re.search(r'<image[^>]* width="(\d+)"', svg)[1])
    assert min(classes, MAX_IMAGE_SIDE_PX // 2) <= side <= MAX_IMAGE_SIDE_PX
    assert len(svg) < 500_000


def test_counts_that_do_not_fit_are_left_out() -> None:
    counts = np.full((40, 40), 123_456)
    assert "123456" not in texts(confusion_matrix(counts, [str(index) for index in range(40)]))
    assert "123456" in texts(confusion_matrix(counts[:3, :3], ["a", "b", "c"]))


def test_an_empty_row_is_no_division_by_zero() -> None:
    assert "0" not in texts(confusion_matrix(np.zeros((2, 2), np.int64), ["a", "b"]))


@pytest.mark.parametrize(
    "label", ["<script>", '"&', "$x_1$", "$", "\\frac{", "a\nb\x00", "\udcff.jpg", "日本語", "#010203", ""]
)
def test_labels_may_hold_anything(label: str) -> None:
    svg = confusion_matrix(np.ones((2, 2), np.int64), [label, "other"])
    svg.encode("utf-8")
    if label.isprintable():
        assert texts(svg).count(label) == (2 if label else 0)


def test_long_labels_keep_their_beginning_and_their_end() -> None:
    svg = confusion_matrix(np.ones((2, 2), np.int64), ["Cymbidium orchid, early spring 17", "漢字" * 20])
    assert "Cymbidium o…ing 17" in texts(svg)
    assert "漢字漢字漢…字漢字" in texts(svg)


def test_equal_input_gives_equal_text() -> None:
    counts = np.arange(9).reshape(3, 3)
    assert curves(HISTORY) == curves(HISTORY)
    assert confusion_matrix(counts, ["a", "b", "c"]) == confusion_matrix(counts, ["a", "b", "c"])


def test_reliability_shows_every_range() -> None:
    bins = [Bin(0.4, 0.6, 10, 5, 0.55), Bin(0.9, 1.0, 90, 90, 0.97)]
    svg = reliability(bins, "as $trained$: error 3.1 %")
    assert {"as $trained$: error 3.1 %", "stated probability", "share that is right"} <= set(texts(svg))
    assert svg == reliability(bins, "as $trained$: error 3.1 %")
    assert "#01020" not in svg
    assert reliability((), "nothing") == ""
