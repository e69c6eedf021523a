"""Goldens: tiny pictures with the probabilities that an artifact gives, so that a device can prove itself."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from edgecnn_runtime import Classifier
from edgecnn_runtime.contract import Golden
from edgecnn_runtime.decode import Picture, decode

GOLDENS = 4
_CANDIDATES = 24
_LEAST_TOLERANCE = 0.01
_NOISY = 0.1
_SIZE_PX = (36, 48)  # not square, so that a wrong fit is seen


def make_goldens(classifier: Classifier) -> tuple[Golden, ...]:
    """Chooses drawn pictures (nobody's photos) that tell most about this very artifact.

    The tolerance is three times what one grey level of difference in a tenth of the values does, which covers that
    between resizing on x86-64 and arm64 and between versions of OpenCV, and engines that round an 8-bit step another
    way. Taken are the pictures on which red and blue swapped, the commonest wrong preprocessing, moves a probability by
    the most tolerances.
    """
    ranked = []
    for seed in range(_CANDIDATES):
        rng = np.random.default_rng(seed)
        png = cv2.imencode(".png", _draw(rng))[1].tobytes()
        probabilities = classifier.classify(png).probabilities
        pixels = classifier.preprocess(decode(png))
        noise = rng.choice((-1, 0, 1), (3, *pixels.shape), p=(_NOISY / 2, 1 - _NOISY, _NOISY / 2))
        shifted = [classifier.infer(np.clip(pixels + step, 0, 255).astype(np.uint8)) for step in noise]
        effect = float(np.abs(classifier.infer(np.ascontiguousarray(pixels[..., ::-1])) - probabilities).max())
        tolerance = min(
            0.5, max(_LEAST_TOLERANCE, 3.0 * max(float(np.abs(other - probabilities).max()) for other in shifted))
        )
        golden = Golden(
            png=base64.b64encode(png).decode(),
            probabilities=tuple(round(float(p), 6) for p in probabilities),
            tolerance=round(tolerance, 6),
        )
        ranked.append((-effect / tolerance, seed, golden))
    return tuple(golden for _, _, golden in sorted(ranked, key=lambda entry: entry[:2])[:GOLDENS])


def _draw(rng: np.random.Generator) -> Picture:
    """A coloured, soft background with a few sharp shapes: ``(H, W, 3)`` uint8."""
    rows, columns = _SIZE_PX
    background = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)
    picture = cv2.resize(background, (columns, rows), interpolation=cv2.INTER_CUBIC)
    for _ in range(4):
        x, y, a, b = (int(v) for v in rng.integers(0, (columns, rows, columns // 2, rows // 2)))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        cv2.ellipse(picture, (x, y), (a + 2, b + 2), float(rng.integers(0, 180)), 0, 360, colour, -1)
    return np.asarray(picture, np.uint8)
