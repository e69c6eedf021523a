"""The gate's statistics: its interval covers, its outcomes follow, and its advice would decide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn_converters.gate import judge, mcnemar, paired_interval, views

LABELS = ("cat", "dog", "owl")


def pair(both: int, lost: int, gained: int, neither: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, the float model's probabilities, the artifact's."""
    truth = np.arange(both + lost + gained + neither) % 3
    right, wrong = np.eye(3, dtype=np.float32)[truth], np.eye(3, dtype=np.float32)[(truth + 1) % 3]
    ends = np.cumsum([both, lost, gained])
    number = np.arange(len(truth))[:, None]
    reference = np.where((number < ends[1]), right, wrong)
    candidate = np.where((number < ends[0]) | ((number >= ends[1]) & (number < ends[2])), right, wrong)
    return truth, reference[np.newaxis], candidate[np.newaxis]


@pytest.mark.parametrize("pictures", [100, 341, 2000])
@pytest.mark.parametrize("shares", [(0.01, 0.01), (0.03, 0.01), (0.005, 0.0), (0.1, 0.08)])
def test_interval_covers_the_true_drop(pictures: int, shares: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    counts = rng.multinomial(pictures, [*shares, 1 - sum(shares)], 2000)
    ends = np.array([paired_interval(lost, gained, pictures) for lost, gained, _ in counts.tolist()])
    true = shares[0] - shares[1]
    least = 0.91 if pictures == 100 else 0.94  # few pictures: counts are coarse
    assert (ends[:, 0] <= true).mean() >= least
    assert (true <= ends[:, 1]).mean() >= least


@given(both=st.integers(1, 5000), lost=st.integers(0, 300), gained=st.integers(0, 300), allowed=st.floats(0, 20))
def test_outcome_follows_from_the_interval(both: int, lost: int, gained: int, allowed: float) -> None:
    verdict = judge(LABELS, *pair(both, lost, gained), allowed)
    low, high = verdict.interval
    assert low <= verdict.drop_points <= high
    assert -100 <= low <= high <= 100
    assert verdict.outcome == ("pass" if high <= allowed else "fail" if low > allowed else "unproven")
    assert verdict.drop_points == pytest.approx(100 * (lost - gained) / verdict.pictures)
    assert (verdict.lost, verdict.gained, verdict.pictures) == (lost, gained, both + lost + gained)
    assert verdict.agreement == pytest.approx(both / verdict.pictures)


def test_a_perfect_artifact_passes_with_a_few_hundred_pictures_and_not_with_ten() -> None:
    assert judge(LABELS, *pair(341, 0, 0)).outcome == "pass"
    verdict = judge(LABELS, *pair(10, 0, 0))
    assert verdict.outcome == "unproven"
    assert judge(LABELS, *pair(10 + (verdict.more_pictures or 0), 0, 0)).outcome == "pass"


@pytest.mark.parametrize(("lost", "gained", "decided"), [(4, 1, "pass"), (10, 0, "fail")])
def test_as_many_pictures_more_decide_if_they_are_like_these(lost: int, gained: int, decided: str) -> None:
    total = 600
    verdict = judge(LABELS, *pair(total - lost - gained, lost, gained))
    assert verdict.outcome == "unproven"
    assert verdict.more_pictures is not None
    times = 1.15 * (total + verdict.more_pictures) / total
    counts = [round(times * count) for count in (total - lost - gained, lost, gained)]
    assert judge(LABELS, *pair(*counts)).outcome == decided


def test_where_the_drop_is_what_is_allowed_no_number_is_advised() -> None:
    assert judge(LABELS, *pair(99, 1, 0), 1.0).more_pictures is None


def test_worst_class_is_the_one_that_loses_most() -> None:
    truth, reference, candidate = pair(300, 0, 0)
    owls = np.flatnonzero(truth == 2)[:20]
    candidate[0, owls] = np.eye(3, dtype=np.float32)[0]
    verdict = judge(LABELS, truth, reference, candidate)
    assert (verdict.worst_class, verdict.worst_drop_points) == ("owl", pytest.approx(20.0))
    assert verdict.outcome == "fail"
    assert verdict.calibration_error == pytest.approx(20 / 300)


def test_mcnemar_by_hand() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(6, 0) == pytest.approx(2 / 64)
    assert mcnemar(1, 7) == pytest.approx(2 * (1 + 8) / 256)


@pytest.mark.parametrize("noise", [0.5, 2.0, 8.0])
def test_interval_of_several_views_covers_the_true_drop(noise: float) -> None:
    """Pictures near a boundary are answered otherwise now and then: each has its own chance of being lost or gained."""
    rng = np.random.default_rng(1)
    pictures, views, covered = 300, 5, []
    truth = np.zeros(pictures, np.int64)
    for _ in range(600):
        lost = rng.beta(0.03 * noise, 0.97 * noise, pictures)
        gained = rng.beta(0.01 * noise, 0.99 * noise, pictures) * (1 - lost)
        drawn = rng.random((views, pictures))
        changed = np.where(drawn < lost, 1, np.where(drawn < lost + gained, -1, 0))
        reference, candidate = (np.where(changed == sign, 1, 0) for sign in (-1, 1))
        one_hot = np.eye(3, dtype=np.float32)
        verdict = judge(LABELS, truth, one_hot[reference], one_hot[candidate])
        covered.append([verdict.interval[0] <= 2.03, verdict.interval[1] >= 2.03])
    assert (np.mean(covered, axis=0) >= 0.93).all()


@given(both=st.integers(100, 2000), lost=st.integers(0, 60), gained=st.integers(0, 60))
def test_a_later_chance_must_be_surer_to_pass_and_is_refused_alike(both: int, lost: int, gained: int) -> None:
    first, later = judge(LABELS, *pair(both, lost, gained)), judge(LABELS, *pair(both, lost, gained), confidence=0.99)
    assert later.interval[0] == first.interval[0]
    assert later.interval[1] > first.interval[1]
    assert (later.outcome == "fail") == (first.outcome == "fail")
    assert first.outcome == "pass" or later.outcome != "pass"


def test_views_prove_nothing_that_the_pictures_contradict() -> None:
    truth, reference, candidate = pair(296, 4, 0)
    others = np.repeat(reference, 4, 0)  # of which the artifact loses nothing
    verdict = judge(LABELS, truth, np.repeat(reference, 5, 0), np.concatenate([candidate, others]))
    assert verdict.drop_points == pytest.approx(100 * 4 / 300)
    assert verdict.interval[1] >= verdict.drop_points
    assert verdict.outcome == "unproven"
    assert (verdict.lost, verdict.gained, verdict.agreement) == (4, 0, pytest.approx(296 / 300))
    assert verdict.more_pictures == judge(LABELS, truth, reference, candidate).more_pictures


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_two_looks_seldom_pass_what_drops_by_all_that_is_allowed(scale: float) -> None:
    """Even where the further views suffer less than the pictures do; each seed of 300 is a whole export."""
    rng, one_hot, passed, total = np.random.default_rng(5), np.eye(3, dtype=np.float32), 0, 300
    truth, share = np.zeros(600, np.int64), np.array([[1.0], *[[scale]] * 4])
    for _ in range(total):
        lost = rng.beta(0.02, 0.98, 600)
        gained = rng.beta(0.01, 0.99, 600) * (1 - lost)
        drawn = rng.random((5, 600))
        changed = np.where(drawn < lost * share, 1, np.where(drawn < (lost + gained) * share, -1, 0))
        reference, candidate = (one_hot[np.where(changed == sign, 1, 0)] for sign in (-1, 1))
        first = judge(LABELS, truth, reference[:1], candidate[:1])
        second = judge(LABELS, truth, reference, candidate, confidence=0.99)
        passed += first.outcome == "pass" or (first.outcome == "unproven" and second.outcome == "pass")
    assert passed / total <= 0.08


def test_views_of_one_picture_sharpen_the_interval_only_where_they_differ() -> None:
    truth, reference, candidate = pair(300, 5, 3)
    alone = judge(LABELS, truth, reference, candidate)
    same = judge(LABELS, truth, np.repeat(reference, 5, 0), np.repeat(candidate, 5, 0))
    assert same.interval == pytest.approx(alone.interval)
    assert same.drop_points == pytest.approx(alone.drop_points)
    rng = np.random.default_rng(2)
    spread = np.stack([reference[0], *(np.where(rng.random((308, 1)) < 8 / 308, candidate[0], reference[0]),) * 4])
    assert judge(LABELS, truth, np.repeat(reference, 5, 0), spread).views == 5


def test_views_keep_size_and_type_and_look_elsewhere() -> None:
    picture = np.random.default_rng(3).integers(0, 256, (40, 24, 3), np.uint8)
    seen = views(picture)
    assert len(seen) == 4
    for view in seen:
        assert (view.shape, view.dtype) == (picture.shape, np.uint8)
        assert (view != picture).any()
    assert len({view.tobytes() for view in seen}) == 4
    np.testing.assert_array_equal(seen[0][0, 0], picture[0, 0])
    np.testing.assert_array_equal(seen[3][-1, -1], picture[-1, -1])
