"""The embedded data set: 2,500 small grey product pictures of Fashion-MNIST (see README.md)."""

from __future__ import annotations

import os
import shutil
import uuid
import zipfile
from pathlib import Path

from edgecnn_runtime.errors import EdgecnnError

ARCHIVE = Path(__file__).parent / "fashion.zip"
NAME = "fashion-mnist"


def unpack(folder: Path) -> Path:
    """Writes the pictures to ``folder/fashion-mnist``, so that they go the same way as anybody's photos.

    The folder appears complete or not at all; where it exists, missing and altered files are written anew and other
    files are left alone. Several processes may do this at once.

    Returns:
        ``folder/fashion-mnist``, holding ``train|val|test/<label>/<number>.png``.

    Raises:
        EdgecnnError: the folder cannot be written.
    """
    target = folder / NAME
    try:
        if not target.exists():
            _create(target)
        _write_missing(target)
    except OSError as error:
        raise EdgecnnError(f"{target}: the embedded pictures cannot be written: {error.strerror}") from error
    return target


def _create(target: Path) -> None:
    temporary = target.with_name(f".{NAME}-{uuid.uuid4().hex}")
    try:
        _write_missing(temporary)
        temporary.rename(target)
    except OSError:
        if not target.exists():  # else another process was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_missing(root: Path) -> None:
    with zipfile.ZipFile(ARCHIVE) as archive:
        for name in archive.namelist():
            path, data = root / name, archive.read(name)
            if path.is_file() and path.read_bytes() == data:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
            temporary.write_bytes(data)
            os.replace(temporary, path)
