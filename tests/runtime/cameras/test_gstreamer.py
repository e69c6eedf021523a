"""GStreamer: tried where OpenCV is built with it, which pip's is not; the refusal elsewhere."""

from __future__ import annotations

import cv2
import pytest

from edgecnn_runtime.cameras import open_camera
from edgecnn_runtime.errors import EdgecnnError

THERE = cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)


@pytest.mark.skipif(THERE, reason="this OpenCV has GStreamer")
def test_without_gstreamer_a_line_says_where_it_is_to_be_had() -> None:
    with pytest.raises(EdgecnnError, match=r"^gstreamer:rtspsrc location=rtsp://\*\*\*@cam: .*build OpenCV") as error:
        open_camera("gstreamer:rtspsrc location=rtsp://me:secret@cam")
    assert str(error.value).endswith(f"(received: OpenCV {cv2.__version__})")


@pytest.mark.skipif(not THERE, reason="this OpenCV is built without GStreamer")
def test_a_pipeline_without_an_end_gives_bgr_pictures() -> None:
    camera = open_camera("gstreamer:videotestsrc pattern=red num-buffers=5 ! video/x-raw,width=64,height=48")
    picture, _ = camera.read()
    camera.close()
    assert picture is not None
    assert picture[0, 0].argmax() == 2
    with pytest.raises(EdgecnnError, match="gst-launch"):
        open_camera("gstreamer:nosuchelement")
