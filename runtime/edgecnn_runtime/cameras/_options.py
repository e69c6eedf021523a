"""What every camera can be asked for, and the one place where pictures are made to obey it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np

from edgecnn_runtime.decode import Picture
from edgecnn_runtime.errors import UsageError

Rotation = Literal[0, 90, 180, 270]
Flip = Literal["none", "horizontal", "vertical", "both"]

_MAX_SIDE_PX = 8192
_MIN_FPS, _MAX_FPS = 0.001, 1000
_ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
_FLIPS = {"horizontal": 1, "vertical": 0, "both": -1}  # cv2.flip's codes


@dataclass(frozen=True)
class Region:
    """A rectangle as fractions of the picture, in [0, 1], from its top left corner."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Options:
    """Applied in this order: resolution, rotation, flip, region; so the region is one of the picture that is seen.

    Attributes:
        resolution: (width, height) in pixels. A device is asked for it; what comes otherwise is resized. None leaves it
            to the source.
        fps: frames per second at most. A device is asked for it; what comes faster is thinned out. A folder's pictures
            are so many per second.
        rotation: clockwise, in degrees.

    Raises:
        UsageError: a value is out of its range.
    """

    resolution: tuple[int, int] | None = None
    fps: float | None = None
    rotation: Rotation = 0
    flip: Flip = "none"
    region: Region | None = None

    def __post_init__(self) -> None:
        if self.resolution is not None and not all(1 <= side <= _MAX_SIDE_PX for side in self.resolution):
            width, height = self.resolution
            raise UsageError(f"a resolution is 1 to {_MAX_SIDE_PX} px on a side (received: {width}x{height})")
        if self.fps is not None and not _MIN_FPS <= self.fps <= _MAX_FPS:
            raise UsageError(f"fps are {_MIN_FPS} to {_MAX_FPS} (received: {self.fps})")
        if self.rotation not in get_args(Rotation):
            raise UsageError(f"a rotation is 0, 90, 180 or 270 degrees (received: {self.rotation})")
        if self.flip not in get_args(Flip):
            raise UsageError(f"a flip is {', '.join(get_args(Flip))} (received: {self.flip})")
        region = self.region
        if region is not None and not (
            min(region.left, region.top) >= 0
            and min(region.width, region.height) > 0
            and max(region.left + region.width, region.top + region.height) <= 1 + 1e-9
        ):
            raise UsageError(f"a region is LEFT,TOP,WIDTH,HEIGHT as fractions inside the picture (received: {region})")

    @classmethod
    def parse(cls, resolution: str | None, fps: float | None, rotation: int, flip: str, region: str | None) -> Options:
        """From the words of a command line. Raises UsageError."""
        sides = re.fullmatch(r"(\d{1,4})x(\d{1,4})", resolution or "1x1")
        if sides is None:
            raise UsageError(f"--resolution is WIDTHxHEIGHT in pixels (received: {resolution})")
        try:
            parts = [float(part) for part in (region or "0,0,1,1").split(",")]
            rectangle = Region(*parts)
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"--region is LEFT,TOP,WIDTH,HEIGHT as fractions, for instance 0.25,0,0.5,1 (received: {region})"
            ) from error
        size = (int(sides[1]), int(sides[2])) if resolution else None
        return cls(size, fps, rotation, flip, rectangle if region else None)  # type: ignore[arg-type]

    def apply(self, picture: Picture) -> Picture:
        """``(H, W, 3)`` uint8 to ``(H', W', 3)`` uint8, at least one pixel; the same array where nothing is asked."""
        if self.resolution is not None and self.resolution != (picture.shape[1], picture.shape[0]):
            picture = np.asarray(cv2.resize(picture, self.resolution, interpolation=cv2.INTER_AREA), np.uint8)
        if self.rotation:
            picture = np.asarray(cv2.rotate(picture, _ROTATIONS[self.rotation]), np.uint8)
        if self.flip != "none":
            picture = np.asarray(cv2.flip(picture, _FLIPS[self.flip]), np.uint8)
        if self.region is not None:
            rows, columns = picture.shape[:2]
            top, left = (
                min(round(self.region.top * rows), rows - 1),
                min(round(self.region.left * columns), columns - 1),
            )
            bottom = max(top + 1, round((self.region.top + self.region.height) * rows))
            right = max(left + 1, round((self.region.left + self.region.width) * columns))
            picture = np.ascontiguousarray(picture[top:bottom, left:right])
        return picture
