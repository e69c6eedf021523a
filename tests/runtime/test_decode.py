"""Decoding against Pillow, which wrote the files, and against files that were cut or altered."""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from edgecnn_runtime.decode import decode, read_bytes, read_picture
from edgecnn_runtime.errors import PictureError

ORIENTATION = 0x0112


def drawing(height: int = 48, width: int = 64, seed: int = 0) -> Image.Image:
    """Soft colours with a white corner, so that no turn or mirroring goes unseen and JPEG stays close."""
    rough = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    pixels = cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)
    pixels[: height // 4, : width // 4] = 255
    return Image.fromarray(pixels)


def alpha() -> Image.Image:
    """Transparent at the left, opaque at the right, the upper half opaque."""
    mask = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    mask[:24] = 255
    return Image.fromarray(mask)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def over_white(image: Image.Image) -> np.ndarray:
    image = image.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))


def difference(first: np.ndarray, second: np.ndarray) -> int:
    assert first.shape == second.shape
    return int(np.abs(first.astype(int) - second.astype(int)).max())


def translucent() -> Image.Image:
    image = drawing().convert("RGBA")
    image.putalpha(alpha())
    return image


def few_colours() -> Image.Image:
    return drawing().quantize(16)


EXACT: dict[str, Callable[[], tuple[Image.Image, str, dict[str, object]]]] = {
    "png": lambda: (drawing(), "PNG", {}),
    "png-palette": lambda: (drawing().quantize(200), "PNG", {}),
    "png-two-colours": lambda: (drawing().convert("1"), "PNG", {}),
    "png-four-colours": lambda: (drawing().quantize(4), "PNG", {}),
    "png-grey": lambda: (drawing().convert("L"), "PNG", {}),
    "webp-lossless": lambda: (drawing(), "WEBP", {"lossless": True}),
    "gif": lambda: (drawing().quantize(64), "GIF", {}),
    "bmp": lambda: (drawing(), "BMP", {}),
    "bmp-grey": lambda: (drawing().convert("L"), "BMP", {}),
    "bmp-palette": lambda: (drawing().quantize(16), "BMP", {}),
    "bmp-32": lambda: (drawing().convert("RGBA"), "BMP", {}),
    "tiff": lambda: (drawing(), "TIFF", {}),
    "tiff-lzw": lambda: (drawing(), "TIFF", {"compression": "tiff_lzw"}),
    "tiff-deflate": lambda: (drawing(), "TIFF", {"compression": "tiff_adobe_deflate"}),
    "tiff-grey": lambda: (drawing().convert("L"), "TIFF", {}),
    "tiff-palette": lambda: (drawing().quantize(16), "TIFF", {}),
}


@pytest.mark.parametrize("name", EXACT)
def test_lossless_formats_give_the_very_pixels(name: str) -> None:
    image, kind, options = EXACT[name]()
    picture = decode(saved(image, kind, **options))
    assert (picture.dtype, picture.flags.c_contiguous) == (np.uint8, True)
    assert difference(picture, np.asarray(image.convert("RGB"))) == 0


@pytest.mark.parametrize(
    ("image", "kind", "options", "limit"),
    [
        (drawing(), "JPEG", {"quality": 95, "subsampling": 0}, 3),
        (drawing(), "JPEG", {"quality": 95, "subsampling": 0, "progressive": True}, 3),
        (drawing().convert("L"), "JPEG", {"quality": 95}, 3),
        (drawing().convert("CMYK"), "JPEG", {"quality": 95}, 6),
        (drawing(), "WEBP", {"quality": 95}, 6),
    ],
    ids=["jpeg", "jpeg-progressive", "jpeg-grey", "jpeg-cmyk", "webp"],
)
def test_lossy_formats_come_close(image: Image.Image, kind: str, options: dict[str, object], limit: int) -> None:
    data = saved(image, kind, **options)
    assert difference(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))) <= limit


@pytest.mark.parametrize(
    ("image", "kind", "options"),
    [
        (translucent(), "PNG", {}),
        (translucent().convert("LA"), "PNG", {}),
        (few_colours(), "PNG", {"transparency": 0}),
        (few_colours(), "PNG", {"transparency": bytes(range(0, 256, 16))}),
        (drawing(), "PNG", {"transparency": (255, 255, 255)}),
        (translucent(), "WEBP", {"lossless": True, "exact": True}),
        (translucent(), "TIFF", {}),
        (few_colours(), "GIF", {"transparency": 0}),
    ],
    ids=["png", "png-grey", "png-palette", "png-palette-alphas", "png-colour-key", "webp", "tiff", "gif"],
)
def test_transparency_lies_over_white(image: Image.Image, kind: str, options: dict[str, object]) -> None:
    data = saved(image, kind, **options)
    assert difference(decode(data), over_white(Image.open(io.BytesIO(data)))) <= 1


