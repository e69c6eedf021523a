"""Which pictures train, which choose the model (val), which measure it (test)."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence

from edgecnn_runtime.errors import EdgecnnError

HELD_OUT_FRACTION = 0.15


def split_pictures(
    labels: Sequence[str],
    seed: int,
    given: Sequence[str | None],
    hashes: Sequence[str],
    classes: Sequence[str] = (),
) -> list[str]:
    """Assigns every picture to "train", "val" or "test".

    Given splits are kept. Where no picture was given to val, 15 % of each class, rounded, are drawn for it from the
    pictures not given to val or test; likewise for test; the rest is train. So with nothing given the split is
    70/15/15, and with train and test given, val comes out of train. A class gives at least one picture to each drawn
    split if one is left to train, else none.

    The pictures of a class are drawn in the order of SHA-256(seed, content hash), so the result does not depend on
    their order or names, and copies of a picture within a class stay together (they count once).

    Args:
        labels: label of each picture.
        seed: another seed draws other pictures.
        given: "train", "val", "test" or None for each picture.
        hashes: content hash of each picture's file.
        classes: labels that must have a training picture even if `labels` lacks them, as when no picture of a class
            can be read.

    Returns:
        One of "train", "val", "test" for each picture.

    Raises:
        EdgecnnError: a class has no training picture.
        ValueError: the sequences differ in length.
    """
    result = [split or "train" for split in given]
    drawn_splits = [split for split in ("test", "val") if split not in result]
    contents: defaultdict[str, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, (label, split, content) in enumerate(zip(labels, result, hashes, strict=True)):
        if split == "train":
            contents[label][content].append(index)
    for label in sorted({*labels, *classes}):
        copies = contents[label]
        if not copies:
            raise EdgecnnError(f"class {label!r} has no readable training picture; add some or remove the class")
        order = sorted(copies, key=lambda content: hashlib.sha256(f"{seed} {content}".encode()).digest())
        share = max(1, math.floor(len(order) * HELD_OUT_FRACTION + 0.5)) if len(order) > len(drawn_splits) else 0
        for position, split in enumerate(drawn_splits):
            for content in order[position * share : (position + 1) * share]:
                for index in copies[content]:
                    result[index] = split
    return result
