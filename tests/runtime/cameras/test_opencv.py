"""Cameras without a camera: real video files, a real network stream, and everything that can be missing."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn_runtime.cameras import Frame, kinds, open_camera, opencv
from edgecnn_runtime.errors import EdgecnnError

STREAM_FRAMES = 12


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Ten red, then five blue frames of 160x120, under a name that FFmpeg alone would take for a URL."""
    path = tmp_path / "a:forêt d'été.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (160, 120))
    for bgr in [(0, 0, 220)] * 10 + [(220, 0, 0)] * 5:
        writer.write(np.full((120, 160, 3), bgr, np.uint8))
    writer.release()
    return path


@pytest.fixture
def stream() -> Iterator[str]:
    """The URL of a network camera that breaks off after `STREAM_FRAMES` frames."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            jpeg = cv2.imencode(".jpg", np.full((120, 160, 3), (0, 200, 0), np.uint8))[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
            for _ in range(STREAM_FRAMES):
                self.wfile.write(head + jpeg + b"\r\n")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://user:secret@127.0.0.1:{server.server_port}/video"
        server.shutdown()


@pytest.mark.parametrize("prefix", ["", "opencv:"])
def test_a_file_gives_all_its_frames_in_order_as_bgr(video: Path, prefix: str) -> None:
    before = time.monotonic()
    with open_camera(f"{prefix}{video}") as camera:
        frames = list(camera)
    assert [frame.index for frame in frames] == list(range(15))
    assert all(frame.picture.shape == (120, 160, 3) and frame.picture.dtype == np.uint8 for frame in frames)
    assert [int(frame.picture.mean((0, 1)).argmax()) for frame in frames] == [2] * 10 + [0] * 5
    times = [before, *(frame.captured_s for frame in frames), time.monotonic()]
    assert times == sorted(times)


def test_frames_are_arrays_of_their_own(video: Path) -> None:
    with open_camera(str(video)) as camera:
        first, second = (frame for frame, _ in zip(camera, range(2), strict=False))
        first.picture[:] = 0
        assert second.picture.any()


def test_close_frees_the_device_also_after_an_error(video: Path) -> None:
    camera = open_camera(str(video))

    def fail() -> None:
        with camera:
            next(iter(camera))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert isinstance(camera, opencv.OpenCvCamera)
    assert not camera._capture.isOpened()
    camera.close()


def test_a_live_source_that_stops_is_an_error_without_the_password(stream: str) -> None:
    received: list[Frame] = []
    with open_camera(stream) as camera, pytest.raises(EdgecnnError, match=f"stopped after {STREAM_FRAMES}") as error:
        received.extend(camera)
    assert [int(frame.picture.mean((0, 1)).argmax()) for frame in received] == [1] * STREAM_FRAMES
    assert "secret" not in str(error.value)


def test_a_recording_behind_a_url_ends(video: Path) -> None:
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *arguments: handler(*arguments, directory=str(video.parent))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        video.rename(video.with_name("clip.avi"))
        with open_camera(f"http://127.0.0.1:{server.server_port}/clip.avi") as camera:
            assert len(list(camera)) == 15
        server.shutdown()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.avi", "missing.avi: no such video file"),
        ("opencv:missing.avi", "missing.avi: no such video file"),
        ("http://me:secret@127.0.0.1:9/x", r"http://\*\*\*@127.0.0.1:9/x: no video there"),
        ("rtsp://127.0.0.1:9/x", "no video there"),
        ("/dev/video987", "no /dev/video987"),
        ("987", "camera 987: .*, or name a video file"),
        ("98765", "98765: no such video file"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="device files are Linux")
def test_what_is_not_there_is_one_line(source: str, message: str) -> None:
    with pytest.raises(EdgecnnError, match=message) as error:
        open_camera(source)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_a_damaged_video_and_a_folder_are_one_line(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(500))
    with pytest.raises(EdgecnnError, match=r"damaged\.mp4: not a video, damaged"):
        open_camera(str(damaged))
    with pytest.raises(EdgecnnError, match="no such video file"):
        open_camera(str(tmp_path))


def test_a_device_that_may_not_be_read_names_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opencv.sys, "platform", "linux")
    monkeypatch.setattr(opencv.glob, "glob", lambda _: ["/dev/video987", "/dev/video988"])
    monkeypatch.setattr(opencv.os, "access", lambda *_: False)
    with pytest.raises(EdgecnnError, match="usermod -aG video"):
        open_camera("987")
    monkeypatch.setattr(opencv.os, "access", lambda *_: True)
    with pytest.raises(EdgecnnError, match="another program uses it, or try one of /dev/video987, /dev/video988"):
        open_camera("987")


def test_a_link_to_a_device_is_that_device(tmp_path: Path) -> None:
    link = tmp_path / "usb-camera"
    link.symlink_to("/dev/video987")
    assert opencv.claims(str(link))
    with pytest.raises(EdgecnnError, match="camera 987"):
        open_camera(str(link))


def test_listing_finds_the_file_and_nothing_private() -> None:
    assert "opencv" in kinds()
    assert not any(kind.startswith("_") for kind in kinds())


def test_opencv_and_ffmpeg_print_nothing_even_when_opencv_was_imported_first(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.avi"
    damaged.write_bytes(b"RIFF\0\0\0\0AVI " + bytes(500))
    sources = ["0", "987", str(damaged), "http://127.0.0.1:9/x", "rtsp://127.0.0.1:9/x"]
    code = (
        "import cv2\nfrom edgecnn_runtime.cameras import open_camera\nfrom edgecnn_runtime.errors import EdgecnnError\n"
        f"for source in {sources!r}:\n    try:\n        open_camera(source)\n    except EdgecnnError: pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout + done.stderr == ""
