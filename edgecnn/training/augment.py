"""Augmentation: random views of a preprocessed picture, and mixtures of a batch.

All geometry is one affine map and all linear colour changes are one matrix, so a view costs two passes by OpenCV
however much is switched on. Chance comes from the generator that is passed in and from nowhere else: a picture's view
in an epoch does not depend on threads or on what was drawn before, so that training can be repeated and resumed
exactly.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from edgecnn.training.options import Augmentation
from edgecnn_runtime.decode import Picture

Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]

_LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601
_MIDDLE = 127.5
_ASPECT = math.log(4 / 3)  # of random crops, as in Inception's training (Szegedy et al. 2015)
_RANDAUGMENT_TURNS = 2  # operations on each picture
_RANDAUGMENT_MAX = 30.0


def augment(pixels: Picture, options: Augmentation, rng: np.random.Generator, height: int, width: int) -> Picture:
    """One random view.

    Args:
        pixels: ``(H, W, 3)`` uint8 RGB.
        rng: the only source of chance.
        height, width: of the view, in pixels.

    Returns:
        A new array ``(height, width, 3)`` uint8 RGB.
    """
    geometry = _geometry(options, rng)
    color = _color(options, rng)
    finish = []
    if options.randaugment:
        for name in rng.choice(len(_RANDAUGMENT), _RANDAUGMENT_TURNS, replace=False):
            change = _RANDAUGMENT[name](options.randaugment / _RANDAUGMENT_MAX * rng.choice((-1.0, 1.0)))
            if isinstance(change, np.ndarray) and change.shape == (3, 3):
                geometry = geometry @ change
            elif isinstance(change, np.ndarray):
                color = change @ color
            else:
                finish.append(change)
    view = cv2.warpAffine(
        pixels,
        _from_view(geometry, pixels.shape, height, width),
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    if not np.array_equal(color, np.eye(4)):
        view = cv2.transform(view, color[:3])
    for change in finish:
        view = change(view)
    return np.asarray(view, np.uint8)


def _geometry(options: Augmentation, rng: np.random.Generator) -> Matrix:
    """From view to picture, both with the origin in the centre and sides of length 2."""
    matrix = np.eye(3)
    if options.crop < 1.0:
        area = rng.uniform(options.crop, 1.0)
        aspect = math.exp(rng.uniform(-_ASPECT, _ASPECT) / 2)
        sides = np.minimum(math.sqrt(area) * np.array([aspect, 1 / aspect]), 1.0)
        matrix = _affine(sides, 0.0, rng.uniform(sides - 1.0, 1.0 - sides))
    size = 1.0 / rng.uniform(1.0 - options.zoom, 1.0 + options.zoom)
    angle = rng.uniform(-options.rotation, options.rotation) * math.tau
    shift = rng.uniform(-2.0, 2.0, 2) * options.translation
    matrix = matrix @ _affine((size, size), angle, shift)
    mirror = rng.integers(2, size=2) * 2 - 1  # always drawn, so that one switch does not change what others draw
    return matrix @ np.diag(
        [
            float(mirror[0]) if options.flip in ("horizontal", "both") else 1.0,
            float(mirror[1]) if options.flip in ("vertical", "both") else 1.0,
            1.0,
        ]
    )


def _affine(scale: npt.ArrayLike, angle: float, shift: npt.ArrayLike) -> Matrix:
    cosine, sine = math.cos(angle), math.sin(angle)
    matrix = np.eye(3)
    matrix[:2, :2] = np.array([[cosine, -sine], [sine, cosine]]) * np.asarray(scale)
    matrix[:2, 2] = shift
    return matrix


def _from_view(geometry: Matrix, shape: tuple[int, ...], height: int, width: int) -> Matrix:
    """The map of pixel centres of a view to those of a picture, ``(2, 3)``."""
    rows, columns = shape[:2]
    to_unit = np.array([[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]])
    # A turn must stay a turn where the picture is not square.
    aspect = np.diag([columns / rows, 1.0, 1.0])
    from_unit = np.array([[columns / 2, 0, (columns - 1) / 2], [0, rows / 2, (rows - 1) / 2], [0, 0, 1]])
    matrix: Matrix = from_unit @ np.linalg.inv(aspect) @ geometry @ aspect @ to_unit
    return np.asarray(matrix[:2], np.float64)


def _color(options: Augmentation, rng: np.random.Generator) -> Matrix:
    """Colours to colours, homogeneous ``(4, 4)``."""
    contrast = rng.uniform(1.0 - options.contrast, 1.0 + options.contrast)
    brightness = rng.uniform(-255.0, 255.0) * options.brightness
    saturation = rng.uniform(1.0 - options.color, 1.0 + options.color)
    hue = rng.uniform(-1.0, 1.0) * options.color / 3 * math.pi
    return _hue(hue) @ _saturation(saturation) @ _contrast(contrast, brightness)


def _contrast(contrast: float, brightness: float = 0.0) -> Matrix:
    matrix = np.diag([contrast, contrast, contrast, 1.0])
    matrix[:3, 3] = _MIDDLE * (1.0 - contrast) + brightness
    return matrix


def _saturation(saturation: float) -> Matrix:
    matrix = np.eye(4)
    matrix[:3, :3] = saturation * np.eye(3) + (1.0 - saturation) * np.tile(_LUMA, (3, 1))
    return matrix


def _hue(angle: float) -> Matrix:
    """A turn about the grey axis (Rodrigues' formula)."""
    axis = np.full(3, 1 / math.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    matrix = np.eye(4)
    matrix[:3, :3] += math.sin(angle) * cross + (1.0 - math.cos(angle)) * cross @ cross
    return matrix


def _shear(x: float, y: float) -> Matrix:
    return np.array([[1.0, x, 0.0], [y, 1.0, 0.0], [0.0, 0.0, 1.0]])


def _solarize(level: float) -> npt.NDArray[np.uint8]:
    values = np.arange(256)
    return np.where(values < 256 * (1.0 - abs(level)), values, 255 - values).astype(np.uint8)


def _posterize(level: float) -> npt.NDArray[np.uint8]:
    step = 2 ** round(4 * abs(level))
    return np.asarray(np.arange(256) // step * step, np.uint8)


def _autocontrast(view: Picture) -> Picture:
    return np.asarray(cv2.normalize(view, None, 0, 255, cv2.NORM_MINMAX), np.uint8)


def _equalize(view: Picture) -> Picture:
    return np.asarray(cv2.merge([cv2.equalizeHist(channel) for channel in cv2.split(view)]), np.uint8)


def _sharpness(level: float, view: Picture) -> Picture:
    return np.asarray(cv2.addWeighted(view, 1 + level, cv2.GaussianBlur(view, (3, 3), 0), -level, 0), np.uint8)


# The operations of RandAugment by their level in [-1, 1], at the largest as strong as in the paper.
_RANDAUGMENT = (
    lambda level: np.eye(3),
    lambda level: _affine((1.0, 1.0), math.radians(30.0 * level), (0.0, 0.0)),
    lambda level: _shear(0.3 * level, 0.0),
    lambda level: _shear(0.0, 0.3 * level),
    lambda level: _affine((1.0, 1.0), 0.0, (0.66 * level, 0.0)),
    lambda level: _affine((1.0, 1.0), 0.0, (0.0, 0.66 * level)),
    lambda level: _contrast(1.0 + 0.9 * level),
    lambda level: _contrast(1.0, 115.0 * level),
    lambda level: _saturation(1.0 + 0.9 * level),
    lambda level: lambda view: _sharpness(0.9 * level, view),
    lambda level: lambda view: cv2.LUT(view, _solarize(level)),
    lambda level: lambda view: cv2.LUT(view, _posterize(level)),
    lambda level: _autocontrast,
    lambda level: _equalize,
)


def mix(pixels: Floats, targets: Floats, options: Augmentation, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """MixUp or CutMix of a batch with itself in another order; where both are switched on, each half of the time.

    Args:
        pixels: ``(N, H, W, 3)`` float32; it may be changed in place.
        targets: ``(N, classes)`` float32, each row's sum 1; or ``(N, 1)`` for a sigmoid.

    Returns:
        Both, mixed.
    """
    kinds = [kind for kind in ("mixup", "cutmix") if getattr(options, kind)]
    if not kinds:
        return pixels, targets
    kind = kinds[rng.integers(len(kinds))]
    alpha = getattr(options, kind)
    other = rng.permutation(len(pixels))
    share = np.float32(rng.beta(alpha, alpha))
    if kind == "mixup":
        return pixels * share + pixels[other] * (1 - share), targets * share + targets[other] * (1 - share)
    height, width = pixels.shape[1:3]
    side = math.sqrt(1.0 - share)
    y, x = rng.uniform(0, height), rng.uniform(0, width)
    top, bottom = (round(min(max(y + sign * side * height / 2, 0), height)) for sign in (-1, 1))
    left, right = (round(min(max(x + sign * side * width / 2, 0), width)) for sign in (-1, 1))
    pixels[:, top:bottom, left:right] = pixels[other, top:bottom, left:right]
    share = np.float32(1.0 - (bottom - top) * (right - left) / (height * width))
    return pixels, targets * share + targets[other] * (1 - share)
