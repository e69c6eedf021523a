"""Cameras by OpenCV: a number or a Linux device file, a video file, a URL."""

from __future__ import annotations

import glob
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

# FFmpeg reads this when it is first used; -8 is its AV_LOG_QUIET. What it would print is said once, by the error.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

from edgecnn_runtime.cameras import Frame
from edgecnn_runtime.errors import EdgecnnError

_URL_TIMEOUT_MS = 10_000  # OpenCV's own 30 s, in which Ctrl-C is not heard either, looks like a hang


def claims(source: str) -> bool:
    """Numbers, device files, URLs and existing files."""
    return _device(source) is not None or _is_url(source) or Path(source).is_file()


def connect(source: str) -> OpenCvCamera:
    """Opens a camera's number or device file, a video file, or a URL. Raises EdgecnnError."""
    # An application may have imported OpenCV before the runtime could silence it; 4 and 5 differ in where this is.
    (getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel)(0)
    device = _device(source)
    if device is not None:
        capture = cv2.VideoCapture(device)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame; the driver would keep old ones waiting
    else:
        # FFmpeg alone: OpenCV's other readers print, and take a picture's name for that of a numbered series. The path
        # is made absolute since FFmpeg would take the beginning of "a:b.avi" for a protocol.
        target = source if _is_url(source) else os.path.abspath(source)
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _URL_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _URL_TIMEOUT_MS]
        capture = cv2.VideoCapture(target, cv2.CAP_FFMPEG, timeouts)
    if not capture.isOpened():
        capture.release()
        raise EdgecnnError(_why_not(source, device))
    # A stream without an end states no length; a recording behind a URL does.
    live = device is not None or (_is_url(source) and capture.get(cv2.CAP_PROP_FRAME_COUNT) <= 0)
    return OpenCvCamera(capture, _without_password(source) if device is None else f"camera {device}", live)


class OpenCvCamera:
    """An open capture. See `edgecnn_runtime.cameras.Camera`."""

    def __init__(self, capture: cv2.VideoCapture, name: str, live: bool) -> None:
        self._capture, self._name, self._live = capture, name, live

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """See `edgecnn_runtime.cameras.Camera`."""
        index = 0
        while self._capture.grab():
            captured_s = time.monotonic()
            there, picture = self._capture.retrieve()
            if not there:
                break
            yield Frame(np.asarray(picture, np.uint8), captured_s, index)
            index += 1
        if index == 0:
            raise EdgecnnError(f"{self._name}: opened, but gives no picture; does another program show it?")
        if self._live:
            raise EdgecnnError(f"{self._name}: stopped after {index} frames; is it still plugged in and reachable?")

    def close(self) -> None:
        """Frees the device."""
        self._capture.release()


def _is_url(source: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source) is not None


def _without_password(source: str) -> str:
    return re.sub(r"(?<=://)[^/]*@", "***@", source)


def _device(source: str) -> int | None:
    """A camera's number, also of a Linux device file or a link to one (/dev/v4l/by-id/…)."""
    found = re.fullmatch(r"([0-9]{1,3})", source) or re.fullmatch(r"/dev/video([0-9]{1,3})", os.path.realpath(source))
    return int(found[1]) if found else None


def _why_not(source: str, device: int | None) -> str:
    if device is None:
        if _is_url(source):
            where = _without_password(source)
            return f"{where}: no video there; check address, user, password and network, or try it in a browser or VLC"
        if not Path(source).is_file():
            return f"{source}: no such video file"
        return f"{source}: not a video, damaged, or of a kind that OpenCV does not read; save it as MP4 (H.264) or AVI"
    if sys.platform != "linux":
        return f"camera {device}: cannot be opened; is it plugged in, allowed in the privacy settings and not in use?"
    path, there = f"/dev/video{device}", sorted(glob.glob("/dev/video*"))
    if path not in there:
        known = f"there are {', '.join(there)}" if there else "there is no /dev/video* at all: plug a camera in"
        return f"camera {device}: no {path}; {known}, or name a video file or a URL"
    if not os.access(path, os.R_OK | os.W_OK):
        return f"camera {device}: no permission for {path}; run 'sudo usermod -aG video $USER' and log in again"
    return f"camera {device}: {path} gives no video; another program uses it, or try one of {', '.join(there)}"
