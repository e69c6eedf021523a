"""Network cameras and recordings by OpenCV's FFmpeg: RTSP, HTTP (MJPEG and files), and what else FFmpeg speaks."""

from __future__ import annotations

import os
import re
import socket
import time
from urllib.parse import urlsplit

import cv2

from edgecnn_runtime.cameras import shown
from edgecnn_runtime.cameras._opencv import OpenCvCamera, silence
from edgecnn_runtime.cameras._options import Options
from edgecnn_runtime.errors import EdgecnnError

# OpenCV's own 30 s looks like a hang; a camera may take 5 s to describe its stream. One that has been open before takes
# about as long again: where it takes much longer, it is only half there, and a new connection is needed.
_OPEN_TIMEOUT_S = 6.5
_LEAST_OPEN_TIMEOUT_S = 1.5
_took_s: dict[str, float] = {}  # URL -> how long it took to open
_READ_TIMEOUT_MS = 1_500  # a stream that stalls longer is opened again; nothing else ends the wait
_REACH_TIMEOUT_S = 2.0
_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtmp": 1935}


def claims(source: str) -> bool:
    """Anything with a scheme: scheme://…"""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source) is not None


def connect(source: str, options: Options) -> OpenCvCamera:
    """Opens a URL. Raises EdgecnnError, which does not name the password."""
    silence()
    name = shown(source) or "url:"
    _reach(source, name)
    open_ms = round(1e3 * open_timeout_s(source))
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_TIMEOUT_MS]
    start_s = time.monotonic()
    capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, timeouts)
    if not capture.isOpened():
        capture.release()
        raise EdgecnnError(
            f"{name}: no video there; check path, user and password, or try it in a browser or VLC "
            "(received: an answer that FFmpeg cannot read)"
        )
    _took_s[source] = time.monotonic() - start_s
    # A stream without an end states no length; a recording behind a URL does.
    return OpenCvCamera(capture, name, live=capture.get(cv2.CAP_PROP_FRAME_COUNT) <= 0)


def open_timeout_s(source: str) -> float:
    """How long a URL may take to open: longer the first time than again."""
    if source not in _took_s:
        return _OPEN_TIMEOUT_S
    return min(_OPEN_TIMEOUT_S, max(_LEAST_OPEN_TIMEOUT_S, 2 * _took_s[source]))


def _reach(source: str, name: str) -> None:
    """Whether anybody is there, which FFmpeg would find out more slowly and not say."""
    try:
        parts = urlsplit(source)
        address = (parts.hostname, parts.port or _PORTS.get(parts.scheme.lower()))
    except ValueError as error:
        raise EdgecnnError(
            f"{name}: a camera's URL is like rtsp://USER:PASSWORD@HOST:554/PATH (received: no address)"
        ) from error
    through_proxy = any(os.environ.get(variable) for variable in ("http_proxy", "https_proxy"))
    if address[0] is None or address[1] is None or through_proxy:
        return  # FFmpeg's to judge
    try:
        socket.create_connection(address, _REACH_TIMEOUT_S).close()
    except (OSError, UnicodeError) as error:  # the latter for a name that can be no host's
        raise EdgecnnError(
            f"{name}: no video there; check address and network, and that the camera is on "
            f"(received: {getattr(error, 'strerror', None) or error})"
        ) from error
