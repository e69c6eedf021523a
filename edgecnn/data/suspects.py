"""What features tell about the data: labels that are probably wrong, and accuracy that a random split would feign.

Both predict every picture by a ridge classifier that has not seen it (cross-validation): least squares on the features,
one-hot targets, an L2 penalty, in closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FOLDS = 5
REPEATS = 5
_RIDGE = 1.0  # for standardised features over the root of their number
_MIN_ODDS = 100.0
_TEMPERATURES = np.geomspace(0.02, 1.0, 60)

_Floats = npt.NDArray[np.float64]
_Indexes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Suspect:
    """A label that is probably wrong.

    Attributes:
        index: of the picture.
        guess: index of the class that the features speak for.
        given_probability, guess_probability: of the given label and of the guess, in [0, 1], without having seen it.
    """

    index: int
    guess: int
    given_probability: float
    guess_probability: float


@dataclass(frozen=True)
class FeignedAccuracy:
    """Accuracy with groups of near-duplicates kept together and torn apart by chance.

    Attributes:
        grouped, random: mean accuracy over the repeats, fractions.
        points: random minus grouped, in percentage points, mean over the repeats.
        spread_points: standard deviation of the difference over the repeats.
    """

    grouped: float
    random: float
    points: float
    spread_points: float

    @property
    def clear(self) -> bool:
        """Whether the difference stands out from the chance of the folds."""
        return self.points > 2 * self.spread_points


def suspected_labels(
    features: npt.NDArray[np.float32], truth: _Indexes, groups: Sequence[int], classes: int, seed: int = 0
) -> list[Suspect]:
    """Pictures whose given label is over a hundred times less probable than another, most suspicious first.

    Near-duplicates are in one fold, so that two copies with one wrong label do not vouch for each other.

    Args:
        features: ``(N, F)`` float32.
        truth: ``(N,)`` int, index of the given label.
        groups: ``(N,)``, number of each picture's group.
    """
    numbers = _dense(groups)
    if numbers.max(initial=0) + 1 < FOLDS or len(np.unique(truth)) < 2:
        return []
    scores = _out_of_fold(_prepare(features), truth, _group_folds(numbers, np.random.default_rng(seed)), classes)
    rows = np.arange(len(truth))
    # Least squares gives no probabilities; softmax at the temperature of the greatest likelihood makes some.
    likelihoods = [np.log(_softmax(scores / t)[rows, truth] + 1e-12).mean() for t in _TEMPERATURES]
    probabilities = _softmax(scores / _TEMPERATURES[int(np.argmax(likelihoods))])
    odds = probabilities.max(1) / np.maximum(probabilities[rows, truth], 1e-12)
    order = np.argsort(-odds, kind="stable")
    return [
        Suspect(
            int(i), int(probabilities[i].argmax()), float(probabilities[i, truth[i]]), float(probabilities[i].max())
        )
        for i in order[odds[order] > _MIN_ODDS]
    ]


def feigned_accuracy(
    features: npt.NDArray[np.float32], truth: _Indexes, groups: Sequence[int], seed: int, classes: int
) -> FeignedAccuracy | None:
    """How much better a model looks when near-duplicates of its test pictures are among its training pictures.

    Every picture is predicted once with folds of whole groups and once with random folds of the same sizes; both see
    the same pictures and equally many of them, so the difference is due to the torn groups.

    Args:
        features: ``(N, F)`` float32.
        truth: ``(N,)`` int, index of the label.
        groups: ``(N,)``, number of each picture's group.
        classes: number of classes.

    Returns:
        None where no group has two pictures, or there are fewer groups than folds.
    """
    numbers = _dense(groups)
    count = int(numbers.max(initial=-1)) + 1
    if count == len(numbers) or count < FOLDS:
        return None
    prepared = _prepare(features)
    accuracies = []
    for repeat in range(REPEATS):
        rng = np.random.default_rng((seed, repeat))
        folds = _group_folds(numbers, rng)
        accuracies.append(
            [
                float((_out_of_fold(prepared, truth, chosen, classes).argmax(1) == truth).mean())
                for chosen in (folds, rng.permutation(folds))
            ]
        )
    grouped, random = np.array(accuracies).T
    points = 100 * (random - grouped)
    return FeignedAccuracy(float(grouped.mean()), float(random.mean()), float(points.mean()), float(points.std(ddof=1)))


def _dense(groups: Sequence[int]) -> _Indexes:
    return np.unique(np.asarray(groups, np.int64), return_inverse=True)[1].astype(np.int64)


def _group_folds(groups: _Indexes, rng: np.random.Generator) -> _Indexes:
    """A fold for each picture: groups in random order, each into the fold that has least."""
    sizes = np.bincount(groups)
    filled = np.zeros(FOLDS, np.int64)
    folds = np.empty(len(sizes), np.int64)
    for group in rng.permutation(len(sizes)):
        folds[group] = filled.argmin()
        filled[folds[group]] += sizes[group]
    return folds[groups]


def _prepare(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    scaled = (features - features.mean(0)) / ((features.std(0) + 1e-6) * np.sqrt(features.shape[1]))
    return np.hstack([scaled, np.ones((len(features), 1), np.float32)]).astype(np.float32)


def _out_of_fold(x: npt.NDArray[np.float32], truth: _Indexes, folds: _Indexes, classes: int) -> _Floats:
    """Scores ``(N, classes)`` of each picture by the classifier that was fitted on the other folds."""
    targets = np.eye(classes, dtype=np.float32)[truth]
    gram, moments = (x.T @ x).astype(np.float64), (x.T @ targets).astype(np.float64)
    scores = np.empty((len(x), classes))
    for fold in range(FOLDS):
        out = folds == fold
        held = x[out]
        rest = gram - held.T @ held + _RIDGE * np.eye(x.shape[1])
        scores[out] = held @ np.linalg.solve(rest, moments - held.T @ targets[out])
    return scores


def _softmax(scores: _Floats) -> _Floats:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))
