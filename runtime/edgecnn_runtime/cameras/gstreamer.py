"""GStreamer pipelines by OpenCV, where it is built with them: `gstreamer:v4l2src ! …`."""

from __future__ import annotations

import re

import cv2

from edgecnn_runtime.cameras import shown
from edgecnn_runtime.cameras._opencv import OpenCvCamera, silence
from edgecnn_runtime.cameras._options import Options
from edgecnn_runtime.errors import EdgecnnError

# appsink hands BGR over, and throws away what nobody has taken, instead of keeping it.
_END = " ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"


def claims(source: str) -> bool:
    """Only what is called gstreamer:…"""
    return False


def connect(source: str, options: Options) -> OpenCvCamera:
    """Starts a pipeline; one without an appsink gets one. Raises EdgecnnError."""
    silence()
    name = f"gstreamer:{shown(source)}"
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        raise EdgecnnError(
            f"{name}: this OpenCV is built without GStreamer, as those of pip are; build OpenCV 4.11 or newer with it "
            f"(received: OpenCV {cv2.__version__})"
        )
    pipeline = source if re.search(r"\bappsink\b", source) else source + _END
    capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        capture.release()
        raise EdgecnnError(
            f"{name}: the pipeline does not start; try it with gst-launch-1.0, which says why "
            f"(received: {shown(pipeline)})"
        )
    return OpenCvCamera(capture, name, live=True)
