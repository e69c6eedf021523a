"""Goldens: tiny pictures with the probabilities that an artifact gives, so that a device can prove itself."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import asdict, replace

import cv2
import numpy as np

from edgecnn_runtime import Classifier
from edgecnn_runtime.classifier import Probabilities
from edgecnn_runtime.contract import Contract, Golden
from edgecnn_runtime.decode import Picture
from edgecnn_runtime.preprocess import preprocess

GOLDENS = 4
_CANDIDATES = 16
_DRAWS, _NOISY = 6, 0.0005
_LEAST_TOLERANCE = 0.01
_LEAST_FLOAT_TOLERANCE = 0.002  # processors differ by 1e-5
_MOST_PIXELS = 1_800_000
_MOST_BYTES = 150_000  # of all together, as the contract has them; of a very large input fewer are kept
_COLOURS = 64  # a multiple, see _draw


def make_goldens(classifier: Classifier) -> tuple[Golden, ...]:
    """Chooses at most `GOLDENS` drawn pictures (nobody's photos) that tell most about this very artifact.

    The tolerance covers what may differ between devices. Resizing does not: all of a picture's averages are whole
    numbers. Engines round 8-bit sums each in its own way, which meets the answer as one grey level of difference in a
    few values does; the tolerance is four times the most that this does. So it is wide for a quantized network and
    narrow for a float one. Of the pictures those are taken that see the commonest faults, each of them by the most
    tolerances.
    """
    contract, subject = classifier.contract, classifier.subject_sha256
    least = _LEAST_FLOAT_TOLERANCE if contract.provenance.precision == "float32" else _LEAST_TOLERANCE
    goldens, seen = [], []
    for seed in range(_CANDIDATES):
        rng = np.random.default_rng(seed)
        picture = _draw(rng, *_size_px(contract))
        pixels = classifier.preprocess(picture)
        probabilities = classifier.infer(pixels)

        def effect(other: Picture, probabilities: Probabilities = probabilities) -> float:
            return float(np.abs(classifier.infer(other) - probabilities).max())

        noise = rng.choice((-1, 0, 1), (_DRAWS, *pixels.shape), p=(_NOISY / 2, 1 - _NOISY, _NOISY / 2))
        rounding = max(effect(np.clip(pixels + step, 0, 255).astype(np.uint8)) for step in noise)
        tolerance = min(0.5, max(least, 4.0 * rounding))
        png = cv2.imencode(".png", picture[..., ::-1], (cv2.IMWRITE_PNG_COMPRESSION, 9))[1].tobytes()
        goldens.append(
            Golden(
                png=base64.b64encode(png).decode(),
                probabilities=tuple(round(float(p), 5) for p in probabilities),
                tolerance=round(tolerance, 5),
                subject_sha256=subject,
            )
        )
        seen.append([effect(wrong) / tolerance for wrong in _faults(contract, picture, pixels)])
    chosen = [goldens[i] for i in _cover(np.array(seen), GOLDENS)]
    sizes = np.cumsum([len(json.dumps(asdict(golden))) for golden in chosen])
    return tuple(chosen[: max(1, int((sizes <= _MOST_BYTES).sum()))])


def _faults(contract: Contract, picture: Picture, pixels: Picture) -> Iterator[Picture]:
    """What the network would see of a picture by the commonest wrong preprocessings."""
    own = contract.preprocessing

    def by(**changes: object) -> Picture:
        return preprocess(picture, replace(own, **changes), contract.height, contract.width)  # type: ignore[arg-type]

    yield preprocess(picture, own, contract.height, contract.width, "bgr")
    yield by(resampling="area" if own.resampling == "linear" else "linear")
    yield by(fit="crop", crop_fraction=0.875 * own.crop_fraction)
    yield by(fit="crop" if own.fit == "squash" else "squash")
    yield np.rint(127.0 + 0.9 * (pixels - 127.0)).astype(np.uint8)  # another normalisation


def _cover(seen: np.ndarray, count: int) -> list[int]:
    """Rows of ``(pictures, faults)`` that together see every fault well: each next one is the best at the fault that
    those before it see least."""
    chosen = [int(seen.min(1).argmax())]
    while len(chosen) < count:
        weakest = int(seen[chosen].max(0).argmin())
        chosen.append(next(int(i) for i in np.argsort(-seen[:, weakest], kind="stable") if i not in chosen))
    return chosen


def _size_px(contract: Contract) -> tuple[int, int]:
    """Height and width of a golden: not of the input's shape, so that a wrong fit is seen, and three and four times as
    large as what is looked at of it, so that a wrong resampling is. For a large input half of that."""
    own = contract.preprocessing
    rows, columns = 3.0 * contract.height, 4.0 * contract.width
    scale = 1.0 / own.crop_fraction if own.fit == "crop" else 1.0
    if rows * columns * scale**2 > _MOST_PIXELS:
        scale /= 2.0
    return round(rows * scale), round(columns * scale)


def _draw(rng: np.random.Generator, rows: int, columns: int) -> Picture:
    """Soft tiles and a few ellipses, plain or of fine stripes that make another picture where pixels are left out:
    ``(rows, columns, 3)`` uint8 RGB. All values are multiples of 64, so that reducing by 3 and 4 rounds nothing."""
    tiles = tuple(int(n) for n in rng.integers(3, 25, 2))
    soft = cv2.resize(rng.uniform(0, 256, (3, 4, 3)).astype(np.float32), tiles, interpolation=cv2.INTER_CUBIC)
    soft += rng.uniform(-96, 96, soft.shape) * rng.uniform()
    small = np.clip(soft, 0, 255).astype(np.uint8)
    picture = cv2.resize(small, (columns, rows), interpolation=cv2.INTER_NEAREST)
    for shape in range(6):
        x, y, a, b = (int(v) for v in rng.integers(2, (columns, rows, columns // 6 + 3, rows // 3 + 3)))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        drawn = cv2.ellipse(picture.copy(), (x, y), (a, b), float(rng.integers(0, 180)), 0, 360, colour, -1)
        if shape % 3 == 0:
            picture = drawn
        elif shape % 3 == 1:
            picture[1::3] = drawn[1::3]
        else:
            picture[:, 1::3] = drawn[:, 1::3]
    return np.asarray(picture // _COLOURS * _COLOURS, np.uint8)
