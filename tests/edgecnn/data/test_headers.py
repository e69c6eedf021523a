"""Headers: format, size and orientation without decoding, and nothing but a `Header` for any bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgecnn.data.headers import Header, read_header

FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF")


def encoded(name, orientation=None, size=(70, 50), **options):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))
    stream = io.BytesIO()
    if orientation is not None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    picture.save(stream, name.upper(), **options)
    return stream.getvalue()


@pytest.mark.parametrize("name", FORMATS)
def test_format_and_size(name):
    assert read_header(encoded(name)) == Header(name, (70, 50), 1)


def test_lossless_webp():
    assert read_header(encoded("WebP", lossless=True)) == Header("WebP", (70, 50), 1)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WebP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientation(name, orientation):
    assert read_header(encoded(name, orientation)) == Header(name, (70, 50), orientation)


def test_a_damaged_header_still_tells_the_format():
    assert read_header(encoded("JPEG")[:20]) == Header("JPEG")
    assert read_header(encoded("PNG")[:18]) == Header("PNG")
    assert read_header(b"GIF89a") == Header("GIF")


def test_no_picture():
    assert read_header(b"") == read_header(b"hello") == read_header(b"RIFF\0\0\0\0WAVE") == Header(None)
    assert read_header(b"IInterchange") == Header(None)


@settings(deadline=None)
@given(
    st.sampled_from(FORMATS), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8), st.integers()
)
def test_any_bytes_give_a_header(name, changes, length):
    data = bytearray(encoded(name, 6 if name in ("JPEG", "PNG", "WebP", "TIFF") else None, size=(9, 7)))
    for position, value in changes:
        data[position % len(data)] = value
    assert isinstance(read_header(bytes(data[: length % (len(data) + 1)])), Header)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_give_a_header(data):
    assert isinstance(read_header(data), Header)
