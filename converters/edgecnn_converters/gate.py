"""The gate: whether an artifact may stand for the float model, by pictures that calibration never saw.

Both models answer the same pictures, so only those count on which one is right and the other wrong. The drop is the
float model's accuracy minus the artifact's. The artifact passes when the pictures make it 95 % sure that the drop is no
larger than allowed, and fails when they make it 95 % sure that it is larger; otherwise they do not decide. Those two
bounds are the ends of the interval, which is one of 90 % therefore, as in any test of non-inferiority.

Where the pictures do not decide, further views of them are asked about, and where int8 does not pass, it is made in
other ways. Each of these is a chance more to pass by luck, so it passes only where that is 99 % sure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import cv2
import numpy as np
import numpy.typing as npt

from edgecnn_runtime.classifier import Probabilities
from edgecnn_runtime.contract import GateOutcome
from edgecnn_runtime.decode import Picture
from edgecnn_runtime.metrics import expected_calibration_error

MAX_DROP_POINTS = 1.0
CONFIDENCE = 0.95  # of each bound
LATER = 0.99  # of the upper bound, at every look and attempt after the first
_MOST_PICTURES = 1_000_000  # a number of pictures beyond this is no advice


@dataclass(frozen=True)
class Verdict:
    """What the gate says of an artifact; differences are float model minus artifact, in percentage points.

    Attributes:
        max_drop_points: the largest drop that is allowed.
        drop_points: of the pictures as they are.
        interval: its bounds: the lower one holds with 95 %, the upper one with `confidence`.
        pictures: how many the verdict is about; views: how many of each the interval makes use of.
        agreement: fraction of them with the same top-1.
        lost, gained: pictures that only the float model, only the artifact has right.
        p_value: of McNemar's exact test, two-sided, that the two models are equally good.
        worst_class, worst_drop_points: the label that loses most recall, and how much.
        calibration_error: of the artifact, a fraction, see `edgecnn_runtime.metrics.expected_calibration_error`.
        more_pictures: about how many labelled pictures more would decide, where these do not; None where that is out
            of reach.
    """

    outcome: GateOutcome
    max_drop_points: float
    confidence: float
    drop_points: float
    interval: tuple[float, float]
    pictures: int
    views: int
    agreement: float
    lost: int
    gained: int
    p_value: float
    worst_class: str
    worst_drop_points: float
    calibration_error: float
    more_pictures: int | None = None


def judge(
    labels: Sequence[str],
    truth: npt.NDArray[np.int64],
    reference: Probabilities,
    candidate: Probabilities,
    max_drop_points: float = MAX_DROP_POINTS,
    confidence: float = CONFIDENCE,
) -> Verdict:
    """Holds an artifact against the float model.

    Args:
        labels: names of the classes.
        truth: ``(N,)`` int, indexes of the right labels; N > 0.
        reference, candidate: ``(views, N, classes)`` float32, the probabilities of the float model and of the artifact
            for one or more views of every picture, of which the first is the picture as it is.
        confidence: with which the upper bound is to hold, that is, how sure it must be that the artifact passes.
    """
    right = reference.argmax(2) == truth
    still_right = candidate.argmax(2) == truth
    each = right.astype(np.float64) - still_right  # of every view
    difference = each.mean(0)
    drop = float(each[0].mean())
    lost, gained = float((each > 0).mean(0).sum()), float((each < 0).mean(0).sum())
    # Views of one picture do not count as pictures, but rounding meets them nearly by chance: as often as the mean of
    # a picture's views varies less than one view does, they are worth more. The ones draw towards no gain at all. Nor
    # can views prove something else than the pictures themselves say.
    worth = (lost + gained + 1.0) / (float((difference**2).sum()) + 1.0)
    low, high = paired_interval(worth * lost, worth * gained, worth * len(truth), confidence)
    low, high = min(low, drop), max(high, drop)
    allowed = max_drop_points / 100.0
    outcome: GateOutcome = "pass" if high <= allowed else "fail" if low > allowed else "unproven"
    if drop > allowed:  # where views say less, it is the pictures that have to say it too
        lost, gained, worth = float((each[0] > 0).sum()), float((each[0] < 0).sum()), 1.0
    more = _more_pictures(lost, gained, len(truth), worth, allowed, confidence) if outcome == "unproven" else None
    count = np.maximum(np.bincount(truth, minlength=len(labels)), 1)
    of_class = np.bincount(truth, weights=each[0], minlength=len(labels)) / count
    worst = int(of_class.argmax())
    return Verdict(
        outcome=outcome,
        max_drop_points=max_drop_points,
        confidence=confidence,
        drop_points=100.0 * drop,
        interval=(100.0 * low, 100.0 * high),
        pictures=len(truth),
        views=len(each),
        agreement=float((reference[0].argmax(1) == candidate[0].argmax(1)).mean()),
        lost=int((each[0] > 0).sum()),
        gained=int((each[0] < 0).sum()),
        p_value=mcnemar(int((each[0] > 0).sum()), int((each[0] < 0).sum())),
        worst_class=labels[worst],
        worst_drop_points=100.0 * float(of_class[worst]),
        calibration_error=expected_calibration_error(candidate[0], truth),
        more_pictures=more,
    )


def paired_interval(lost: float, gained: float, pictures: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Score interval of a difference of two accuracies on the same pictures (Tango 1998, "Equivalence test and
    confidence interval for the difference in proportions for the paired-sample design").

    Args:
        lost, gained: pictures that only the first, only the second has right; pictures: of all, > 0.
        confidence: with which the upper bound holds; the lower one holds with `CONFIDENCE`.

    Returns:
        (low, high), fractions in [-1, 1] on both sides of (lost - gained) / pictures.
    """
    estimate = (lost - gained) / pictures

    def distance(difference: float) -> float:
        """Of the estimate from a difference, in standard errors as they would be if that were the true one."""
        a, c = 2.0 * pictures, -gained * difference * (1.0 - difference)
        b = (2.0 * pictures - lost + gained) * difference - lost - gained
        share = (math.sqrt(max(b * b - 4.0 * a * c, 0.0)) - b) / (2.0 * a)  # of gained ones, the likeliest then
        variance = max(2.0 * share + difference * (1.0 - difference), 0.0) / pictures
        gap = abs(estimate - difference)
        return gap / math.sqrt(variance) if variance > 0.0 else math.inf if gap else 0.0

    def end(outer: float, sure: float) -> float:
        inner, z = estimate, NormalDist().inv_cdf(sure)
        for _ in range(60):
            middle = (inner + outer) / 2.0
            inner, outer = (middle, outer) if distance(middle) <= z else (inner, middle)
        return inner

    return end(-1.0, CONFIDENCE), end(1.0, confidence)


