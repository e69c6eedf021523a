"""Suspected labels and feigned accuracy, on features whose truth is known."""

from __future__ import annotations

import numpy as np

from edgecnn.data.suspects import feigned_accuracy, suspected_labels

CLASSES = 4


def features(truth, noise, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(CLASSES, 40))
    return (centres[truth] + noise * rng.normal(size=(len(truth), 40))).astype(np.float32)


def test_swapped_labels_are_suspected_and_their_true_class_guessed():
    truth = np.arange(400) % CLASSES
    looks = features(truth, 0.6)
    given = truth.copy()
    swapped = [3, 50, 111, 222, 333]
    given[swapped] = (truth[swapped] + 1) % CLASSES
    found = suspected_labels(looks, given, range(400), CLASSES)
    assert {suspect.index for suspect in found} == set(swapped)
    assert all(suspect.guess == truth[suspect.index] for suspect in found)
    odds = [suspect.guess_probability / suspect.given_probability for suspect in found]
    assert odds == sorted(odds, reverse=True)


def test_copies_with_one_wrong_label_do_not_vouch_for_each_other():
    truth = np.arange(400) % CLASSES
    looks = features(truth, 0.6)
    copies = [8, 12, 16, 20, 24]
    looks[copies] = looks[8]
    given, groups = truth.copy(), np.arange(400)
    given[copies], groups[copies] = 1, 8
    assert {suspect.index for suspect in suspected_labels(looks, given, groups.tolist(), CLASSES)} == set(copies)


def test_right_labels_are_left_alone():
    truth = np.arange(200) % CLASSES
    assert suspected_labels(features(truth, 0.3), truth, range(200), CLASSES) == []


def test_too_little_to_say_anything():
    truth = np.array([0, 1, 0])
    assert suspected_labels(features(truth, 0.3), truth, range(3), CLASSES) == []
    assert suspected_labels(features(np.zeros(20, int), 0.3), np.zeros(20, int), range(20), 1) == []
    assert feigned_accuracy(features(truth, 0.3), truth, [0, 0, 2], 0, CLASSES) is None


def test_bursts_feign_accuracy():
    bursts = np.arange(60) % CLASSES
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(60), 8)
    # Each burst has a place of its own, far from its class, around which its pictures differ little.
    looks = features(bursts, 4.0)[groups] + 0.05 * rng.normal(size=(480, 40)).astype(np.float32)
    found = feigned_accuracy(looks, bursts[groups], groups.tolist(), 0, CLASSES)
    assert found is not None
    assert found.points > 15
    assert found.clear
    assert abs(found.points - 100 * (found.random - found.grouped)) < 1e-6
    assert feigned_accuracy(looks, bursts[groups], groups.tolist(), 0, CLASSES) == found


def test_without_groups_nothing_is_feigned():
    truth = np.arange(100) % CLASSES
    assert feigned_accuracy(features(truth, 1.0), truth, range(100), 0, CLASSES) is None


def test_groups_that_do_not_matter_feign_nothing():
    truth = np.arange(400) % CLASSES
    found = feigned_accuracy(features(truth, 2.0), truth, [index // 8 for index in range(400)], 0, CLASSES)
    assert found is not None
    assert not found.clear
