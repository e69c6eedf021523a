"""Figures by class, for the report and for metrics.json."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecnn_runtime.classifier import Probabilities, apply_temperature
from edgecnn_runtime.metrics import Truth, confusion, expected_calibration_error, f1_interval, wilson_interval

Interval = tuple[float, float]
_UNKNOWN: Interval = (math.nan, math.nan)


@dataclass(frozen=True)
class ClassRow:
    """One class on one split: fractions with 95 % intervals (low, high), NaN where nothing was to be counted.

    Attributes:
        mistaken_for: the class that this one was most often taken for, and how often; None without mistakes.
    """

    label: str
    pictures: int
    recall: float
    recall_interval: Interval
    precision: float
    precision_interval: Interval
    f1: float
    f1_interval: Interval
    mistaken_for: tuple[str, int] | None


@dataclass(frozen=True)
class Macro:
    """Means over the classes, each class counting alike whatever its number of pictures; NaN without any class."""

    precision: float
    recall: float
    f1: float


def class_row(counts: npt.NDArray[np.integer], index: int, labels: Sequence[str]) -> ClassRow:
    """The figures of class `index`; `counts` is (classes, classes) integers, rows truth."""
    right, pictures, named = int(counts[index, index]), int(counts[index].sum()), int(counts[:, index].sum())
    wrong = counts[index].copy()
    wrong[index] = 0
    most = int(wrong.argmax())
    either = pictures + named
    return ClassRow(
        label=labels[index],
        pictures=pictures,
        recall=right / pictures if pictures else math.nan,
        recall_interval=wilson_interval(right, pictures) if pictures else _UNKNOWN,
        precision=right / named if named else math.nan,
        precision_interval=wilson_interval(right, named) if named else _UNKNOWN,
        f1=2 * right / either if either else math.nan,
        f1_interval=f1_interval(right, named - right, pictures - right) if either else _UNKNOWN,
        mistaken_for=(labels[most], int(wrong[most])) if wrong[most] else None,
    )


def class_rows(counts: npt.NDArray[np.integer], labels: Sequence[str]) -> list[ClassRow]:
    """The figures of every class, worst recall first; classes without pictures last.

    Args:
        counts: (classes, classes) integers, rows truth.
    """
    rows = [class_row(counts, index, labels) for index in range(len(labels))]
    return sorted(rows, key=lambda row: row.recall if row.pictures else math.inf)


def macro_average(rows: Sequence[ClassRow]) -> Macro:
    """Means over the classes that have pictures; a class that was never named counts as precision 0."""
    present = [row for row in rows if row.pictures]
    if not present:
        return Macro(math.nan, math.nan, math.nan)
    return Macro(
        precision=math.fsum(0.0 if math.isnan(row.precision) else row.precision for row in present) / len(present),
        recall=math.fsum(row.recall for row in present) / len(present),
        f1=math.fsum(row.f1 for row in present) / len(present),
    )


def split_metrics(
    probabilities: Probabilities, truth: Truth, labels: Sequence[str], temperature: float = 1.0
) -> dict[str, Any]:
    """The figures of one split as plain JSON values: fractions, [low, high] 95 % intervals, null for what is not known.

    Args:
        probabilities: ``(N, C)`` float32, before the temperature.
        truth: ``(N,)`` int.

    Returns:
        ``pictures``; ``macro``: ``precision``, ``recall``, ``f1``; ``ece``: ``before`` and ``after`` the temperature;
        ``classes``: one object a class, in the order of the labels.
    """
    predicted = probabilities.argmax(1) if len(truth) else truth
    counts = confusion(truth.tolist(), predicted.tolist(), len(labels))
    rows = [class_row(counts, index, labels) for index in range(len(labels))]
    macro = macro_average(rows)
    return {
        "pictures": len(truth),
        "macro": {name: _plain(getattr(macro, name)) for name in ("precision", "recall", "f1")},
        "ece": {
            "before": _plain(expected_calibration_error(probabilities, truth)),
            "after": _plain(expected_calibration_error(apply_temperature(probabilities, temperature), truth)),
        },
        "classes": [
            {"label": row.label, "support": row.pictures}
            | {name: _plain(getattr(row, name)) for name in ("precision", "recall", "f1")}
            | {
                f"{name}_interval": [_plain(bound) for bound in getattr(row, f"{name}_interval")]
                for name in ("precision", "recall", "f1")
            }
            for row in rows
        ],
    }


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