def views(picture: Picture) -> list[Picture]:
    """A preprocessed picture ``(H, W, 3)`` uint8 as a camera held a little elsewhere sees it: the corners of seven
    eighths of its width and height, at its size. No flip: it makes another digit, letter or arrow of some."""
    height, width = picture.shape[:2]
    rows, columns = height - height // 8, width - width // 8
    starts = [(y, x) for y in (0, height - rows) for x in (0, width - columns)]
    return [
        np.asarray(cv2.resize(picture[y : y + rows, x : x + columns], (width, height), interpolation=cv2.INTER_LINEAR))
        for y, x in starts
    ]


def mcnemar(lost: int, gained: int) -> float:
    """Two-sided p-value of McNemar's exact test: of `lost` + `gained` coins, as uneven a result or more so."""
    coins = lost + gained
    tail: float = sum(math.comb(coins, k) for k in range(min(lost, gained) + 1)) / 2**coins
    return min(1.0, 2.0 * tail)


def _more_pictures(
    lost: float, gained: float, pictures: int, worth: float, allowed: float, confidence: float
) -> int | None:
    """About how many pictures more would decide if they were like these."""
    for step in range(1, 400):
        times = 1.03**step
        low, high = paired_interval(times * worth * lost, times * worth * gained, times * worth * pictures, confidence)
        if high <= allowed or low > allowed:
            return math.ceil((times - 1.0) * pictures) if times * pictures <= _MOST_PICTURES else None
    return None
