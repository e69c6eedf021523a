from __future__ import annotations

import json
import math

import numpy as np
import pytest

from edgecnn.evaluation.figures import class_rows, macro_average, split_metrics
from edgecnn_runtime.metrics import f1_interval, wilson_interval

COUNTS = np.array([[8, 2, 0, 0], [0, 0, 0, 0], [5, 1, 4, 0], [0, 0, 0, 3]])
LABELS = ["a", "empty", "c", "d"]


def test_classes_stand_worst_first() -> None:
    rows = class_rows(COUNTS, LABELS)
    assert [row.label for row in rows] == ["c", "a", "d", "empty"]
    assert rows[0].recall == pytest.approx(0.4)
    assert rows[0].precision == 1.0
    assert rows[0].mistaken_for == ("a", 5)
    assert rows[1].precision == pytest.approx(8 / 13)
    assert rows[1].f1 == pytest.approx(2 * 0.8 * (8 / 13) / (0.8 + 8 / 13))
    assert rows[2].mistaken_for is None
    assert math.isnan(rows[3].recall)
    assert rows[3].precision == 0.0


def test_intervals_are_of_their_own_denominators() -> None:
    row = class_rows(COUNTS, LABELS)[1]
    assert row.recall_interval == wilson_interval(8, 10)
    assert row.precision_interval == wilson_interval(8, 13)
    assert row.f1_interval == f1_interval(8, 5, 2)


def test_macro_average_counts_the_classes_that_have_pictures() -> None:
    macro = macro_average(class_rows(COUNTS, LABELS))
    assert macro.recall == pytest.approx((0.8 + 0.4 + 1.0) / 3)
    assert macro.precision == pytest.approx((8 / 13 + 1.0 + 1.0) / 3)
    never_named = macro_average(class_rows(np.array([[4, 0], [4, 0]]), ["a", "b"]))
    assert never_named.precision == pytest.approx(0.25)
    assert math.isnan(macro_average(class_rows(np.zeros((2, 2), np.int64), ["a", "b"])).f1)


def test_split_metrics_are_plain_json() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.2, 0.8, 0.0]], np.float32)
    document = split_metrics(probabilities, np.array([0, 1, 1]), ("a", "b", "é\n"), temperature=0.5)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["pictures"] == 3
    assert document["macro"]["recall"] == pytest.approx(0.75)
    assert document["ece"]["before"] == pytest.approx((0.1 + 0.6 + 0.2) / 3, abs=1e-6)
    assert document["ece"]["after"] != document["ece"]["before"]
    first, _, absent = document["classes"]
    assert (first["label"], first["support"], first["precision"], first["recall"]) == ("a", 1, 0.5, 1.0)
    assert first["recall_interval"] == list(wilson_interval(1, 1))
    assert (absent["f1"], absent["f1_interval"], absent["support"]) == (None, [None, None], 0)


def test_a_split_without_pictures_has_no_figures() -> None:
    document = split_metrics(np.empty((0, 2), np.float32), np.empty(0, np.int64), ("a", "b"))
    assert document["ece"] == {"before": None, "after": None}
    assert document["macro"]["f1"] is None
