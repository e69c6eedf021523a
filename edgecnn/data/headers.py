"""What the first bytes of a picture file say: its format, its size, how it was held. No pixel is decoded."""

from __future__ import annotations

import struct
from dataclasses import dataclass

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jfif"),
    "PNG": (".png",),
    "WebP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
}
_ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 0x0100, 0x0101
_FRAME_MARKERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True)
class Header:
    """Attributes:
    format: a key of `SUFFIXES`; None where it is none of them.
    size_px: width and height as stored; None where the file does not say.
    orientation: EXIF orientation tag, 1-8; 1 is upright.
    """

    format: str | None
    size_px: tuple[int, int] | None = None
    orientation: int = 1


def read_header(data: bytes) -> Header:
    """Reads the header of a picture file's bytes, which may be anything."""
    readers = {
        b"\xff\xd8\xff": _jpeg,
        b"\x89PNG\r\n\x1a\n": _png,
        b"RIFF": _webp,
        b"GIF8": lambda data: Header("GIF", _pair("<HH", data, 6)),
        b"BM": _bmp,
        b"II": _tiff,
        b"MM": _tiff,
    }
    reader = next((reader for magic, reader in readers.items() if data.startswith(magic)), None)
    if reader is None:
        return Header(None)
    try:
        return reader(data)
    except (struct.error, IndexError):
        name = {_jpeg: "JPEG", _png: "PNG", _webp: "WebP", _bmp: "BMP", _tiff: "TIFF"}.get(reader, "GIF")
        return Header(name)


def _pair(layout: str, data: bytes, offset: int) -> tuple[int, int]:
    first, second = struct.unpack_from(layout, data, offset)
    return abs(first), abs(second)


def _bmp(data: bytes) -> Header:
    old = struct.unpack_from("<I", data, 14)[0] == 12  # the header of OS/2 has shorter fields
    return Header("BMP", _pair("<HH" if old else "<ii", data, 18))


def _png(data: bytes) -> Header:
    position, orientation = 8, 1
    while position + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        if name == b"eXIf":
            orientation = _tags(data[position + 8 : position + 8 + length]).get(_ORIENTATION, 1)
        position += 12 + length
    return Header("PNG", _pair(">II", data, 16), _valid(orientation))


def _jpeg(data: bytes) -> Header:
    position, orientation = 2, 1
    while data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 1 if marker == 0xFF else 2
            continue
        length = struct.unpack_from(">H", data, position + 2)[0]
        body = data[position + 4 : position + 2 + length]
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            orientation = _tags(body[6:]).get(_ORIENTATION, 1)
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", body, 1)
            return Header("JPEG", (width, height), _valid(orientation))
        if marker == 0xDA:
            break
        position += 2 + length
    return Header("JPEG", None, _valid(orientation))


def _webp(data: bytes) -> Header:
    if data[8:12] != b"WEBP":
        return Header(None)
    size, orientation = None, 1
    position = 12
    while position + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, position)
        body = data[position + 8 : position + 8 + length]
        if name == b"VP8X":
            size = tuple(1 + int.from_bytes(body[start : start + 3], "little") for start in (4, 7))
        elif name == b"VP8 " and size is None:
            size = tuple(value & 0x3FFF for value in struct.unpack_from("<HH", body, 6))
        elif name == b"VP8L" and size is None:
            bits = struct.unpack_from("<I", body, 1)[0]
            size = (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
        elif name == b"EXIF":
            orientation = _tags(body.removeprefix(b"Exif\0\0")).get(_ORIENTATION, 1)
        position += 8 + length + length % 2
    return Header("WebP", None if size is None else (size[0], size[1]), _valid(orientation))


def _tiff(data: bytes) -> Header:
    if data[2:4] not in (b"*\0", b"\0*"):  # BigTIFF is rare, its layout another
        return Header("TIFF" if data[2:4] in (b"+\0", b"\0+") else None)
    tags = _tags(data)
    size = (tags[_WIDTH], tags[_HEIGHT]) if {_WIDTH, _HEIGHT} <= tags.keys() else None
    return Header("TIFF", size, _valid(tags.get(_ORIENTATION, 1)))


def _tags(data: bytes) -> dict[int, int]:
    """The whole-number tags of the first directory of a TIFF structure, which EXIF is too."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    tags: dict[int, int] = {}
    if order is None or len(data) < 8:
        return tags
    start = struct.unpack_from(order + "I", data, 4)[0]
    if start + 2 > len(data):
        return tags
    for number in range(struct.unpack_from(order + "H", data, start)[0]):
        entry = start + 2 + 12 * number
        if entry + 12 > len(data):
            break
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if kind in (3, 4):  # SHORT, LONG
            tags[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, entry + 8)[0]
    return tags


def _valid(orientation: int) -> int:
    return orientation if 1 <= orientation <= 8 else 1
