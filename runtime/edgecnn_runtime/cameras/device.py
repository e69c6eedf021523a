"""USB and built-in cameras by OpenCV: a number, or on Linux a device file (V4L2)."""

from __future__ import annotations

import glob
import os
import re
import sys

import cv2

from edgecnn_runtime.cameras import shown
from edgecnn_runtime.cameras._opencv import OpenCvCamera, silence
from edgecnn_runtime.cameras._options import Options
from edgecnn_runtime.errors import EdgecnnError


def claims(source: str) -> bool:
    """Numbers, and names in /dev, also of what is not plugged in at the moment."""
    return _number(source) is not None or (source.startswith("/dev/") and not os.path.exists(source))


def connect(source: str, options: Options) -> OpenCvCamera:
    """Opens a camera's number or device file. Raises EdgecnnError."""
    silence()
    # Asked anew each time: what is plugged in again may have another number, behind the same /dev/v4l/by-id/ name.
    number = _number(source)
    if number is None:
        name = shown(source) or "device:"
        raise EdgecnnError(f"{name}: no such camera; plug it in, or name another ({_found()})")
    # On Linux V4L2 alone: with a GStreamer build OpenCV would take that, which ignores the settings below.
    capture = cv2.VideoCapture(number, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
    if not capture.isOpened():
        capture.release()
        raise EdgecnnError(_why_not(number))
    if options.resolution is not None:
        # Uncompressed video at full rate is more than USB 2 carries beyond 640x480.
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, options.resolution[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, options.resolution[1])
    if options.fps is not None:
        capture.set(cv2.CAP_PROP_FPS, options.fps)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame; the driver would keep old ones waiting
    return OpenCvCamera(capture, f"camera {number}", live=True)


def _number(source: str) -> int | None:
    """A camera's number, also of a Linux device file or a link to one (/dev/v4l/by-id/…)."""
    found = re.fullmatch(r"([0-9]{1,3})", source) or re.fullmatch(r"/dev/video([0-9]{1,3})", os.path.realpath(source))
    return int(found[1]) if found else None


def _found() -> str:
    return f"found: {', '.join(sorted(glob.glob('/dev/video*'))) or 'no /dev/video*'}"


def _why_not(number: int) -> str:
    if sys.platform != "linux":
        return (
            f"camera {number}: is it plugged in, allowed in the privacy settings and not in use? "
            "(received: OpenCV cannot open it)"
        )
    path = f"/dev/video{number}"
    if path not in glob.glob("/dev/video*"):
        return f"camera {number}: no {path}; plug a camera in, or name a video file or a URL ({_found()})"
    if not os.access(path, os.R_OK | os.W_OK):
        return (
            f"camera {number}: run 'sudo usermod -aG video $USER' and log in again (received: no permission for {path})"
        )
    if user := using(path):
        return f"camera {number}: serves one program at a time; end the other one ({path} is open in: {user})"
    return f"camera {number}: {path} gives no video; another program uses it, or try another one ({_found()})"


def using(path: str) -> str | None:
    """Which other process has a device file open, as "NAME, process ID"; None where none is seen.

    On Linux alone, and only processes that this user may look into.
    """
    for descriptor in glob.glob("/proc/[0-9]*/fd/*"):
        process = descriptor.split("/")[2]
        try:
            if process != str(os.getpid()) and os.path.realpath(descriptor) == os.path.realpath(path):
                with open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as name:
                    return f"{name.read().strip()}, process {process}"
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return None
