"""Cameras: those that a number names (V4L2), and camera modules of the Raspberry Pi (libcamera)."""

from __future__ import annotations

import os
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from edgecnn_runtime.doctor import Finding, State, text_of
from edgecnn_runtime.doctor._child import Said, ask
from edgecnn_runtime.doctor.software import OLDER_NUMPY, is_of_older_numpy

# Devices of a Raspberry Pi that are no cameras, though some say so: codecs and parts of the image processor.
_NO_CAMERA = ("bcm2835-codec", "bcm2835-isp", "rpivid", "rpi-hevc-dec", "pispbe", "rp1-cfe-fe", "rp1-cfe-embedded")
# Receivers of a camera module, which give nothing but raw data; libcamera makes pictures of it.
_MODULE = ("unicam", "rp1-cfe")
_READ = """
from edgecnn_runtime.cameras import open_camera
camera = open_camera({!r})
picture, _ = camera.read()
answer = None if picture is None else f"{{picture.shape[1]}}x{{picture.shape[0]}}"
camera.close()
"""
_MODULES = """
from picamera2 import Picamera2
info = enumerate(Picamera2.global_camera_info())
answer = [[n, str(one.get("Model", "a camera"))] for n, one in info if "usb" not in str(one.get("Id")).lower()]
"""
# https://www.kernel.org/doc/html/latest/userspace-api/media/v4l/vidioc-querycap.html: struct v4l2_capability has the
# driver's capabilities at byte 84, and behind them, where they say so, this device's own; pictures in one plane and in
# several.
_QUERYCAP, _CAPABILITY_BYTES, _CAPABILITIES = 0x80685600, 104, 84
_CAPTURES, _HAS_OWN = 0x1 | 0x1000, 0x80000000
_PICAMERA2 = (
    "sudo apt install -y python3-picamera2, and an environment made with: python3 -m venv --system-site-packages"
)
_AGAIN = "sudo apt install --reinstall -y python3-picamera2 python3-libcamera"
_GROUP = "run 'sudo usermod -aG video $USER' and log in again"


def cameras(root: Path, ask: Callable[[str], Said] = ask) -> list[Finding]:
    """Every camera by the name that `--camera` takes, and whether it gives a picture.

    Args:
        ask: runs Python lines in another process, as `edgecnn_runtime.doctor._child.ask`.
    """
    if sys.platform != "linux":
        return [Finding("camera", "unknown", "this system does not list them; edgecnn live MODEL --camera 0 tries one")]
    devices = sorted((root / "sys/class/video4linux").glob("video*"), key=_number)
    names = {device: text_of(device / "name") for device in devices}
    # A USB camera has a second device with data about its pictures, of index 1.
    found = [
        _camera(str(_number(device)), name, ask)
        for device, name in names.items()
        if not name.startswith((*_NO_CAMERA, *_MODULE))
        and text_of(device / "index") in ("", "0")
        and _captures(root / "dev" / device.name)
    ]
    wired = any(name.startswith(_MODULE) for name in names.values())
    found += _modules(root, wired, ask)
    if not found:
        remedy = "plug one in; a URL, a video file, or fake: needs none"
        return [Finding("camera", "warn", "none found", remedy)]
    return found


def _captures(device: Path) -> bool:
    """Whether a device of V4L2 gives pictures, and does not code or draw them; so is one that cannot be asked."""
    import fcntl

    answer = bytearray(_CAPABILITY_BYTES)
    try:
        with device.open("rb", buffering=0) as file:
            fcntl.ioctl(file, _QUERYCAP, answer)
    except OSError:
        return True
    every, own = struct.unpack_from("=II", answer, _CAPABILITIES)
    return bool((own if every & _HAS_OWN else every) & _CAPTURES)


def _camera(source: str, name: str, ask: Callable[[str], Said]) -> Finding:
    """A camera by what `--camera` takes, which is tried."""
    said = ask(_READ.format(source))
    if said.answer:
        return Finding(f"camera {source}", "ok", f"{name}, {said.answer} px")
    # The camera's own error says what to do, and in brackets what is so.
    words = re.sub(r"^(EdgecnnError: )?((camera |picamera2:)\d+: )?", "", said.error)
    words = words or "try another (it gave a damaged picture)"
    parts = re.fullmatch(r"(.*) \((?:received: )?(.*)\)", words)
    found, remedy = (parts[2], parts[1]) if parts else (words, "plug it in again, or try another one")
    # That somebody uses it, `edgecnn live` itself perhaps, is no fault.
    state: State = "warn" if "one program at a time" in words else "fail"
    return Finding(f"camera {source}", state, f"{name}: {found}", remedy)


def _modules(root: Path, wired: bool, ask: Callable[[str], Said]) -> list[Finding]:
    said = ask(_MODULES)
    if said.error:
        missing = said.error.startswith("ModuleNotFoundError")
        if missing and not wired:
            return []
        if missing:
            return [Finding("camera module", "warn", "connected, but picamera2 is not installed", _PICAMERA2)]
        remedy = OLDER_NUMPY if is_of_older_numpy(said.error) else _AGAIN
        return [Finding("camera module", "fail", f"picamera2 does not load: {said.error}", remedy)]
    models = list(said.answer or [])
    if wired and not models:
        nodes = list((root / "dev").glob("media*"))
        if nodes and not any(os.access(node, os.R_OK | os.W_OK) for node in nodes):
            return [Finding("camera module", "fail", f"no permission for {nodes[0]}", _GROUP)]
        return [Finding("camera module", "fail", "libcamera finds none", "check its cable, and start the board again")]
    return [_camera(f"picamera2:{number}", model, ask) for number, model in models]


def _number(device: Path) -> int:
    digits = re.sub(r"\D", "", device.name)
    return int(digits) if digits else 0
