"""The test card: what it carries can be read back, and it fails as it is told."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn_runtime.cameras import Options, open_camera
from edgecnn_runtime.cameras.fake import COLOURS, Device, Faults, draw_card, read_card
from edgecnn_runtime.errors import EdgecnnError, UsageError


@given(number=st.integers(0, 2**24 - 1), ms=st.integers(0, 2**40 - 1), width=st.integers(64, 700))
def test_number_and_time_are_read_back_exactly(number: int, ms: int, width: int) -> None:
    assert read_card(draw_card(number, ms / 1e3, (width, 64), COLOURS["green"])) == (number, ms / 1e3)


def test_number_and_time_survive_jpeg() -> None:
    card = draw_card(123_456, 98_765.432, (640, 480), COLOURS["green"])
    jpeg = cv2.imencode(".jpg", card, [cv2.IMWRITE_JPEG_QUALITY, 70])[1]
    assert read_card(np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)) == (123_456, 98_765.432)


def test_a_live_card_carries_the_time_at_which_it_was_taken() -> None:
    camera = Device(Faults()).open("fake:", Options(resolution=(320, 240), fps=100))  # one that nobody opened before
    numbers = []
    for _ in range(5):
        picture, time_s = camera.read()
        assert picture is not None
        assert picture.shape == (240, 320, 3)
        number, shown_s = read_card(picture)
        assert shown_s == pytest.approx(time_s, abs=1e-3)
        assert time_s <= time.monotonic()
        numbers.append(number)
    assert numbers == sorted(set(numbers))
    assert picture[120].mean(0).argmax() == 2  # it begins with red


def test_a_recording_ends_and_goes_through_the_colours() -> None:
    camera = open_camera("fake:frames=180")
    assert not camera.live
    colours, times = [], []
    for _ in range(180):
        picture, time_s = camera.read()
        assert picture is not None
        colours.append(int(picture[-1, -1].argmax()))
        times.append(time_s)
    with pytest.raises(EOFError):
        camera.read()
    assert colours == [2] * 60 + [1] * 60 + [0] * 60
    assert times == pytest.approx([index / 30 for index in range(180)])


def test_it_fails_as_it_is_told() -> None:
    frozen = Device(Faults(freeze=(0, 1e9))).open("f", Options(fps=1000))
    pictures = [frozen.read()[0] for _ in range(2)]
    assert pictures[0] is not None
    assert np.array_equal(*pictures)
    black = Device(Faults(black=(0, 1e9))).open("b", Options(fps=1000)).read()[0]
    assert black is not None
    assert not black.any()
    gone = Device(Faults())
    camera = gone.open("u", Options(fps=1000))
    gone.faults = Faults(unplug=(0, 1e9))
    with pytest.raises(EdgecnnError, match=r"^u: stopped"):
        camera.read()
    with pytest.raises(EdgecnnError, match=r"^u: is unplugged"):
        gone.open("u", Options())


def test_an_unknown_fault_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match=r"received: explode"):
        open_camera("fake:explode")
