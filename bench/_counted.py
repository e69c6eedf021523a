"""Runs on the emulated Raspberry Pi, for arm64.py: asks for a reading before and after each piece of work."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

TURNS = 2
_READING = 4242


def count(work: Callable[[], object]) -> None:
    """Does the work `TURNS` times, with a reading before each and after the last."""
    read = ctypes.CDLL(None).syscall
    for _ in range(TURNS):
        read(ctypes.c_long(_READING))
        work()
    read(ctypes.c_long(_READING))


def main(paths: list[str]) -> None:
    """Counts nothing, then for each artifact one inference, one preprocessing, and both for a frame."""
    import cv2
    import numpy as np

    from edgecnn_runtime import Classifier

    cv2.setNumThreads(1)
    coarse = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    frame = np.asarray(cv2.resize(coarse, (1280, 720), interpolation=cv2.INTER_CUBIC), np.uint8)
    count(lambda: None)
    for path in paths:
        classifier = Classifier.load(path)
        classifier.classify(frame, "bgr")  # what is done but once, is done
        pixels = classifier.preprocess(frame, "bgr")
        for work in (
            lambda own=classifier, pixels=pixels: own.infer(pixels),
            lambda own=classifier: own.preprocess(frame, "bgr"),
            lambda own=classifier: own.classify(frame, "bgr"),
        ):
            count(work)


if __name__ == "__main__":
    main(sys.argv[1:])
