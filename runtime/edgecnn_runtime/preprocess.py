"""Preprocessing: a decoded picture or a camera frame to the network's input. The one implementation.

Resampling ``fast_area`` approximates area averaging (every source pixel counts, so fine patterns do not alias) at a
fraction of its time: bilinear to the target size times a power of two that keeps the bilinear step below a reduction of
2.2, then exact halvings, for which OpenCV has fast code. A reduction up to 2 is area averaging itself, cheap there.
``bench/resampling.py`` measures it against INTER_AREA.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np

from edgecnn_runtime.contract import Preprocessing
from edgecnn_runtime.decode import Picture
from edgecnn_runtime.errors import PictureError

ColorOrder = Literal["rgb", "bgr"]

PAD_VALUE = 127
_BILINEAR_LIMIT = 2.2


def preprocess(
    picture: Picture, preprocessing: Preprocessing, height: int, width: int, color: ColorOrder = "rgb"
) -> Picture:
    """A picture to what the network sees.

    Args:
        picture: ``(H, W, 3)`` or grey ``(H, W)`` uint8, 0-255, channels in the order that `color` states.
        preprocessing: from the contract.
        height, width: input size of the network in pixels.

    Returns:
        ``(height, width, 3)`` uint8, RGB, 0-255, contiguous; a new array.

    Raises:
        PictureError: the array is not such a picture.
    """
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.size == 0:
        received = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise PictureError(f"a picture is a uint8 array of shape (height, width, 3), 0-255 (received: {received})")
    if picture.ndim == 2:
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise PictureError(f"a picture is a uint8 array of shape (height, width, 3) (received: {picture.shape})")
    for name in preprocessing.filters:
        picture = _FILTERS[name](picture, color)
    picture = _fit(picture, preprocessing, height, width)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) if color == "bgr" else np.ascontiguousarray(picture)


def _fit(picture: Picture, preprocessing: Preprocessing, height: int, width: int) -> Picture:
    rows, columns = picture.shape[:2]
    resize = _RESAMPLING[preprocessing.resampling]
    if preprocessing.fit == "squash":
        return resize(picture, height, width)
    if preprocessing.fit == "crop":
        scale = min(rows / height, columns / width) * preprocessing.crop_fraction
        region_rows, region_columns = max(1, round(height * scale)), max(1, round(width * scale))
        top, left = (rows - region_rows) // 2, (columns - region_columns) // 2
        return resize(picture[top : top + region_rows, left : left + region_columns], height, width)
    scale = max(rows / height, columns / width)
    inner_rows, inner_columns = max(1, round(rows / scale)), max(1, round(columns / scale))
    top, left = (height - inner_rows) // 2, (width - inner_columns) // 2
    padded = np.full((height, width, 3), PAD_VALUE, np.uint8)
    padded[top : top + inner_rows, left : left + inner_columns] = resize(picture, inner_rows, inner_columns)
    return padded


def _fast_area(picture: Picture, height: int, width: int) -> Picture:
    rows, columns = picture.shape[0] / height, picture.shape[1] / width
    if max(rows, columns) <= 2.0:
        return _area(picture, height, width)
    halvings_y, halvings_x = _halvings(rows), _halvings(columns)
    picture = cv2.resize(picture, (width << halvings_x, height << halvings_y), interpolation=cv2.INTER_LINEAR)
    while halvings_x or halvings_y:
        # Both modes average pairs of pixels exactly; each has fast code for one of the cases.
        mode = cv2.INTER_AREA if halvings_x and halvings_y else cv2.INTER_LINEAR
        halvings_x, halvings_y = max(0, halvings_x - 1), max(0, halvings_y - 1)
        picture = cv2.resize(picture, (width << halvings_x, height << halvings_y), interpolation=mode)
    return picture


def _halvings(reduction: float) -> int:
    return 0 if reduction <= 1.0 else max(1, math.floor(math.log2(reduction / (_BILINEAR_LIMIT / 2))))


def _area(picture: Picture, height: int, width: int) -> Picture:
    enlarges = picture.shape[0] < height or picture.shape[1] < width  # INTER_AREA would repeat pixels
    mode = cv2.INTER_LINEAR if enlarges else cv2.INTER_AREA
    return np.asarray(cv2.resize(picture, (width, height), interpolation=mode), np.uint8)


def _linear(picture: Picture, height: int, width: int) -> Picture:
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


_RESAMPLING: dict[str, Callable[[Picture, int, int], Picture]] = {
    "fast_area": _fast_area,
    "area": _area,
    "linear": _linear,
}


def _on_luma(change: Callable[[Picture], Picture]) -> Callable[[Picture, ColorOrder], Picture]:
    """Applies a grey-level operation to the brightness alone, so that colours keep their hue."""

    def apply(picture: Picture, color: ColorOrder) -> Picture:
        to_luma, back = (
            (cv2.COLOR_BGR2YCrCb, cv2.COLOR_YCrCb2BGR) if color == "bgr" else (cv2.COLOR_RGB2YCrCb, cv2.COLOR_YCrCb2RGB)
        )
        luma = cv2.cvtColor(picture, to_luma)
        luma[..., 0] = change(np.ascontiguousarray(luma[..., 0]))
        return np.asarray(cv2.cvtColor(luma, back), np.uint8)

    return apply


def _gray(picture: Picture, color: ColorOrder) -> Picture:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY if color == "bgr" else cv2.COLOR_RGB2GRAY), np.uint8)


def _gray3(picture: Picture, color: ColorOrder) -> Picture:
    return np.asarray(cv2.cvtColor(_gray(picture, color), cv2.COLOR_GRAY2RGB), np.uint8)


def _canny(picture: Picture, color: ColorOrder) -> Picture:
    return np.asarray(cv2.cvtColor(cv2.Canny(_gray(picture, color), 100, 200), cv2.COLOR_GRAY2RGB), np.uint8)


_FILTERS: dict[str, Callable[[Picture, ColorOrder], Picture]] = {
    "gray": _gray3,
    "equalize": _on_luma(cv2.equalizeHist),
    "clahe": _on_luma(lambda luma: cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(luma)),
    "gaussian": lambda picture, color: cv2.GaussianBlur(picture, (5, 5), 0),
    "median": lambda picture, color: cv2.medianBlur(picture, 5),
    "canny": _canny,
}
