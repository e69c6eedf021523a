"""Network cameras: a real server on this machine that streams, stalls, breaks off, and is not there."""

from __future__ import annotations

import http.server
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn_runtime.cameras import open_camera
from edgecnn_runtime.cameras.url import open_timeout_s
from edgecnn_runtime.errors import EdgecnnError

STREAM_FRAMES = 12


@pytest.fixture
def stream() -> Iterator[str]:
    """The URL of a network camera that breaks off after `STREAM_FRAMES` frames, and wants a password."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            jpeg = cv2.imencode(".jpg", np.full((120, 160, 3), (0, 200, 0), np.uint8))[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
            for _ in range(STREAM_FRAMES):
                self.wfile.write(head + jpeg + b"\r\n")
            if "stall" in self.path:
                time.sleep(4)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://user:secret@127.0.0.1:{server.server_port}/video"
        server.shutdown()


@pytest.mark.parametrize("path", ["", "/stall"])
def test_a_stream_that_breaks_off_or_stalls_is_an_error_without_the_password(stream: str, path: str) -> None:
    source = stream + path
    first_s = open_timeout_s(source)
    camera, received = open_camera(source), []
    assert camera.live
    assert open_timeout_s(source) < first_s, "a camera that is back but does not answer yet is asked again soon"
    before = time.monotonic()
    try:
        while True:
            picture, time_s = camera.read()
            assert picture is not None
            assert before <= time_s <= time.monotonic()
            received.append(picture)
    except EdgecnnError as error:
        message = str(error)
    camera.close()
    assert re.fullmatch(rf"http://\*\*\*@127.*: stopped; .*received: {len(received)} frames\)", message)
    # FFmpeg does not show the last part of a stream before the next begins.
    assert [int(picture.mean((0, 1)).argmax()) for picture in received] == [1] * len(received)
    assert len(received) >= STREAM_FRAMES - 1
    assert "secret" not in message


def test_a_recording_behind_a_url_ends(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (160, 120))
    for _ in range(15):
        writer.write(np.full((120, 160, 3), 90, np.uint8))
    writer.release()
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *arguments: handler(*arguments, directory=str(tmp_path))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        camera = open_camera(f"http://127.0.0.1:{server.server_port}/clip.avi")
        assert not camera.live
        for _ in range(15):
            assert camera.read()[0] is not None
        with pytest.raises(EOFError):
            camera.read()
        camera.close()
        server.shutdown()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "http://me:secret@127.0.0.1:9/x",
            r"^http://\*\*\*@127.0.0.1:9/x: no video there; .*received: Connection refused",
        ),
        ("rtsp://127.0.0.1:9/x?pwd=secret", r"^rtsp://127.0.0.1:9/x\?\*\*\*: no video there"),
        ("url:rtsp://127.0.0.1:9/x", "no video there"),
        ("http://me:secret@127.0.0.1:99999/x", "no address"),
        ("http://me:secret@cam..local/x", "no video there; .*received: .*label"),
        ("nonsense://127.0.0.1/x", "no video there"),
    ],
)
def test_what_is_not_there_is_one_line_without_the_password(source: str, message: str) -> None:
    with pytest.raises(EdgecnnError, match=message) as error:
        open_camera(source)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)
