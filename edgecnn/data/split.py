"""Which pictures train, which choose the model (val), which measure it (test)."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

from edgecnn_runtime.errors import EdgecnnError

HELD_OUT_FRACTION = 0.15


def split_pictures(
    labels: Sequence[str],
    seed: int,
    given: Sequence[str | None],
    hashes: Sequence[str],
    classes: Sequence[str] = (),
    groups: Sequence[int] | None = None,
) -> list[str]:
    """Assigns every picture to "train", "val" or "test".

    Given splits are kept. Where no picture was given to val, 15 % of each class, rounded, are drawn for it from the
    pictures not given to val or test; likewise for test; the rest is train. So with nothing given the split is
    70/15/15, and with train and test given, val comes out of train. A class gives at least one picture to each drawn
    split if one is left to train, else none.

    What is drawn is a group as a whole, in the order of SHA-256(seed, smallest content hash of the group), so the
    result does not depend on the pictures' order or names. A group that would overshoot the share by more than half of
    itself is passed over. Copies of a picture count once. A group of several classes is drawn with its rarest one.

    Args:
        labels: label of each picture.
        seed: another seed draws other pictures.
        given: "train", "val", "test" or None for each picture.
        hashes: content hash of each picture's file.
        classes: labels that must have a training picture even if `labels` lacks them, as when no picture of a class
            can be read.
        groups: number of each picture's group, as from `edgecnn.data.duplicates.group_numbers`; None: the copies of a
            picture within a class are a group.

    Returns:
        One of "train", "val", "test" for each picture.

    Raises:
        EdgecnnError: a class has no training picture.
        ValueError: the sequences differ in length.
    """
    result = [split or "train" for split in given]
    drawn_splits = [split for split in ("test", "val") if split not in result]
    keys: Iterable[Hashable] = zip(labels, hashes, strict=True) if groups is None else groups
    members: defaultdict[Hashable, list[int]] = defaultdict(list)
    for index, (key, _, _, split) in enumerate(zip(keys, labels, hashes, result, strict=True)):
        if split == "train":
            members[key].append(index)
    counts = Counter(labels[index] for indexes in members.values() for index in indexes)
    if lacking := sorted({*labels, *classes} - counts.keys()):
        raise EdgecnnError(f"class {lacking[0]!r} has no readable training picture; add some or remove the class")
    units: defaultdict[str, list[list[int]]] = defaultdict(list)
    for indexes in sorted(members.values(), key=lambda group: _order(seed, min(hashes[index] for index in group))):
        units[min((labels[index] for index in indexes), key=lambda label: (counts[label], label))].append(indexes)
    for label in sorted(units):
        weights = [len({hashes[index] for index in unit if labels[index] == label}) for unit in units[label]]
        for unit, split in zip(units[label], _draw(weights, drawn_splits), strict=True):
            for index in unit:
                result[index] = split
    _keep_in_train(labels, result, [unit for label in sorted(units) for unit in units[label]])
    return result


def _order(seed: int, content: str) -> bytes:
    return hashlib.sha256(f"{seed} {content}".encode()).digest()


def _draw(weights: Sequence[int], drawn_splits: Sequence[str]) -> list[str]:
    """A split for each group of a class, given in the order of drawing; `weights` are the groups' sizes."""
    chosen = ["train"] * len(weights)
    if len(weights) <= len(drawn_splits):
        return chosen
    share = max(1, math.floor(sum(weights) * HELD_OUT_FRACTION + 0.5))
    filled = dict.fromkeys(drawn_splits, 0)
    for position, weight in enumerate(weights):
        for split in drawn_splits:
            if filled[split] + weight / 2 <= share:
                filled[split] += weight
                chosen[position] = split
                break
    for split in drawn_splits:
        left = [position for position, other in enumerate(chosen) if other == "train"]
        if not filled[split] and len(left) > 1:
            chosen[min(left, key=lambda position: weights[position])] = split
    return chosen


def _keep_in_train(labels: Sequence[str], result: list[str], units: Sequence[Sequence[int]]) -> None:
    """Returns a drawn group to train for each class that was drawn away whole, with groups of rarer classes."""
    trained = Counter(label for label, split in zip(labels, result, strict=True) if split == "train")
    for unit in units:
        if any(not trained[labels[index]] for index in unit):
            for index in unit:
                result[index] = "train"
                trained[labels[index]] += 1
