"""What the kinds of cameras that OpenCV reads have in common."""

from __future__ import annotations

import time

import cv2
import numpy as np

from edgecnn_runtime.decode import Picture
from edgecnn_runtime.errors import EdgecnnError, first_line


def silence() -> None:
    """An application may have imported OpenCV before the runtime could silence it; 4 and 5 differ in where this is."""
    (getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel)(0)


class OpenCvCamera:
    """An open `cv2.VideoCapture`. See `edgecnn_runtime.cameras.Camera`."""

    every = False

    def __init__(self, capture: cv2.VideoCapture, name: str, live: bool) -> None:
        self.name, self.live = name, live
        stated = float(capture.get(cv2.CAP_PROP_FPS))
        self.fps = stated if 0 < stated < 1000 else 0.0  # some containers state a time base of 90,000
        self._capture = capture
        self._count, self._position_s = 0, 0.0

    def read(self) -> tuple[Picture | None, float]:
        """See `edgecnn_runtime.cameras.Camera`."""
        try:
            there = self._capture.grab()
            captured_s = time.monotonic()
            if there:
                decoded, picture = self._capture.retrieve()
        except cv2.error as error:
            raise EdgecnnError(f"{self.name}: OpenCV cannot read it: {first_line(error)}") from error
        if not there:
            if not self.live and self._count:
                raise EOFError
            if not self._count:
                raise EdgecnnError(
                    f"{self.name}: opened, but gives no picture; does another program show it? (received: 0 frames)"
                )
            raise EdgecnnError(
                f"{self.name}: stopped; is it still plugged in and reachable? (received: {self._count} frames)"
            )
        self._count += 1
        return np.asarray(picture, np.uint8) if decoded else None, captured_s if self.live else self._recorded_s()

    def close(self) -> None:
        """Frees the device."""
        self._capture.release()

    def _recorded_s(self) -> float:
        """Where in the recording the last frame stands; containers without times have evenly spaced frames."""
        position_s = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3
        if self._count > 1 and not self._position_s < position_s < self._position_s + 3600:
            position_s = self._position_s + 1 / (self.fps or 25.0)
        self._position_s = position_s
        return position_s
