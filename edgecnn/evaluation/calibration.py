"""How far a probability can be believed: temperature, calibration error, the threshold below which nothing is said."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgecnn_runtime.classifier import Probabilities
from edgecnn_runtime.errors import EdgecnnError, UsageError
from edgecnn_runtime.metrics import Truth, wilson_interval

# Well inside what a contract may hold: beyond these a temperature tells of odd validation pictures, not of the model.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.25, 4.0


@dataclass(frozen=True)
class RejectThreshold:
    """A threshold on the top-1 probability, and what it did on the pictures that it was chosen by.

    Attributes:
        threshold: answers less probable than this are no answers, in [0, 1]; 0 rejects nothing.
        coverage: fraction of the pictures that get an answer.
        accepted, wrong: how many pictures get an answer, and how many of those a wrong one.
        interval: 95 % Wilson interval of wrong / accepted.
    """

    threshold: float
    coverage: float
    accepted: int
    wrong: int
    interval: tuple[float, float]


def fit_temperature(probabilities: Probabilities, truth: Truth) -> float:
    """The temperature with the lowest negative log-likelihood (Guo et al. 2017, "On Calibration of Modern Neural
    Networks", section 4.2), under a prior of about one picture's weight.

    The prior on b = 1/T is a gamma distribution with its mode at 1, -log p(b) = b - log b: without it a few pictures,
    all of them right, would make the model as sure as the bounds allow. The sum is convex in b, so a golden-section
    search finds its minimum; equal input gives equal output.

    Args:
        probabilities: ``(N, C)`` float32 of pictures that training did not see, before any temperature.
        truth: ``(N,)`` int.

    Returns:
        A temperature in [`MIN_TEMPERATURE`, `MAX_TEMPERATURE`], on these pictures never less likely than 1; 1 where
        none is better, or without pictures.
    """
    if not len(truth):
        return 1.0
    # A probability may have been rounded to 0, and a single such mistake must not decide alone.
    logs = np.log(np.maximum(probabilities.astype(np.float64), 1e-12))
    own = logs[np.arange(len(truth)), truth]
    top = logs.max(1, keepdims=True)

    def loss(inverse: float) -> float:
        normaliser = np.log(np.exp(inverse * (logs - top)).sum(1)) + inverse * top[:, 0]
        return float((normaliser - inverse * own).sum()) + inverse - math.log(inverse)

    low, high = 1.0 / MAX_TEMPERATURE, 1.0 / MIN_TEMPERATURE
    ratio = (math.sqrt(5.0) - 1.0) / 2.0
    while high - low > 1e-5:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    inverse = (low + high) / 2.0
    return 1.0 / inverse if loss(inverse) < loss(1.0) else 1.0


def reject_threshold(probabilities: Probabilities, truth: Truth, false_accept_rate: float) -> RejectThreshold:
    """The smallest threshold on the top-1 probability that keeps to a false-accept rate.

    The false-accept rate is the fraction of the accepted answers that are wrong: what a user meets who believes every
    answer. A threshold is kept to when (wrong + 1) / (accepted + 1) <= `false_accept_rate`: one wrong answer more than
    was seen is counted, as conformal selection does (Jin and Candes 2023, "Selection by Prediction with Conformal
    p-values"), because the threshold is chosen by the pictures that it is judged by. That aims at the mean over new
    pictures of the same kind; a 95 % bound instead would need 73 faultless answers for 5 % and 381 for 1 %, more than
    most validation splits have. Where a rate is only just within reach, reaching it is partly luck, and the mean over
    new pictures lies somewhat above it. `RejectThreshold.interval` says how sure the rate is.

    Args:
        probabilities: ``(N, C)`` float32 of pictures that training did not see, after the temperature.
        truth: ``(N,)`` int.
        false_accept_rate: fraction in (0, 1).

    Raises:
        UsageError: the rate is not in (0, 1).
        EdgecnnError: no threshold keeps to the rate; the message names the lowest rate that one does.
    """
    if not 0.0 < false_accept_rate < 1.0:
        raise UsageError(f"the false-accept rate is between 0 % and 100 % (received: {100 * false_accept_rate:g} %)")
    if not len(truth):
        raise EdgecnnError("a reject threshold needs validation pictures, and there are none; add pictures")
    top = probabilities.max(1).astype(np.float64)
    order = np.argsort(-top, kind="stable")
    wrong = np.cumsum((probabilities.argmax(1) != truth)[order])
    # Pictures of equal probability are accepted together: a threshold may stand after the last of them only.
    ends = np.flatnonzero(np.append(np.diff(top[order]) < 0, True))
    accepted = ends + 1
    rates = (wrong[ends] + 1) / (accepted + 1)
    kept = np.flatnonzero(rates <= false_accept_rate)
    if not len(kept):
        raise EdgecnnError(
            f"no threshold keeps wrong answers to {100 * false_accept_rate:g} % of those accepted: with {len(truth)} "
            f"validation pictures the lowest rate is {math.ceil(1000 * rates.min()) / 10:g} %; "
            "allow that much, or train with more pictures"
        )
    last = ends[kept[-1]]
    # Half way to the next picture, so that an engine's rounding does not turn an accepted one away.
    threshold = 0.0 if last == len(truth) - 1 else float(top[order[last]] + top[order[last + 1]]) / 2.0
    count, mistakes = int(last) + 1, int(wrong[last])
    return RejectThreshold(threshold, count / len(truth), count, mistakes, wilson_interval(mistakes, count))
