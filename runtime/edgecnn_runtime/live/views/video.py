"""A video file of what the window shows."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import cv2

from edgecnn_runtime.errors import EdgecnnError, UsageError
from edgecnn_runtime.live.observation import Observation
from edgecnn_runtime.live.stats import Stats
from edgecnn_runtime.live.views.window import draw

_CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
_FPS = 25.0
_MAX_GAP_S = 1.0
_MIN_FREE_MB = 32  # OpenCV says nothing of a full disk; what is left lets the file be finished
_LOOK_S = 1.0


class VideoFile:
    """Writes at a constant rate, by the frames' own times: one that stands longer is written more often, and a pause
    becomes one second at most. The file has another name until it is closed: an MP4 without its end cannot be played.

    Args:
        path: .mp4 (MPEG-4) or .avi (Motion JPEG); replaced.
        fps: frames per second; 0 is 25.

    Raises:
        UsageError: another suffix.
        EdgecnnError: the file cannot be written, now, in `show` or in `close`.
    """

    def __init__(self, path: Path, fps: float) -> None:
        if path.suffix.lower() not in _CODECS:
            raise UsageError(
                f"{path}: a video is written as {' or '.join(_CODECS)} (received: {path.suffix or 'none'})"
            )
        if not os.access(path.parent, os.W_OK):
            raise EdgecnnError(f"{path}: cannot be written: no folder {path.parent} that this user may write to")
        self._path, self._fps = path, min(fps, 120.0) if fps >= 1 else _FPS
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._count, self._shift_s, self._last_s = 0, 0.0, 0.0
        self._looked_s = -_LOOK_S

    def show(self, observation: Observation) -> bool:
        """See `edgecnn_runtime.live.views.View`."""
        self._check_space()
        picture = draw(observation)
        if self._writer is None:
            self._size = (picture.shape[1] // 2 * 2, picture.shape[0] // 2 * 2)  # codecs want even sides
            code = cv2.VideoWriter.fourcc(*_CODECS[self._path.suffix.lower()])
            self._writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, code, self._fps, self._size)
            if not self._writer.isOpened():
                raise EdgecnnError(f"{self._path}: cannot be written: OpenCV cannot make such a video here")
        if (picture.shape[1], picture.shape[0]) != self._size:
            picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA)
        at_s = observation.frame.at_s
        self._shift_s += max(0.0, at_s - self._last_s - _MAX_GAP_S)
        self._last_s = at_s
        while self._count <= round((at_s - self._shift_s) * self._fps):
            self._writer.write(picture)
            self._count += 1
        return True

    def wait(self, stats: Stats) -> bool:
        """See `edgecnn_runtime.live.views.View`."""
        return True

    def close(self) -> None:
        """Finishes the file and gives it its name."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        try:
            os.replace(self._temporary, self._path)
        except OSError as error:
            raise EdgecnnError(f"{self._path}: cannot be written: {error.strerror}") from error

    def _check_space(self) -> None:
        if time.monotonic() - self._looked_s < _LOOK_S:
            return
        self._looked_s = time.monotonic()
        free_mb = shutil.disk_usage(self._path.parent).free / 1e6
        if free_mb < _MIN_FREE_MB:
            raise EdgecnnError(
                f"{self._path}: the disk is full; the video ends here (free: {free_mb:.0f} of {_MIN_FREE_MB} MB)"
            )
