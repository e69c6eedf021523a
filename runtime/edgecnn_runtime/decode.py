"""Decoding: the bytes of a picture file to an array, the same way in the lab and on the device."""

from __future__ import annotations

import os
import zlib
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edgecnn_runtime.errors import PictureError

Picture = npt.NDArray[np.uint8]

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
HEIC_SUFFIXES = (".heic", ".heif", ".avif")
MAX_FILE_MB = 256

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif")
_MAGIC = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "WebP": (b"RIFF",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}


def read_picture(path: str | Path) -> Picture:
    """Decodes a picture file.

    Returns:
        ``(H, W, 3)`` uint8, RGB, 0-255, EXIF orientation applied, transparency laid over white.

    Raises:
        PictureError: missing, unreadable, truncated, damaged, or of a format that OpenCV does not read.
    """
    return decode(read_bytes(path), str(path))


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a picture file. Raises PictureError when it is missing, too large or not a file."""
    try:
        with open(path, "rb", buffering=0) as file:
            size_mb = os.fstat(file.fileno()).st_size / 1e6
            if size_mb > MAX_FILE_MB:
                raise PictureError(f"{path}: {size_mb:.0f} MB is more than a picture may have ({MAX_FILE_MB} MB)")
            return file.readall()
    except OSError as error:
        raise PictureError(f"{path}: cannot be read: {error.strerror}") from error


def decode(data: bytes, name: str = "picture") -> Picture:
    """Decodes the bytes of a JPEG, PNG, WebP, GIF (first frame), BMP or TIFF file; `name` stands in the error.

    Returns:
        ``(H, W, 3)`` uint8, RGB, 0-255, EXIF orientation applied, transparency laid over white.

    Raises:
        PictureError: empty, truncated, damaged, too many pixels, or another format.
    """
    if not data:
        raise PictureError(f"{name}: the file is empty")
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
        raise PictureError(f"{name}: HEIC/AVIF pictures cannot be read; save it as JPEG first")
    kind = next((kind for kind, magics in _MAGIC.items() if data.startswith(magics)), None)
    if kind is None or (kind == "WebP" and data[8:12] != b"WEBP"):
        raise PictureError(f"{name}: not a picture (JPEG, PNG, WebP, GIF, BMP and TIFF can be read)")
    if (kind == "PNG" and not _png_is_whole(data)) or (kind == "JPEG" and not _jpeg_is_whole(data)):
        raise PictureError(f"{name}: the {kind} file is truncated or damaged; copy it again or leave it out")
    buffer = np.frombuffer(data, np.uint8)
    try:
        if kind == "JPEG":  # its decoder gives the same pixels as RGB, which saves a walk over the picture
            picture = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB)
        else:
            picture = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
        if picture is not None and _may_be_transparent(kind, data):
            picture = _over_white(picture, cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED), kind)
    except cv2.error as error:
        raise PictureError(f"{name}: the {kind} file is damaged or has too many pixels ({error.err})") from error
    if picture is None:
        hint = "; GIF needs OpenCV 4.12 or newer" if kind == "GIF" and cv2.__version__.startswith("4.11") else ""
        raise PictureError(f"{name}: the {kind} file is truncated or damaged{hint}")
    if kind != "JPEG":
        cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=picture)
    return np.asarray(picture, np.uint8)


def _png_is_whole(data: bytes) -> bool:
    """Every chunk's checksum holds up to IEND: OpenCV would fill the missing rows with black and go on."""
    position = 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(data) or zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return False
        if data[position + 4 : position + 8] == b"IEND":
            return True
        position = end + 4
    return False


def _jpeg_is_whole(data: bytes) -> bool:
    """An end marker follows the first scan: OpenCV would fill the missing rows with grey and go on."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xDA:  # start of scan; inside a scan every 0xFF byte is stuffed, so the marker is unmistakable
            return data.rfind(b"\xff\xd9", position) != -1  # from the end, where it usually is
        standalone = marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD7
        position += (
            (1 if marker == 0xFF else 2) if standalone else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        )
    return False


def _may_be_transparent(kind: str, data: bytes) -> bool:
    if kind == "PNG":
        return data[25] in (4, 6) or b"tRNS" in data[: data.find(b"IDAT")]
    return kind in ("WebP", "GIF", "TIFF")


def _over_white(picture: Picture, raw: Picture | None, kind: str) -> Picture:
    """Lays transparent pixels over white. OpenCV gives transparency only in `raw`, which it does not turn by EXIF."""
    if raw is None or raw.ndim != 3 or raw.shape[2] != 4:
        return picture
    if raw.dtype == np.uint16:
        raw = (raw >> 8).astype(np.uint8)
    if (raw[..., 3] == 255).all():
        return picture
    for turns, mirrored in product(range(4), (False, True)):
        turned = np.rot90(raw[:, ::-1] if mirrored else raw, turns)
        if turned.shape[:2] == picture.shape[:2] and np.abs(turned[..., :3].astype(np.int16) - picture).max() <= 2:
            raw = turned
            break
    alpha = raw[..., 3:].astype(np.float32) / 255.0
    # libtiff gives colours multiplied by alpha already, which are never brighter than alpha.
    colours = raw[..., :3] * (1.0 if kind == "TIFF" and (raw[..., :3] <= raw[..., 3:]).all() else alpha)
    return np.ascontiguousarray(np.rint(colours + 255.0 * (1.0 - alpha)).astype(np.uint8))
