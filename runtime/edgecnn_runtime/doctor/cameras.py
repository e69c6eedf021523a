"""Cameras: those that a number names (V4L2), and camera modules of the Raspberry Pi (libcamera)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from edgecnn_runtime.doctor import Finding, text_of
from edgecnn_runtime.doctor._child import Said, ask

# Devices of a Raspberry Pi that are no cameras: codecs and parts of the image processor.
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
answer = [str(camera.get("Model", "a camera")) for camera in Picamera2.global_camera_info()]
"""
_PICAMERA2 = (
    "sudo apt install -y python3-picamera2, and an environment made with: python3 -m venv --system-site-packages"
)


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
        _camera(_number(device), name, ask)
        for device, name in names.items()
        if not name.startswith((*_NO_CAMERA, *_MODULE)) and text_of(device / "index") in ("", "0")
    ]
    wired = any(name.startswith(_MODULE) for name in names.values())
    found += _modules(wired, ask)
    if not found:
        remedy = "plug one in; a URL, a video file, or fake: needs none"
        return [Finding("camera", "warn", "none found", remedy)]
    return found


def _camera(number: int, name: str, ask: Callable[[str], Said]) -> Finding:
    said = ask(_READ.format(str(number)))
    if said.answer:
        return Finding(f"camera {number}", "ok", f"{name}, {said.answer} px")
    # The camera's own error says what to do, and in brackets what is so.
    words = re.sub(r"^(EdgecnnError: )?(camera \d+: )?", "", said.error) or "try another (it gave a damaged picture)"
    parts = re.fullmatch(r"(.*) \((?:received: )?(.*)\)", words)
    found, remedy = (parts[2], parts[1]) if parts else (words, "plug it in again, or try another one")
    # That somebody uses it, `edgecnn live` itself perhaps, is no fault.
    return Finding(f"camera {number}", "warn" if "is open in" in found else "fail", f"{name}: {found}", remedy)


def _modules(wired: bool, ask: Callable[[str], Said]) -> list[Finding]:
    said = ask(_MODULES)
    if said.error:
        if not wired:
            return []
        if said.error.startswith("ModuleNotFoundError"):
            return [Finding("camera module", "warn", "connected, but picamera2 is not installed", _PICAMERA2)]
        return [Finding("camera module", "fail", f"picamera2 does not load: {said.error}", "pip install 'numpy<2'")]
    models = list(said.answer or [])
    if wired and not models:
        return [Finding("camera module", "fail", "libcamera finds none", "check its cable, and start the board again")]
    return [Finding(f"camera picamera2:{number}", "ok", model) for number, model in enumerate(models)]


def _number(device: Path) -> int:
    digits = re.sub(r"\D", "", device.name)
    return int(digits) if digits else 0
