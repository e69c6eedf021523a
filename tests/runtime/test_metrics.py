from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn_runtime.metrics import confusion, wilson_interval


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


def test_confusion_counts_truth_in_rows() -> None:
    assert confusion([0, 0, 1, 2, 2], [0, 1, 1, 0, 0], 3).tolist() == [[1, 1, 0], [0, 1, 0], [2, 0, 0]]
    assert confusion([], [], 2).tolist() == [[0, 0], [0, 0]]
