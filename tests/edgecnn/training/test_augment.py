"""Augmentation: repeatable, exact where nothing is asked for, and each switch does what it says."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgecnn.training.augment import _RANDAUGMENT, augment, mix
from edgecnn.training.options import Augmentation

EVERYTHING = Augmentation("both", 0.1, 0.2, 0.1, 0.5, 0.3, 0.1, 0.3, 9.0)


@pytest.fixture
def picture():
    """A picture with a direction: a bright spot at the upper left; ``(40, 60, 3)`` uint8."""
    picture = np.full((40, 60, 3), 60, np.uint8)
    cv2.circle(picture, (15, 10), 6, (250, 120, 40), -1)
    return cv2.GaussianBlur(picture, (5, 5), 0)


def _views(picture, options, count=40):
    return [augment(picture, options, np.random.default_rng((1, i)), *picture.shape[:2]) for i in range(count)]


def _spot(view):
    """Where the spot is, as fractions of width and height."""
    weights = view[..., 0].astype(float) - view[..., 0].min()
    rows, columns = np.mgrid[: view.shape[0], : view.shape[1]]
    return (weights * columns).sum() / weights.sum() / view.shape[1], (
        weights * rows
    ).sum() / weights.sum() / view.shape[0]


def test_nothing_asked_for_changes_nothing(picture):
    np.testing.assert_array_equal(_views(picture, Augmentation(), 1)[0], picture)
    square = cv2.resize(picture, (64, 64))
    np.testing.assert_array_equal(_views(square, Augmentation(), 1)[0], square)


def test_one_generator_gives_one_view_and_the_picture_stays(picture):
    before = picture.copy()
    for one, other in zip(_views(picture, EVERYTHING), _views(picture, EVERYTHING), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(picture, before)
    assert len({view.tobytes() for view in _views(picture, EVERYTHING)}) == 40
    assert {(view.shape, view.dtype) for view in _views(picture, EVERYTHING)} == {(picture.shape, np.dtype(np.uint8))}


@pytest.mark.parametrize(("flip", "axes"), [("horizontal", [1]), ("vertical", [0]), ("both", [0, 1])])
def test_flips_are_exact_and_happen_half_of_the_time(picture, flip, axes):
    allowed = {picture.tobytes()}
    for axis in axes:
        allowed |= {np.flip(np.frombuffer(one, np.uint8).reshape(picture.shape), axis).tobytes() for one in allowed}
    seen = [view.tobytes() for view in _views(picture, Augmentation(flip=flip), 200)]
    assert set(seen) == allowed
    assert all(seen.count(one) > 200 / len(allowed) / 2 for one in allowed)


@pytest.mark.parametrize("degrees", [90, 45])
def test_a_turn_keeps_distances_where_the_picture_is_not_square(picture, degrees):
    from edgecnn.training.augment import _affine, _from_view

    matrix = _from_view(_affine((1.0, 1.0), np.radians(degrees), (0.0, 0.0)), picture.shape, 40, 60)
    np.testing.assert_allclose(matrix[:, :2] @ matrix[:, :2].T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(matrix @ (29.5, 19.5, 1.0), (29.5, 19.5), atol=1e-9)


def test_geometry_moves_and_colour_does_not(picture):
    x, y = _spot(picture)
    for view in _views(picture, Augmentation(contrast=0.2, brightness=0.05, color=0.2)):
        assert np.hypot(*np.subtract(_spot(view), (x, y))) < 0.02
    moved = [_spot(view) for view in _views(picture, Augmentation(translation=0.1))]
    assert 0.05 < np.ptp([place[0] for place in moved]) < 0.25
    assert 0.05 < np.ptp([place[1] for place in moved]) < 0.25


def test_the_size_of_the_view_is_free(picture):
    view = augment(picture, EVERYTHING, np.random.default_rng(0), 32, 24)
    assert view.shape == (32, 24, 3)
    half = augment(picture, Augmentation(), np.random.default_rng(0), 20, 30)
    np.testing.assert_allclose(half.astype(float), cv2.resize(picture, (30, 20)).astype(float), atol=2)


def test_brightness_and_contrast_keep_their_limits():
    grey = np.full((8, 8, 3), 100, np.uint8)
    levels = [int(view[0, 0, 0]) for view in _views(grey, Augmentation(brightness=0.1), 300)]
    assert 73 <= min(levels) < 80
    assert 120 < max(levels) <= 127
    levels = [int(view[0, 0, 0]) for view in _views(grey, Augmentation(color=0.5), 50)]
    assert set(levels) == {100}, "a grey has no saturation and no hue"


@pytest.mark.parametrize("number", range(len(_RANDAUGMENT)))
@pytest.mark.parametrize("level", [-1.0, 0.3, 1.0])
def test_every_operation_of_randaugment_makes_a_picture(picture, number, level):
    change = _RANDAUGMENT[number](level)
    if isinstance(change, np.ndarray):
        assert change.shape in ((3, 3), (4, 4))
        assert np.isfinite(change).all()
    else:
        view = change(picture)
        assert (view.shape, view.dtype) == (picture.shape, np.dtype(np.uint8))


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixtures_share_out_pictures_and_targets_alike(kind):
    rng = np.random.default_rng(3)
    for _ in range(20):
        pixels = np.repeat(np.arange(4, dtype=np.float32), 16 * 16 * 3).reshape(4, 16, 16, 3)
        made, targets = mix(pixels, np.eye(4, dtype=np.float32), Augmentation(**{kind: 1.0}), rng)
        np.testing.assert_allclose(targets.sum(1), 1.0, rtol=1e-5)
        # Each picture is all one number here, so its mean says what it is mixed of.
        np.testing.assert_allclose(made.mean((1, 2, 3)), targets @ np.arange(4), atol=1e-4)


def test_no_mixture_leaves_the_batch_alone():
    pixels, targets = np.ones((2, 4, 4, 3), np.float32), np.eye(2, dtype=np.float32)
    made, same = mix(pixels, targets, Augmentation(), np.random.default_rng(0))
    assert made is pixels
    assert same is targets
