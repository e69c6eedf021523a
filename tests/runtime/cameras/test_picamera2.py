"""Raspberry Pi camera modules, by a stand-in with picamera2's documented interface: no Pi is at hand."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgecnn_runtime.cameras import Options, open_camera
from edgecnn_runtime.errors import EdgecnnError

STAND_IN = Path(__file__).with_name("picamera2_stand_in.py")


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    shutil.copy(STAND_IN, tmp_path / "picamera2.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "picamera2", raising=False)
    import picamera2

    yield picamera2
    monkeypatch.delitem(sys.modules, "picamera2", raising=False)


def test_frames_are_bgr_of_the_size_asked_for_with_the_sensors_time(stand_in: Any) -> None:
    camera = open_camera("picamera2:0", Options(resolution=(320, 240), fps=15))
    before = time.monotonic()
    picture, time_s = camera.read()
    camera.close()
    assert picture is not None
    assert picture.shape == (240, 320, 3)
    assert picture[..., 0].min() == 200
    assert before - 0.02 <= time_s <= time.monotonic() - 0.014
    (_, number), (_, config), *rest = stand_in.Picamera2.calls
    assert number == 0
    assert config["main"] == {"size": (320, 240), "format": "RGB888"}
    assert config["controls"] == {"FrameRate": 15}
    assert rest == [("start",), ("close",)]
    assert stand_in.Request.held == 0
    assert (camera.live, camera.fps, camera.name) == (True, 15, "picamera2:0")


def test_a_busy_camera_a_silent_one_and_one_that_is_not_there_are_one_line(
    stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EdgecnnError, match=r"^picamera2:1: no such camera module; .*\(found: 1\)$"):
        open_camera("picamera2:1")
    with pytest.raises(EdgecnnError, match=r"named by its number"):
        open_camera("picamera2:front")
    camera = open_camera("picamera2:")
    monkeypatch.setenv("STAND_IN", "silent")
    with pytest.raises(EdgecnnError, match=r"^picamera2:0: gives no picture"):
        camera.read()
    monkeypatch.setenv("STAND_IN", "torn")
    with pytest.raises(EdgecnnError, match=r"^picamera2:0: stopped \(received: cannot reshape array\)$"):
        camera.read()
    assert stand_in.Request.held == 0
    camera.close()
    monkeypatch.setenv("STAND_IN", "no list")
    with pytest.raises(EdgecnnError, match=r"^picamera2:0: libcamera cannot list .*handler gone"):
        open_camera("picamera2:0")
    monkeypatch.setenv("STAND_IN", "busy")
    with pytest.raises(EdgecnnError, match=r"one program at a time.*received: .*resource busy"):
        open_camera("picamera2:0")


def test_a_picamera2_made_for_another_numpy_is_one_line(stand_in: Any, tmp_path: Path) -> None:
    (tmp_path / "picamera2.py").write_text("raise ValueError('numpy.dtype size changed')", "utf-8")
    del sys.modules["picamera2"]
    with pytest.raises(EdgecnnError, match=r"^picamera2:0: .*edgecnn doctor.*received: numpy.dtype size changed"):
        open_camera("picamera2:0")


def test_without_picamera2_the_line_has_the_apt_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(EdgecnnError, match=r"^picamera2:0: .*sudo apt install -y python3-picamera2"):
        open_camera("picamera2:0")
