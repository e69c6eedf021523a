"""Cameras: one file per kind of source, which provides what `CameraModule` says.

A source is `kind:rest`, which names the file, else the first kind whose `claims` says yes takes it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from edgecnn_runtime.decode import Picture
from edgecnn_runtime.errors import EdgecnnError


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a camera.

    Attributes:
        picture: ``(H, W, 3)`` uint8, 0-255, **BGR**, which is what OpenCV draws and shows: classify it with "bgr".
        captured_s: when it left the camera, in seconds of `time.monotonic`.
        index: 0 for the first frame, then counted up.
    """

    picture: Picture
    captured_s: float
    index: int


class Camera(Protocol):
    """An open source of frames. Use it in a `with` statement, so that the device is free again whatever happens."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __iter__(self) -> Iterator[Frame]:
        """The frames, once, until a recording ends.

        Raises:
            EdgecnnError: there was no frame at all, or a live source stopped giving any.
        """

    def close(self) -> None:
        """Frees the device; again is harmless."""


class CameraModule(Protocol):
    """What a module in this folder provides. Importing it must need nothing that is not installed everywhere."""

    def claims(self, source: str) -> bool:
        """Whether this kind takes a source that names no kind. Opens nothing."""

    def connect(self, source: str) -> Camera:
        """Opens a source, without its `kind:`. Raises EdgecnnError, with everything freed, where that fails."""


def kinds() -> tuple[str, ...]:
    """The names of the kinds of cameras."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


def open_camera(source: str) -> Camera:
    """Opens a camera.

    Args:
        source: a camera's number ("0"), a video file, a URL (rtsp, http), or `kind:rest` with a kind of `kinds`.

    Raises:
        EdgecnnError: there is no such camera or file, or it cannot be opened.
    """
    kind, _, rest = source.partition(":")
    if kind in kinds():
        return _module(kind).connect(rest)
    for module in map(_module, kinds()):
        if module.claims(source):
            return module.connect(source)
    raise EdgecnnError(
        f"{source}: no such video file; a camera is a number, a video file, a URL or KIND:… ({', '.join(kinds())})"
    )


def _module(kind: str) -> CameraModule:
    module: CameraModule = importlib.import_module(f"{__name__}.{kind}")
    return module
