"""Near-duplicates: copies of a picture are found, look-alikes are not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgecnn.data.duplicates import group_numbers, near_duplicates

SIDE = 128


def photo(seed):
    """A picture with coarse layout and fine detail, ``(128, 128, 3)`` uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((4, 4, 3), np.float32)
    layers = [coarse, *(np.repeat(rng.random((side, side, 1), np.float32), 3, 2) for side in (16, 48))]
    large = [cv2.resize(layer, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for layer in layers]
    return np.clip(255 * (0.5 * large[0] + 0.3 * large[1] + 0.2 * large[2]), 0, 255).astype(np.uint8)


def jpeg(picture):
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)


def resized(picture):
    return cv2.resize(cv2.resize(picture, (80, 80), interpolation=cv2.INTER_AREA), (SIDE, SIDE))


def cropped(picture):
    return cv2.resize(picture[3:, 2:-2], (SIDE, SIDE))


def shifted(picture):
    return cv2.warpAffine(picture, np.float32([[1, 0, 3], [0, 1, -2]]), (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)


def brightened(picture):
    return np.clip(picture.astype(int) + 25, 0, 255).astype(np.uint8)


def mirrored(picture):
    return np.ascontiguousarray(picture[:, ::-1])


def names(count):
    return [f"{index:064x}" for index in range(count)]


@pytest.mark.parametrize("change", [jpeg, resized, cropped, shifted, brightened, mirrored])
def test_copies_are_found_among_others(change):
    pictures = np.stack([photo(seed) for seed in range(12)] + [change(photo(seed)) for seed in range(12)])
    assert near_duplicates(pictures, names(24)) == tuple((index, index + 12) for index in range(12))


def test_a_burst_hangs_together():
    large = cv2.resize(photo(1), (SIDE + 60, SIDE + 60))
    burst = [large[30:-30, start : start + SIDE] for start in range(0, 30, 3)]
    others = [photo(seed) for seed in range(2, 8)]
    assert near_duplicates(np.stack(burst + others), names(16)) == (tuple(range(10)),)


def test_products_on_a_plain_ground_stay_apart():
    """One outline, different prints, as of a shop's shirts."""
    pictures = []
    for seed in range(20):
        picture = np.full((SIDE, SIDE, 3), 250, np.uint8)
        picture[20:110, 30:98] = photo(seed)[20:110, 30:98] // 3 + 60
        pictures.append(picture)
    assert near_duplicates(np.stack(pictures), names(20)) == ()


def test_colour_variants_stay_apart():
    picture = photo(3)
    other = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    other[..., 0] = (other[..., 0].astype(int) + 60) % 180
    assert near_duplicates(np.stack([picture, cv2.cvtColor(other, cv2.COLOR_HSV2RGB)]), names(2)) == ()


def test_pictures_without_contrast_are_grouped_by_their_files_alone():
    pictures = np.full((4, SIDE, SIDE, 3), 128, np.uint8)
    assert near_duplicates(pictures, ["a", "b", "a", "c"]) == ((0, 2),)


def test_nothing_to_compare():
    assert near_duplicates(np.empty((0, SIDE, SIDE, 3), np.uint8), []) == ()
    assert near_duplicates(photo(0)[None], ["a"]) == ()


def test_progress_ends_with_all_candidates():
    calls = []
    pictures = np.stack([photo(0), jpeg(photo(0)), photo(1)])
    near_duplicates(pictures, names(3), lambda done, total: calls.append((done, total)))
    assert calls
    assert calls[-1][0] == calls[-1][1]


def test_group_numbers():
    assert group_numbers([(1, 3)], 5) == [0, 1, 2, 1, 4]
