"""Figures of a classifier on labelled pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


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


def confusion(truth: Sequence[int], predicted: Sequence[int], classes: int) -> npt.NDArray[np.int64]:
    """``(classes, classes)`` int64: how many pictures of class [row] were taken for class [column]."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (np.asarray(truth, np.int64), np.asarray(predicted, np.int64)), 1)
    return counts
