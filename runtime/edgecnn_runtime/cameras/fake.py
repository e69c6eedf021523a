"""A camera that needs no device: a moving test card that carries its frame number and its time in the picture.

`fake:` is 640x480 at 30 frames per second, and `--resolution` and `--fps` make it another. It sees red for two seconds,
then green, then blue, and so on. What follows the colon lets it fail as real ones do, by seconds since it was first
opened:

    fake:freeze=5-8,black=10-12,unplug=15-18,hang=20-40,bad=100,frames=900

`freeze` repeats a picture, `black` shows nothing, `unplug` can neither be read nor opened, `hang` does not
come back from a read, `bad` gives so many damaged
reads (none, empty, of another size or type), every other one from the second second on, and `frames` makes it a
recording of so many frames, to which nothing else happens.
"""

from __future__ import annotations

import functools
import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from edgecnn_runtime.cameras._options import Options
from edgecnn_runtime.decode import Picture
from edgecnn_runtime.errors import EdgecnnError, UsageError

RESOLUTION = (640, 480)
FPS = 30.0
COLOURS = {"red": (0, 0, 220), "green": (0, 220, 0), "blue": (220, 0, 0)}  # BGR
COLOUR_S = 2.0

_NUMBER_BITS, _TIME_BITS = 24, 40  # 2^24 frames are 6 days at 30 per second, 2^40 ms are 34 years
_COLUMNS = 32
_BAD_FROM_S = 1.0
_HANG_STEP_S = 0.05

# The seven lines of a pocket calculator's digit, clockwise from the top, the middle one last, in a box 1 wide and 2
# high; and for each digit the lines that it has, as bits. OpenCV 5 loads 9 MB of fonts with the first letter it draws.
_LINES = np.array([[0, 0, 1, 0], [1, 0, 1, 1], [1, 1, 1, 2], [1, 2, 0, 2], [0, 2, 0, 1], [0, 1, 0, 0], [0, 1, 1, 1]])
_DIGITS = (0x3F, 0x06, 0x5B, 0x4F, 0x66, 0x6D, 0x7D, 0x07, 0x7F, 0x6F)


@dataclass(frozen=True)
class Faults:
    """What goes wrong, in seconds (from, to) since the camera was first opened; see the module."""

    freeze: tuple[float, float] = (math.inf, math.inf)
    black: tuple[float, float] = (math.inf, math.inf)
    unplug: tuple[float, float] = (math.inf, math.inf)
    hang: tuple[float, float] = (math.inf, math.inf)
    bad: int = 0
    frames: int | None = None


def claims(source: str) -> bool:
    """Only what is called fake:…"""
    return False


def connect(source: str, options: Options) -> FakeCamera:
    """Opens the camera. Raises UsageError for a fault it does not know, EdgecnnError while it is unplugged."""
    return _device(source).open(f"fake:{source}", options)


class Device:
    """What stays when the camera is closed and opened again: its faults, and since when they count."""

    def __init__(self, faults: Faults) -> None:
        self.faults, self.bad = faults, 0
        self._start_s = time.monotonic()

    def seconds(self) -> float:
        """Since it was first opened."""
        return time.monotonic() - self._start_s

    def is_in(self, span: tuple[float, float]) -> bool:
        """Whether it is that time, (from, to) in seconds."""
        return span[0] <= self.seconds() < span[1]

    def open(self, name: str, options: Options) -> FakeCamera:
        """Raises EdgecnnError while it is unplugged."""
        if self.is_in(self.faults.unplug):
            raise EdgecnnError(f"{name}: is unplugged (received: {self.seconds():.1f} s since the start)")
        return FakeCamera(self, name, options.resolution or RESOLUTION, options.fps or FPS)


class FakeCamera:
    """The open camera. See `edgecnn_runtime.cameras.Camera`."""

    every = False

    def __init__(self, device: Device, name: str, resolution: tuple[int, int], fps: float) -> None:
        self.name, self.fps = name, fps
        self.live = device.faults.frames is None
        self._device, self._resolution = device, resolution
        self._number, self._was_bad = 0, False
        self._opened_s = time.monotonic()

    def read(self) -> tuple[Picture | None, float]:
        """See `edgecnn_runtime.cameras.Camera`. Frames that nobody waits for are lost."""
        faults = self._device.faults
        if not self.live:
            if self._number == faults.frames:
                raise EOFError
            at_s = self._number / self.fps
            picture = draw_card(self._number, at_s, self._resolution, _colour(at_s))
            self._number += 1
            return picture, at_s
        elapsed_s = time.monotonic() - self._opened_s
        self._number = max(self._number, math.ceil(elapsed_s * self.fps))
        captured_s = self._opened_s + self._number / self.fps
        time.sleep(max(0.0, captured_s - time.monotonic()))
        while self._device.is_in(self._device.faults.hang):
            time.sleep(_HANG_STEP_S)
        number, self._number = self._number, self._number + 1
        if self._device.is_in(faults.unplug):
            raise EdgecnnError(f"{self.name}: stopped; is it still plugged in? (received: {number} frames)")
        if self._device.is_in(faults.black):
            return np.zeros((self._resolution[1], self._resolution[0], 3), np.uint8), captured_s
        if self._device.is_in(faults.freeze):
            return draw_card(0, 0.0, self._resolution, COLOURS["red"]), captured_s
        if self._device.seconds() >= _BAD_FROM_S and self._device.bad < faults.bad and not self._was_bad:
            self._device.bad += 1
            self._was_bad = True
            return _damaged(self._device.bad), captured_s
        self._was_bad = False
        return draw_card(number, captured_s, self._resolution, _colour(self._device.seconds())), captured_s

    def close(self) -> None:
        """Nothing is held."""


