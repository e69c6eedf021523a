from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn_runtime.metrics import (
    confusion,
    expected_calibration_error,
    f1_interval,
    reliability_bins,
    wilson_interval,
)


def test_wilson_interval_of_a_textbook() -> None:
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3."""
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@given(total=st.integers(1, 10**9), share=st.floats(0, 1))
def test_wilson_interval_holds_the_fraction(total: int, share: float) -> None:
    right = min(total, int(share * total))
    low, high = wilson_interval(right, total)
    assert 0.0 <= low <= right / total <= high <= 1.0


@given(counts=st.tuples(*[st.integers(0, 10**6)] * 3).filter(any))
def test_f1_interval_holds_the_score(counts: tuple[int, int, int]) -> None:
    right, false_positives, false_negatives = counts
    low, high = f1_interval(right, false_positives, false_negatives)
    score = 2 * right / (2 * right + false_positives + false_negatives)
    assert 0.0 <= low <= score + 1e-12
    assert score - 1e-12 <= high <= 1.0


def test_f1_interval_covers_the_true_score_95_times_in_100() -> None:
    drawn = np.random.default_rng(0).multinomial(400, (0.10, 0.03, 0.05, 0.82), 2000)
    true = 2 * 0.10 / (2 * 0.10 + 0.03 + 0.05)
    intervals = [f1_interval(*map(int, counts[:3])) for counts in drawn]
    assert sum(low <= true <= high for low, high in intervals) / len(drawn) == pytest.approx(0.95, abs=0.015)


def test_confusion_counts_truth_in_rows() -> None:
    assert confusion([0, 0, 1, 2, 2], [0, 1, 1, 0, 0], 3).tolist() == [[1, 1, 0], [0, 1, 0], [2, 0, 0]]
    assert confusion([], [], 2).tolist() == [[0, 0], [0, 0]]


def test_calibration_error_of_hand_counted_bins() -> None:
    top = np.array([0.55, 0.55, 0.95, 0.95, 0.95, 1.0], np.float32)
    probabilities = np.stack([top, 1 - top], 1)
    truth = np.array([0, 1, 0, 0, 1, 0])
    first, last = reliability_bins(probabilities, truth, bins=10)
    assert (first.low, first.high, first.pictures, first.right) == (0.5, 0.6, 2, 1)
    assert (last.pictures, last.right) == (4, 3)
    assert last.confidence == pytest.approx(0.9625)
    expected = (2 * abs(0.5 - 0.55) + 4 * abs(0.75 - 0.9625)) / 6
    assert expected_calibration_error(probabilities, truth, bins=10) == pytest.approx(expected)
    assert math.isnan(expected_calibration_error(np.empty((0, 2), np.float32), np.empty(0, np.int64)))
    assert reliability_bins(np.empty((0, 2), np.float32), np.empty(0, np.int64)) == ()
