"""Folders of pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn_runtime.cameras import Options, open_camera
from edgecnn_runtime.errors import EdgecnnError


def test_pictures_come_in_the_order_of_their_names_as_bgr(tmp_path: Path) -> None:
    for name, bgr in (("b.png", (0, 0, 220)), ("a.png", (220, 0, 0)), ("é/c.png", (0, 220, 0))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        data = cv2.imencode(".png", np.full((8, 8 + ord(name[0]) % 3, 3), bgr, np.uint8))[1].tobytes()
        (tmp_path / name).write_bytes(data)
    (tmp_path / "b2.jpg").write_bytes(b"\xff\xd8\xff no picture")
    camera = open_camera(str(tmp_path))
    assert (camera.live, camera.every) == (False, True)
    readings = [camera.read() for _ in range(4)]
    assert [None if picture is None else int(picture[0, 0].argmax()) for picture, _ in readings] == [0, 2, None, 1]
    assert [time_s for _, time_s in readings] == [0, 1, 2, 3]
    with pytest.raises(EOFError):
        camera.read()
    camera.close()


def test_fps_say_how_far_apart_the_pictures_are(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jpg").touch()
    camera = open_camera(f"folder:{tmp_path}", Options(fps=10))
    assert [camera.read()[1] for _ in range(2)] == [0, 0.1]


def test_an_empty_and_a_missing_folder_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(EdgecnnError, match=r"no pictures in this folder \(found: 0 files\)"):
        open_camera(str(tmp_path))
    with pytest.raises(EdgecnnError, match="missing: no such folder"):
        open_camera("folder:missing")
