"""Video files: real ones, damaged ones, and none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn_runtime.cameras import Camera, open_camera
from edgecnn_runtime.decode import Picture
from edgecnn_runtime.errors import EdgecnnError


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Ten red, then five blue frames of 160x120, under a name that FFmpeg alone would take for a URL."""
    path = tmp_path / "a:forêt d'été.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (160, 120))
    for bgr in [(0, 0, 220)] * 10 + [(220, 0, 0)] * 5:
        writer.write(np.full((120, 160, 3), bgr, np.uint8))
    writer.release()
    return path


def read_all(camera: Camera) -> list[tuple[Picture, float]]:
    readings = []
    try:
        while True:
            picture, time_s = camera.read()
            assert picture is not None
            readings.append((picture, time_s))
    except EOFError:
        return readings
    finally:
        camera.close()


@pytest.mark.parametrize("prefix", ["", "video:"])
def test_a_file_gives_all_its_frames_in_order_as_bgr_with_their_times(video: Path, prefix: str) -> None:
    camera = open_camera(f"{prefix}{video}")
    assert (camera.live, camera.every, camera.fps) == (False, False, 30)
    readings = read_all(camera)
    assert all(picture.shape == (120, 160, 3) and picture.dtype == np.uint8 for picture, _ in readings)
    assert [int(picture.mean((0, 1)).argmax()) for picture, _ in readings] == [2] * 10 + [0] * 5
    assert [time_s for _, time_s in readings] == pytest.approx([index / 30 for index in range(15)], abs=1e-3)


def test_an_mp4_has_its_own_times_too(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 12.5, (160, 120))
    for index in range(8):
        writer.write(np.full((120, 160, 3), 20 * index, np.uint8))
    writer.release()
    times = [time_s for _, time_s in read_all(open_camera(str(path)))]
    assert np.diff(times) == pytest.approx([0.08] * 7, abs=1e-3)


def test_pictures_are_arrays_of_their_own(video: Path) -> None:
    camera = open_camera(str(video))
    first, second = camera.read()[0], camera.read()[0]
    assert first is not None
    assert second is not None
    first[:] = 0
    assert second.any()
    camera.close()
    camera.close()


def test_what_is_missing_or_damaged_is_one_line(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(500))
    with pytest.raises(EdgecnnError, match=r"damaged\.mp4: not a video, damaged"):
        open_camera(str(damaged))
    for source in ("missing.avi", "video:missing.avi"):
        with pytest.raises(EdgecnnError, match=r"^missing\.avi: no such video file"):
            open_camera(source)


def test_a_truncated_video_gives_what_is_whole(tmp_path: Path) -> None:
    path, rng = tmp_path / "cut.avi", np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (160, 120))
    for _ in range(15):
        writer.write(rng.integers(0, 255, (120, 160, 3), np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 1 <= len(read_all(open_camera(str(path)))) < 15
