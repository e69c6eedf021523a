"""Figures of a classifier on labelled pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Truth = npt.NDArray[np.integer]
Probabilities = npt.NDArray[np.float32]

BINS = 15


@dataclass(frozen=True)
class Bin:
    """Pictures whose top-1 probability is in (`low`, `high`]; `confidence` is its mean, `right` counts the correct."""

    low: float
    high: float
    pictures: int
    right: int
    confidence: float


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """95 % Wilson score interval of a fraction (Wilson 1927, "Probable Inference, the Law of Succession").

    Args:
        right, total: counts, 0 <= right <= total, total > 0.

    Returns:
        (low, high), fractions in [0, 1] with low <= right / total <= high.
    """
    z = 1.959963984540054
    p = right / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))


def f1_interval(right: int, false_positives: int, false_negatives: int) -> tuple[float, float]:
    """95 % interval of a class's F1 score, 2 TP / (2 TP + FP + FN).

    Of the n = TP + FP + FN pictures that are of the class or were given its name, TP is binomial with some share J;
    F1 = 2 J / (1 + J) grows with J, so the ends of J's Wilson interval become the ends of F1's.

    Args:
        right, false_positives, false_negatives: counts, together > 0.

    Returns:
        (low, high), fractions in [0, 1].
    """
    low, high = wilson_interval(right, right + false_positives + false_negatives)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def confusion(truth: Sequence[int], predicted: Sequence[int], classes: int) -> npt.NDArray[np.int64]:
    """``(classes, classes)`` int64: how many pictures of class [row] were taken for class [column]."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (np.asarray(truth, np.int64), np.asarray(predicted, np.int64)), 1)
    return counts


def reliability_bins(probabilities: Probabilities, truth: Truth, bins: int = BINS) -> tuple[Bin, ...]:
    """The pictures by top-1 probability, in `bins` ranges of equal width; ranges without pictures are left out.

    Args:
        probabilities: ``(N, C)`` float32.
        truth: ``(N,)`` int.
    """
    confidence = probabilities.max(1).astype(np.float64) if len(truth) else np.empty(0)
    right = probabilities.argmax(1) == truth if len(truth) else np.empty(0, bool)
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return tuple(
        Bin(
            i / bins,
            (i + 1) / bins,
            int((number == i).sum()),
            int(right[number == i].sum()),
            float(confidence[number == i].mean()),
        )
        for i in np.unique(number).tolist()
    )


def expected_calibration_error(probabilities: Probabilities, truth: Truth, bins: int = BINS) -> float:
    """Mean distance between accuracy and top-1 probability over the bins, weighted by pictures (Guo et al. 2017,
    equation 3); a fraction, NaN without pictures. Arguments as for `reliability_bins`."""
    if not len(truth):
        return math.nan
    return sum(abs(b.right - b.pictures * b.confidence) for b in reliability_bins(probabilities, truth, bins)) / len(
        truth
    )
