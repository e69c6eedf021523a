"""The watchdog, with pictures and times that it is told."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn_runtime.decode import Picture
from edgecnn_runtime.live.watchdog import QUIET_S, Watchdog

RNG = np.random.default_rng(0)


def scene() -> Picture:
    return RNG.integers(60, 200, (48, 64, 3), np.uint8)


def watched(pictures: list[Picture], fps: float = 30.0) -> Watchdog:
    watchdog = Watchdog(0.0)
    for index, picture in enumerate(pictures):
        watchdog.saw(picture, index / fps)
    return watchdog


def test_a_moving_picture_is_well_until_it_stops_coming() -> None:
    watchdog = watched([scene() for _ in range(60)])
    assert watchdog.state(2.0) == "ok"
    assert watchdog.state(59 / 30 + QUIET_S - 0.01) == "ok"
    assert watchdog.state(59 / 30 + 1.0) == "lost"
    watchdog.saw(scene(), 9.0)
    assert watchdog.state(9.0) == "ok"


def test_identical_bytes_for_a_second_are_frozen_and_one_other_pixel_is_not() -> None:
    still = scene()
    assert watched([still.copy() for _ in range(20)]).state(20 / 30) == "ok"
    frozen = watched([still.copy() for _ in range(31)])
    assert frozen.state(1.0) == "frozen"
    other = still.copy()
    other[5, 5, 0] ^= 1  # not in the rows that are looked at first
    frozen.saw(other, 1.03)
    assert frozen.state(1.03) == "ok"


@pytest.mark.parametrize("noise", [0, 12])
def test_darkness_is_black_and_not_frozen(noise: int) -> None:
    dark = [RNG.integers(16, 17 + noise, (48, 64, 3), np.uint8) for _ in range(31)]
    assert watched(dark[:20]).state(20 / 30) == "ok"
    assert watched(dark).state(1.0) == "black"


def test_a_lamp_in_the_dark_is_not_black() -> None:
    night = [RNG.integers(0, 20, (48, 64, 3), np.uint8) for _ in range(31)]
    for picture in night:
        picture[8:16, 8:16] = 220
    assert watched(night).state(1.0) == "ok"


def test_a_slow_camera_may_take_its_time() -> None:
    slow = Watchdog(0.0, quiet_s=6.0)
    slow.saw(scene(), 2.0)
    assert slow.state(7.0) == "ok"
    assert slow.state(8.0) == "lost"
