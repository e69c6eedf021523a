"""Cameras: one file per kind of source, which provides what `CameraModule` says.

A source is `kind:rest`, which names the file, else the first kind whose `claims` says yes takes it.
`edgecnn_runtime.live.capture` makes of an open camera what a program wants: the newest frame, or every one.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
from dataclasses import dataclass
from typing import Protocol

# OpenCV waits 10 s for a frame of a V4L2 device that has none, and reads this when it first waits.
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "1")
# FFmpeg reads this when it is first used; -8 is its AV_LOG_QUIET. What it would print is said once, by the error.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

from edgecnn_runtime.cameras._options import Flip, Options, Region, Rotation
from edgecnn_runtime.decode import Picture
from edgecnn_runtime.errors import EdgecnnError

__all__ = [
    "Camera",
    "CameraModule",
    "Flip",
    "Frame",
    "Options",
    "Region",
    "Rotation",
    "kind_of",
    "kinds",
    "open_camera",
    "shown",
]


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a camera.

    Attributes:
        picture: ``(H, W, 3)`` uint8, 0-255, **BGR**, which is what OpenCV draws and shows: classify it with "bgr".
            Nobody writes into it any more, so that threads can share it.
        captured_s: when it left the camera, in seconds of `time.monotonic`; of a recording, when it was handed over.
        index: 0 for the first good frame of the source, then counted up; frames that nobody took are counted too.
        at_s: seconds since the first frame, by the source's own clock: a recording's time, however fast it is read.
    """

    picture: Picture
    captured_s: float
    index: int
    at_s: float


class Camera(Protocol):
    """An open source of pictures, for one thread.

    Attributes:
        name: of the device, for messages; without a password.
        live: whether it goes on without an end; a recording ends.
        every: whether it is a collection that has no speed of its own, so that every picture counts.
        fps: frames per second as the source states them; 0 where it does not.
    """

    name: str
    live: bool
    every: bool
    fps: float

    def read(self) -> tuple[Picture | None, float]:
        """Waits for the next picture.

        Returns:
            (``(H, W, 3)`` uint8 BGR, 0-255, an array of its own, or None where it is damaged; when it was taken, in
            seconds: of a live source by `time.monotonic`, of a recording from its beginning). The caller checks both.

        Raises:
            EOFError: a recording is at its end.
            EdgecnnError: the device is gone, or hangs; it has to be opened again.
        """

    def close(self) -> None:
        """Frees the device; again is harmless."""


class CameraModule(Protocol):
    """What a module in this folder provides. Importing it must need nothing that is not installed everywhere."""

    def claims(self, source: str) -> bool:
        """Whether this kind takes a source that names no kind. Opens nothing."""

    def connect(self, source: str, options: Options) -> Camera:
        """Opens a source, without its `kind:`. Raises EdgecnnError, with everything freed, where that fails.

        Args:
            options: resolution and fps that a device may be asked for; that the pictures obey them is not its business.
        """


def kinds() -> tuple[str, ...]:
    """The names of the kinds of cameras."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


def open_camera(source: str, options: Options | None = None) -> Camera:
    """Opens a camera.

    Args:
        source: a camera's number ("0"), a video file, a folder, a URL (rtsp, http), or `kind:rest` with a kind of
            `kinds`.
        options: what the device is asked for.

    Raises:
        EdgecnnError: there is no such camera or file, or it cannot be opened.
    """
    kind, rest = kind_of(source)
    return _module(kind).connect(rest, options or Options())


def kind_of(source: str) -> tuple[str, str]:
    """A source's kind, and what that kind is to open. Raises EdgecnnError where no kind takes it."""
    if not source.strip():
        raise EdgecnnError("the camera's name is empty; it is a number, a video file, a folder, a URL or KIND:…")
    kind, _, rest = source.partition(":")
    if kind in kinds():
        return kind, rest
    for kind in kinds():
        if _module(kind).claims(source):
            return kind, source
    raise EdgecnnError(
        f"{shown(source)}: no such video file; a camera is a number, a video file, a folder, a URL or KIND:… "
        f"({', '.join(kinds())})"
    )


def shown(source: str) -> str:
    """A source as it may be printed: without user, password and parameters of its URLs, where secrets stand."""
    # A password may hold anything, blanks and "@" too; hiding too much does no harm.
    source = re.sub(r"([A-Za-z][\w+.-]+:/{1,2}).*@", r"\1***@", source)
    source = re.sub(r"([A-Za-z][\w+.-]+:/{1,2}[^\s?#]*[?#])\S+", r"\1***", source)
    # In paths, as some network cameras have them, and properties in GStreamer's pipelines.
    return re.sub(r"""(?i)((?:user[\w-]*|pass\w*|pwd|token|secret)=)(?:"[^"]*"|'[^']*'|\S)+""", r"\1***", source)


def _module(kind: str) -> CameraModule:
    module: CameraModule = importlib.import_module(f"{__name__}.{kind}")
    return module
