"""Video files by OpenCV's FFmpeg."""

from __future__ import annotations

import os
from pathlib import Path

import cv2

from edgecnn_runtime.cameras import shown
from edgecnn_runtime.cameras._opencv import OpenCvCamera, silence
from edgecnn_runtime.cameras._options import Options
from edgecnn_runtime.errors import EdgecnnError


def claims(source: str) -> bool:
    """Existing files."""
    return Path(source).is_file()


def connect(source: str, options: Options) -> OpenCvCamera:
    """Opens a video file. Raises EdgecnnError."""
    name = shown(source) or "video:"
    if not Path(source).is_file():
        raise EdgecnnError(f"{name}: no such video file (found: {'a folder' if os.path.isdir(source) else 'nothing'})")
    silence()
    # FFmpeg alone: OpenCV's other readers print, and take a picture's name for that of a numbered series. The path
    # is made absolute since FFmpeg would take the beginning of "a:b.avi" for a protocol.
    capture = cv2.VideoCapture(os.path.abspath(source), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        capture.release()
        raise EdgecnnError(
            f"{name}: not a video, damaged, or of a kind that OpenCV does not read; save it as MP4 (H.264) or AVI "
            f"(received: {os.path.getsize(source):,} bytes)"
        )
    return OpenCvCamera(capture, name, live=False)
