"""Frames of 1280x720 pixels made of photos: detail everywhere, as a camera's picture at its worst."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edgecnn_runtime.decode import Picture, read_picture

COLUMNS, ROWS = 5, 3
TILE_WIDTH, TILE_HEIGHT = 256, 240
PER_MOSAIC = COLUMNS * ROWS


def mosaics(paths: Sequence[Path], count: int, seed: int = 0) -> list[Picture]:
    """`count` mosaics, ``(720, 1280, 3)`` uint8 RGB 0-255, of photos drawn without repetition where there are enough.

    Raises:
        PictureError: a drawn file cannot be read.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(paths), count * PER_MOSAIC, replace=len(paths) < count * PER_MOSAIC)
    return [_mosaic([paths[i] for i in part]) for part in np.split(chosen, count)]


def _mosaic(paths: Sequence[Path]) -> Picture:
    tiles = [_tile(read_picture(path)) for path in paths]
    return np.vstack([np.hstack(tiles[start : start + COLUMNS]) for start in range(0, PER_MOSAIC, COLUMNS)])


def _tile(picture: Picture) -> Picture:
    """The middle of a picture that is reduced, or enlarged, until it just covers a tile."""
    scale = max(TILE_HEIGHT / picture.shape[0], TILE_WIDTH / picture.shape[1])
    height = max(TILE_HEIGHT, round(picture.shape[0] * scale))
    width = max(TILE_WIDTH, round(picture.shape[1] * scale))
    mode = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    covering = cv2.resize(picture, (width, height), interpolation=mode)
    top, left = (height - TILE_HEIGHT) // 2, (width - TILE_WIDTH) // 2
    return np.asarray(covering[top : top + TILE_HEIGHT, left : left + TILE_WIDTH], np.uint8)