def test_sixteen_bits_lose_their_lower_half() -> None:
    grey = (np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21).astype(np.uint16)
    colour = np.stack([grey, grey[::-1], grey[:, ::-1]], 2)
    for kind in (".png", ".tiff"):
        for pixels in (grey, colour):
            picture = decode(cv2.imencode(kind, pixels)[1].tobytes())
            wanted = np.dstack([pixels] * 3) if pixels.ndim == 2 else pixels[..., ::-1]
            assert difference(picture, (wanted >> 8).astype(np.uint8)) <= 1, kind


def test_sixteen_bits_with_transparency() -> None:
    pixels = np.full((20, 30, 4), (0, 0, 65535, 65535), np.uint16)
    pixels[:, :10, 3] = 0
    picture = decode(cv2.imencode(".png", pixels)[1].tobytes())
    assert picture[0, 0].tolist() == [255, 255, 255]
    assert picture[0, 20].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), *((kind, mode) for kind in ("PNG", "WEBP", "TIFF") for mode in ("RGB", "RGBA"))]
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(kind: str, mode: str, orientation: int) -> None:
    image = drawing() if mode == "RGB" else translucent()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options: dict[str, object] = {"lossless": True, "exact": True} if kind == "WEBP" else {"quality": 95}
    data = saved(image, kind, exif=exif, **options)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert difference(decode(data), over_white(turned)) <= (6 if kind == "JPEG" else 1)


def test_of_an_animation_the_first_frame() -> None:
    frames = [Image.new("RGB", (20, 10), colour).quantize(4) for colour in ("red", "blue")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data)[5, 5].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC/AVIF pictures cannot be read; save it as JPEG first"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "HEIC/AVIF"),
        (b"hello, I am no picture", "not a picture (JPEG, PNG, WebP, GIF, BMP and TIFF can be read)"),
        (b"RIFF\x24\0\0\0AVI LIST", "not a picture"),
        (b"\xff\xd8\xff", "JPEG file is truncated or damaged"),
        (b"\x89PNG\r\n\x1a\n", "PNG file is truncated or damaged"),
        (b"BM", "BMP file is truncated or damaged"),
        (b"GIF89a", "GIF file is truncated or damaged"),
        (b"II*\0\x08\0\0\0", "TIFF file is truncated or damaged"),
        (b"RIFF\x04\0\0\0WEBP", "WebP file is truncated or damaged"),
    ],
)
def test_errors_are_one_line_and_name_the_file(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "été 1.jpg"
    path.write_bytes(data)
    with pytest.raises(PictureError) as caught:
        read_picture(path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_missing_files_folders_and_giants(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.jpg", tmp_path):
        with pytest.raises(PictureError, match="cannot be read"):
            read_bytes(path)
    giant = tmp_path / "giant.jpg"
    with giant.open("wb") as file:
        file.truncate(300_000_000)
    with pytest.raises(PictureError, match="300 MB is more than a picture may have"):
        read_bytes(giant)


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def test_a_decompression_bomb_is_refused_at_once() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(10_000_000))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    start = time.perf_counter()
    with pytest.raises(PictureError, match="damaged or has too many pixels"):
        decode(bomb)
    assert time.perf_counter() - start < 1.0


FILES = {
    "png": saved(drawing(), "PNG"),
    "png-palette": saved(drawing().quantize(16), "PNG", transparency=0),
    "jpeg": saved(drawing(), "JPEG"),
    "jpeg-progressive": saved(drawing(), "JPEG", progressive=True),
    "webp": saved(drawing(), "WEBP"),
    "webp-lossless": saved(translucent(), "WEBP", lossless=True),
    "gif": saved(drawing().quantize(64), "GIF"),
    "bmp": saved(drawing(), "BMP"),
    "tiff": saved(drawing(), "TIFF"),
    "tiff-lzw": saved(drawing(), "TIFF", compression="tiff_lzw"),
}
WHOLE = {name: decode(data) for name, data in FILES.items()}


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_cut_file_is_an_error_or_the_whole_picture(name: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(FILES[name]) - 1))
    try:
        picture = decode(FILES[name][:cut], "cut.file")
    except PictureError as error:
        assert str(error).startswith("cut.file: ")  # noqa: PT017 - not every cut is an error
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert difference(picture, WHOLE[name]) == 0


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_flipped_bytes_do_no_harm(name: str, data: st.DataObject) -> None:
    altered = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = decode(bytes(altered))
    except PictureError as error:
        assert "\n" not in str(error)  # noqa: PT017 - not every change is an error
    else:
        assert (picture.dtype, picture.ndim, picture.shape[2]) == (np.uint8, 3, 3)
