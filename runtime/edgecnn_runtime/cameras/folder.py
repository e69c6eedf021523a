"""A folder of pictures, in the order of their names."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edgecnn_runtime.cameras import shown
from edgecnn_runtime.cameras._options import Options
from edgecnn_runtime.dataset import picture_files
from edgecnn_runtime.decode import Picture, read_picture
from edgecnn_runtime.errors import EdgecnnError, PictureError

_FPS = 1.0  # photos of a folder are no film: smoothing leaves nothing of a picture a second later


def claims(source: str) -> bool:
    """Existing folders."""
    return Path(source).is_dir()


def connect(source: str, options: Options) -> FolderCamera:
    """Lists a folder's pictures, those of the folders in it too. Raises EdgecnnError."""
    name = shown(source) or "folder:"
    if not source or not Path(source).is_dir():
        raise EdgecnnError(f"{name}: no such folder (found: {'a file' if Path(source).is_file() else 'nothing'})")
    files = picture_files(Path(source))
    if not files:
        raise EdgecnnError(f"{name}: no pictures in this folder (found: 0 files)")
    return FolderCamera(name, files, options.fps or _FPS)


class FolderCamera:
    """A list of picture files. See `edgecnn_runtime.cameras.Camera`."""

    live = False
    every = True

    def __init__(self, name: str, files: list[Path], fps: float) -> None:
        self.name, self.fps = name, fps
        self._files = enumerate(files)

    def read(self) -> tuple[Picture | None, float]:
        """See `edgecnn_runtime.cameras.Camera`."""
        try:
            index, path = next(self._files)
        except StopIteration:
            raise EOFError from None
        try:
            return np.asarray(cv2.cvtColor(read_picture(path), cv2.COLOR_RGB2BGR), np.uint8), index / self.fps
        except PictureError:
            return None, index / self.fps

    def close(self) -> None:
        """Nothing is open between two pictures."""
