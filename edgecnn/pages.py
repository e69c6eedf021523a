"""HTML pages: one file each that needs nothing else, neither network nor script; every text in them is escaped."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import cv2
import jinja2
import numpy as np
import numpy.typing as npt

from edgecnn_runtime.errors import EdgecnnError

MAX_PICTURE_SIDE_PX = 240
TINY_PICTURE_SIDE_PX = 64


def environment(folder: str) -> jinja2.Environment:
    """Templates in a folder of the package, with the filter ``picture``."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("edgecnn", folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["picture"] = picture_uri
    return made


def picture_uri(picture: npt.NDArray[np.uint8], side_px: int = MAX_PICTURE_SIDE_PX) -> str:
    """Data URI of (H, W, 3) RGB or (H, W) grey: tiny pictures as they are, others as a JPEG of at most `side_px`."""
    height, width = picture.shape[:2]
    scale = side_px / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    bgr = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    kind = "png" if max(height, width) <= TINY_PICTURE_SIDE_PX else "jpeg"
    data = cv2.imencode(f".{kind}", bgr)[1].tobytes()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def write_page(path: Path, html: str) -> None:
    """Writes a page in UTF-8, whole or not at all.

    Raises:
        EdgecnnError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # A file name that is not UTF-8 reaches Python as lone surrogates, which UTF-8 cannot carry.
        temporary.write_bytes(html.encode("utf-8", "backslashreplace"))
        os.replace(temporary, path)
    except OSError as error:
        raise EdgecnnError(
            f"{path}: the page cannot be written ({error.strerror}); choose a folder that exists and has room"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_free(path: Path | None, overwrite: bool) -> None:
    """Raises EdgecnnError when a page exists and may not be replaced, or has no folder to lie in."""
    if path is None:
        return
    if os.path.lexists(path) and not overwrite:
        raise EdgecnnError(f"{path} exists already; choose another --out, or add --overwrite")
    if not path.parent.is_dir():
        raise EdgecnnError(f"{path}: there is no folder {path.parent}; make it, or choose another --out")
