"""Cameras with a number, without one: everything that can be missing. None is plugged into the machine that tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgecnn_runtime.cameras import device, open_camera
from edgecnn_runtime.errors import EdgecnnError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="device files are Linux")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("987", r"^camera 987: no /dev/video987; .*name a video file or a URL \(found: .*\)$"),
        ("/dev/video987", "^camera 987: no /dev/video987"),
        ("device:987", "^camera 987: no /dev/video987"),
        ("/dev/v4l/by-id/usb-none", r"^/dev/v4l/by-id/usb-none: no such camera.*\(found: "),
    ],
)
def test_a_missing_camera_is_one_line_with_those_that_are_there(source: str, message: str) -> None:
    with pytest.raises(EdgecnnError, match=message) as error:
        open_camera(source)
    assert "\n" not in str(error.value)


def test_a_device_that_may_not_be_read_names_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"/dev/video*": ["/dev/video987", "/dev/video988"]}
    monkeypatch.setattr(device.glob, "glob", lambda pattern: found.get(pattern, []))
    monkeypatch.setattr(device.os, "access", lambda *_: False)
    with pytest.raises(EdgecnnError, match=r"usermod -aG video.*no permission for /dev/video987"):
        open_camera("987")
    monkeypatch.setattr(device.os, "access", lambda *_: True)
    with pytest.raises(EdgecnnError, match=r"another program uses it.*found: /dev/video987, /dev/video988"):
        open_camera("987")


def test_a_link_to_a_device_is_that_device(tmp_path: Path) -> None:
    link = tmp_path / "usb-camera"
    link.symlink_to("/dev/video987")
    assert device.claims(str(link))
    with pytest.raises(EdgecnnError, match="camera 987"):
        open_camera(str(link))


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no /dev/shm")
def test_files_and_folders_in_dev_are_no_devices() -> None:
    assert not device.claims("/dev/shm")


def test_the_other_process_that_holds_a_device_is_named(tmp_path: Path) -> None:
    path = tmp_path / "video0"
    path.touch()
    assert device.using(str(path)) is None
    with path.open():
        assert device.using(str(path)) is None  # this process itself is not another
    code = f"file = open({str(path)!r}); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        user = device.using(str(path))
        holder.communicate(b"\n", timeout=30)
    assert user is not None
    assert user.endswith(f", process {holder.pid}")


def test_a_device_in_use_says_by_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "using", lambda path: "edgecnn, process 4711")
    monkeypatch.setattr(device.glob, "glob", lambda _: ["/dev/video987"])
    monkeypatch.setattr(device.os, "access", lambda *_: True)
    with pytest.raises(EdgecnnError, match=r"^camera 987: .*end the other one .*edgecnn, process 4711"):
        open_camera("987")
