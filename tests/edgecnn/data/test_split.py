from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st

from edgecnn.data.split import split_pictures
from edgecnn_runtime.errors import EdgecnnError

counts = st.dictionaries(st.text(min_size=1, max_size=3), st.integers(1, 60), min_size=2, max_size=5)
seeds = st.integers(0, 2**32)


def data_set(sizes: dict[str, int]) -> tuple[list[str], list[str]]:
    labels = [label for label, size in sizes.items() for _ in range(size)]
    return labels, [f"{index:064x}" for index in range(len(labels))]


@settings(deadline=None)
@forall(counts, seeds)
def test_stratified_with_every_class_in_train(sizes: dict[str, int], seed: int) -> None:
    labels, hashes = data_set(sizes)
    splits = split_pictures(labels, seed, [None] * len(labels), hashes)
    found = Counter(zip(labels, splits, strict=True))
    for label, size in sizes.items():
        train, val, test = (found[label, split] for split in ("train", "val", "test"))
        assert train + val + test == size
        assert train >= 1
        assert val == test
        if size >= 3:
            assert val >= 1
            assert abs(val - 0.15 * size) <= max(0.5, 1 - 0.15 * size)
        else:
            assert train == size


@settings(deadline=None)
@forall(counts, seeds, st.randoms(use_true_random=False))
def test_independent_of_the_order(sizes: dict[str, int], seed: int, shuffler: random.Random) -> None:
    labels, hashes = data_set(sizes)
    expected = dict(zip(hashes, split_pictures(labels, seed, [None] * len(labels), hashes), strict=True))
    order = list(range(len(labels)))
    shuffler.shuffle(order)
    shuffled = [hashes[i] for i in order]
    splits = split_pictures([labels[i] for i in order], seed, [None] * len(labels), shuffled)
    assert dict(zip(shuffled, splits, strict=True)) == expected


@settings(deadline=None)
@forall(counts, seeds, st.data())
def test_given_splits_are_kept(sizes: dict[str, int], seed: int, data: st.DataObject) -> None:
    labels, hashes = data_set(sizes)
    choices = st.lists(st.sampled_from([None, "train", "val", "test"]), min_size=len(labels), max_size=len(labels))
    given = data.draw(choices)
    for label in sizes:
        given[labels.index(label)] = "train"
    splits = split_pictures(labels, seed, given, hashes)
    for before, after in zip(given, splits, strict=True):
        if before in ("val", "test") or (before == "train" and {"val", "test"} <= set(given)):
            assert after == before
        elif before == "train":
            assert after == "train" or after not in given
    for label in sizes:
        assert (label, "train") in set(zip(labels, splits, strict=True))


def test_val_comes_out_of_train() -> None:
    labels, hashes = data_set({"a": 40, "b": 20})
    given: list[str | None] = ["test" if i % 4 == 0 else "train" for i in range(60)]
    splits = split_pictures(labels, 1, given, hashes)
    assert [split == "test" for split in splits] == [split == "test" for split in given]
    assert Counter(zip(labels, splits, strict=True)) == {
        ("a", "test"): 10,
        ("a", "train"): 25,
        ("a", "val"): 5,
        ("b", "test"): 5,
        ("b", "train"): 13,
        ("b", "val"): 2,
    }


def test_copies_stay_together_and_seeds_differ() -> None:
    labels = ["a"] * 90 + ["b"] * 90
    hashes = [f"{index // 3:064x}" for index in range(180)]
    splits = split_pictures(labels, 1, [None] * 180, hashes)
    assert all(len(set(splits[start : start + 3])) == 1 for start in range(0, 180, 3))
    assert set(splits) == {"train", "val", "test"}
    assert splits != split_pictures(labels, 2, [None] * 180, hashes)


def test_a_class_without_training_picture_is_refused() -> None:
    with pytest.raises(EdgecnnError, match="class 'b' has no readable training picture"):
        split_pictures(["a", "b"], 0, ["train", "test"], ["1", "2"])
    with pytest.raises(EdgecnnError, match="class 'c' has no readable training picture"):
        split_pictures(["a", "b"], 0, [None, None], ["1", "2"], classes=["a", "b", "c"])


@settings(deadline=None)
@forall(counts, seeds, st.data())
def test_a_group_lands_in_one_split_and_every_class_trains(
    sizes: dict[str, int], seed: int, data: st.DataObject
) -> None:
    labels, hashes = data_set(sizes)
    groups = data.draw(st.lists(st.integers(0, len(labels)), min_size=len(labels), max_size=len(labels)))
    splits = split_pictures(labels, seed, [None] * len(labels), hashes, groups=groups)
    assert len(set(zip(groups, splits, strict=True))) == len(set(groups))
    assert {label for label, split in zip(labels, splits, strict=True) if split == "train"} == set(labels)
    order = list(reversed(range(len(labels))))
    turned = split_pictures(
        [labels[i] for i in order],
        seed,
        [None] * len(labels),
        [hashes[i] for i in order],
        groups=[groups[i] for i in order],
    )
    assert turned == splits[::-1]


@settings(deadline=None)
@forall(counts, seeds)
def test_groups_of_one_split_as_without_groups(sizes: dict[str, int], seed: int) -> None:
    labels, hashes = data_set(sizes)
    given: list[str | None] = [None] * len(labels)
    assert split_pictures(labels, seed, given, hashes, groups=range(len(labels))) == split_pictures(
        labels, seed, given, hashes
    )


@pytest.mark.parametrize("seed", range(5))
def test_shares_hold_with_groups_of_many_sizes(seed: int) -> None:
    rng = random.Random(seed)
    labels, hashes = data_set({"a": 300, "b": 900})
    groups: list[int] = []
    while len(groups) < len(labels):
        groups += [len(groups)] * rng.randint(1, 20)
    splits = split_pictures(labels, seed, [None] * len(labels), hashes, groups=groups[: len(labels)])
    for label, size in (("a", 300), ("b", 900)):
        for split in ("val", "test"):
            share = sum(pair == (label, split) for pair in zip(labels, splits, strict=True)) / size
            assert 0.11 <= share <= 0.19


def test_given_splits_are_kept_with_groups() -> None:
    labels, hashes = data_set({"a": 40, "b": 40})
    given: list[str | None] = ["test" if i % 4 == 0 else "train" for i in range(80)]
    groups = [i // 2 for i in range(80)]
    splits = split_pictures(labels, 1, given, hashes, groups=groups)
    assert [split == "test" for split in splits] == [split == "test" for split in given]
    assert "val" in splits