def draw_card(number: int, time_s: float, resolution: tuple[int, int], bgr: tuple[int, int, int]) -> Picture:
    """A test card.

    Args:
        number: of the frame, below 2^24.
        time_s: any clock's seconds, below 2^40 ms.
        resolution: (width, height) in pixels; 64 or wider can be read back.
        bgr: the ground.

    Returns:
        ``(H, W, 3)`` uint8 BGR: two rows of black and white squares with number and time, both in digits below, and a
        disc that goes round once in two seconds.
    """
    width, height = resolution
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = bgr
    angle, side = math.pi * time_s, min(width, height)
    centre = (round(width / 2 + side / 4 * math.cos(angle)), round(height * 0.55 + side / 4 * math.sin(angle)))
    cv2.circle(picture, centre, max(1, side // 12), (255, 255, 255), -1, cv2.LINE_AA)
    cell = max(1, width // _COLUMNS)
    _draw_digits(picture, f"{number}  {time_s:.3f}", cell // 2, 2 * cell + side // 32, max(2, side // 48))
    value = (number % 2**_NUMBER_BITS) << _TIME_BITS | round(time_s * 1e3) % 2**_TIME_BITS
    bits = np.array([value >> shift & 1 for shift in range(63, -1, -1)], np.uint8).reshape(2, _COLUMNS) * 255
    squares = bits.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width, None]
    picture[: squares.shape[0], : squares.shape[1]] = squares
    return picture


def read_card(picture: Picture) -> tuple[int, float]:
    """(number, time in seconds) of a test card, also after JPEG; nonsense for any other picture.

    Args:
        picture: ``(H, W, 3)`` uint8 BGR, of the resolution in which it was drawn.
    """
    cell = max(1, picture.shape[1] // _COLUMNS)
    places = np.arange(_COLUMNS) * cell + cell // 2
    bits = picture[[[cell // 2], [cell + cell // 2]], places[None, :], 1] > 127
    value = int("".join("1" if bit else "0" for bit in bits.ravel()), 2)
    return value >> _TIME_BITS, value % 2**_TIME_BITS / 1e3


def _draw_digits(picture: Picture, text: str, left: int, top: int, width: int) -> None:
    """Writes digits, points and spaces in white, each digit `width` px wide and twice as high."""
    for character in text:
        if character.isdigit():
            lines = _LINES[[bool(_DIGITS[int(character)] >> bit & 1) for bit in range(7)]] * width + [left, top] * 2
            cv2.polylines(picture, list(lines.reshape(-1, 2, 2)), False, (255, 255, 255), max(1, width // 5))
        elif character == ".":
            cv2.circle(picture, (left, top + 2 * width), max(1, width // 6), (255, 255, 255), -1)
        left += (width // 2 if character == "." else width) + max(2, width // 2)


def _colour(seconds: float) -> tuple[int, int, int]:
    return list(COLOURS.values())[int(seconds / COLOUR_S) % len(COLOURS)]


def _damaged(count: int) -> Any:
    """A read that went wrong, of five kinds in turn."""
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: None,
        lambda: np.empty((0, 0, 3), np.uint8),
        lambda: np.full((97, 131, 3), 90, np.uint8),
        lambda: np.full((480, 640), np.nan),
        lambda: b"no picture",
    )
    return kinds[count % len(kinds)]()


_lock = threading.Lock()


def _device(source: str) -> Device:
    with _lock:
        return _known(source)


@functools.cache
def _known(source: str) -> Device:
    """One device for each source as long as the process lives: what is opened again is the same camera."""
    faults: dict[str, Any] = {}
    for part in filter(None, source.split(",")):
        span = re.fullmatch(r"(freeze|black|unplug|hang)=(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", part)
        count = re.fullmatch(r"(bad|frames)=(\d{1,7})", part)
        if span:
            faults[span[1]] = (float(span[2]), float(span[3]))
        elif count:
            faults[count[1]] = int(count[2])
        else:
            raise UsageError(
                "fake: knows freeze=FROM-TO, black=FROM-TO, unplug=FROM-TO, hang=FROM-TO, bad=COUNT and "
                f"frames=COUNT, with commas between them (received: {part})"
            )
    return Device(Faults(**faults))
