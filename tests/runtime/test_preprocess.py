"""Preprocessing by its geometry, its colours and its closeness to plain area averaging."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn_runtime.contract import FILTERS, Preprocessing
from edgecnn_runtime.decode import Picture
from edgecnn_runtime.errors import PictureError
from edgecnn_runtime.preprocess import PAD_VALUE, preprocess

SQUASH = Preprocessing(fit="squash")
steps = st.builds(
    Preprocessing,
    filters=st.lists(st.sampled_from(FILTERS), max_size=2).map(tuple),
    fit=st.sampled_from(["crop", "squash", "pad"]),
    crop_fraction=st.floats(0.01, 1.0),
    resampling=st.sampled_from(["fast_area", "area", "linear"]),
)


def smooth(height: int, width: int, seed: int = 0) -> Picture:
    rough = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def noise(height: int, width: int, seed: int = 0) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=120, deadline=None)
@given(
    rows=st.integers(1, 2000),
    columns=st.integers(1, 2000),
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    how=steps,
    grey=st.booleans(),
)
def test_any_picture_gives_the_networks_input(
    rows: int, columns: int, height: int, width: int, how: Preprocessing, grey: bool
) -> None:
    picture = np.full((rows, columns) if grey else (rows, columns, 3), 77, np.uint8)
    picture[::7, ::3] = 200
    kept = picture.copy()
    result = preprocess(picture, how, height, width)
    assert (result.shape, result.dtype, result.flags.c_contiguous) == ((height, width, 3), np.uint8, True)
    assert np.array_equal(picture, kept)
    assert not np.shares_memory(result, picture)


@settings(max_examples=80, deadline=None)
@given(rows=st.integers(1, 150), columns=st.integers(1, 150), side=st.integers(1, 80), how=steps, seed=st.integers(0))
def test_the_order_of_the_channels_does_not_matter(
    rows: int, columns: int, side: int, how: Preprocessing, seed: int
) -> None:
    picture = noise(rows, columns, seed)
    mirrored = np.ascontiguousarray(picture[..., ::-1])
    assert np.array_equal(preprocess(picture, how, side, side), preprocess(mirrored, how, side, side, "bgr"))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 900),
    columns=st.integers(1, 900),
    how=steps.filter(lambda how: how.fit != "pad" and not how.filters),
    value=st.integers(0, 255),
)
def test_one_colour_stays_that_colour(rows: int, columns: int, how: Preprocessing, value: int) -> None:
    assert (preprocess(np.full((rows, columns, 3), value, np.uint8), how, 31, 57) == value).all()


def test_a_view_with_strides_is_taken_too() -> None:
    picture = smooth(90, 120)
    views: list[Any] = [picture[::2, ::3], picture[:, ::-1], picture[..., ::-1], np.asfortranarray(picture)]
    for view in views:
        for name in ("", *FILTERS):
            how = Preprocessing(filters=(name,) if name else ())
            assert np.array_equal(preprocess(view, how, 32, 32), preprocess(np.ascontiguousarray(view), how, 32, 32))


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    picture = noise(32, 48)
    for fit in ("crop", "squash", "pad"):
        assert np.array_equal(preprocess(picture, Preprocessing(fit=fit), 32, 48), picture)  # type: ignore[arg-type]


@pytest.mark.parametrize(("rows", "columns"), [(100, 200), (200, 100)])
def test_crop_takes_the_middle(rows: int, columns: int) -> None:
    picture = np.zeros((rows, columns, 3), np.uint8)
    top, left = (rows - 100) // 2, (columns - 100) // 2
    picture[top : top + 100, left : left + 100] = smooth(100, 100)
    how = Preprocessing(fit="crop", resampling="area")
    assert np.array_equal(preprocess(picture, how, 50, 50), preprocess(smooth(100, 100), how, 50, 50))
    half = Preprocessing(fit="crop", crop_fraction=0.5, resampling="area")
    assert np.array_equal(preprocess(picture, half, 50, 50), smooth(100, 100)[25:75, 25:75])


@pytest.mark.parametrize(("rows", "columns"), [(100, 200), (200, 100)])
def test_pad_keeps_everything_between_grey_borders(rows: int, columns: int) -> None:
    result = preprocess(np.full((rows, columns, 3), 250, np.uint8), Preprocessing(fit="pad"), 64, 64)
    inside = (result == 250).all(2)
    wanted = np.zeros((64, 64), bool)
    wanted[(slice(16, 48), slice(None)) if columns > rows else (slice(None), slice(16, 48))] = True
    assert np.array_equal(inside, wanted)
    assert (result[~inside] == PAD_VALUE).all()


def test_squash_takes_everything() -> None:
    picture = np.zeros((100, 300, 3), np.uint8)
    picture[:, :150] = (255, 0, 0)
    result = preprocess(picture, SQUASH, 10, 10)
    assert (result[:, :5] == (255, 0, 0)).all()
    assert (result[:, 5:] == 0).all()


@pytest.mark.parametrize(("rows", "columns"), [(720, 1280), (448, 448), (449, 901), (225, 3000), (224, 224)])
def test_fast_area_is_close_to_area_on_smooth_pictures(rows: int, columns: int) -> None:
    picture = smooth(rows, columns)
    fast = preprocess(picture, SQUASH, 224, 224).astype(int)
    area = preprocess(picture, Preprocessing(fit="squash", resampling="area"), 224, 224).astype(int)
    assert np.abs(fast - area).max() <= 4
    assert np.abs(fast - area).mean() < 0.7


def test_fast_area_does_not_alias_where_linear_does() -> None:
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    fast = preprocess(stripes, SQUASH, 128, 128).astype(int)
    assert np.abs(fast - 127.5).max() <= 1
    sparse = np.zeros((1024, 1024, 3), np.uint8)
    sparse[:, ::8] = 255
    linear = preprocess(sparse, Preprocessing(fit="squash", resampling="linear"), 128, 128).astype(int)
    assert np.abs(linear.mean() - 32) > 20
    assert np.abs(preprocess(sparse, SQUASH, 128, 128).astype(int) - 32).max() <= 1


def test_every_filter_does_its_work() -> None:
    picture = smooth(40, 40) // 2
    picture[5:12, 5:12] = 255
    picture[20, 20] = (255, 0, 0)

    def filtered(name: str) -> Picture:
        return preprocess(picture, Preprocessing(filters=(name,), fit="squash"), 40, 40)

    gray = filtered("gray")
    assert (gray[..., 0] == gray[..., 1]).all()
    assert (gray[..., 0] == gray[..., 2]).all()
    assert gray[20, 20].tolist() == [76, 76, 76]  # ITU-R BT.601: 0.299 of red
    assert filtered("equalize").max() == 255
    assert filtered("clahe").astype(int).std() > picture.astype(int).std()
    assert filtered("median")[20, 20].max() < 200
    blurred = filtered("gaussian")
    assert picture[20, 19, 0] < blurred[20, 19, 0] < 255
    assert set(np.unique(filtered("canny"))) == {0, 255}


def test_filters_come_in_the_stated_order_and_before_the_fit() -> None:
    picture = noise(64, 64)
    one = preprocess(picture, Preprocessing(filters=("median", "canny")), 32, 32)
    other = preprocess(picture, Preprocessing(filters=("canny", "median")), 32, 32)
    assert not np.array_equal(one, other)
    edges = preprocess(picture, Preprocessing(filters=("canny",), fit="squash"), 64, 64)
    result = preprocess(picture, Preprocessing(filters=("canny",)), 32, 32)
    assert np.array_equal(result, preprocess(edges, SQUASH, 32, 32))


@pytest.mark.parametrize(
    "junk",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 1), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros(3, np.uint8),
        np.uint8(3),
        [[1, 2, 3]],
        None,
    ],
    ids=lambda junk: f"{type(junk).__name__} {getattr(junk, 'shape', '')} {getattr(junk, 'dtype', '')}",
)
def test_what_is_no_picture_is_refused(junk: Any) -> None:
    with pytest.raises(PictureError, match="a picture is a uint8 array"):
        preprocess(junk, SQUASH, 8, 8)


def test_golden_values() -> None:
    """The same on every version of OpenCV and every processor, but for one grey level."""
    ramp = np.add.outer(np.arange(60) * 2, np.arange(80)).astype(np.uint8)
    picture = np.dstack([ramp, ramp[::-1], 255 - ramp])
    result = preprocess(picture, Preprocessing(crop_fraction=0.9), 4, 4).astype(int)
    assert np.abs(result[:, :, 0] - GOLDEN_RED).max() <= 1
    assert np.abs(result[:, :, 2] - (255 - np.array(GOLDEN_RED))).max() <= 1


GOLDEN_RED = [[38, 52, 65, 79], [65, 79, 92, 106], [92, 106, 119, 133], [119, 133, 146, 160]]
