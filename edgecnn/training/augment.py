"""Augmented views of a preprocessed picture."""

from __future__ import annotations

import cv2
import numpy as np

from edgecnn_runtime.decode import Picture

MAX_ROTATION_DEGREES = 12.0
MAX_ZOOM = 0.15
MAX_SHIFT = 0.06
MAX_CONTRAST = 0.15
MAX_BRIGHTNESS = 20.0


def augment(pixels: Picture, rng: np.random.Generator, mirror: bool) -> Picture:
    """One random view: mirrored if asked, turned, zoomed and shifted in one step, contrast and brightness changed.

    Args:
        pixels: ``(H, W, 3)`` uint8 RGB.
        rng: the only source of chance.

    Returns:
        A new array of the same shape and type.
    """
    height, width = pixels.shape[:2]
    angle = rng.uniform(-MAX_ROTATION_DEGREES, MAX_ROTATION_DEGREES)
    zoom = rng.uniform(1.0 - MAX_ZOOM, 1.0 + MAX_ZOOM)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, zoom)
    matrix[:, 2] += rng.uniform(-MAX_SHIFT, MAX_SHIFT, 2) * (width, height)
    if mirror:
        matrix = matrix @ np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    view = cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    contrast = rng.uniform(1.0 - MAX_CONTRAST, 1.0 + MAX_CONTRAST)
    brightness = rng.uniform(-MAX_BRIGHTNESS, MAX_BRIGHTNESS)
    table = np.clip((np.arange(256) - 127.5) * contrast + 127.5 + brightness, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(view, table), np.uint8)
