"""What all kinds of cameras share: how they are found, named, and made to obey the options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn_runtime.cameras import Options, Region, kinds, open_camera, shown
from edgecnn_runtime.errors import EdgecnnError, UsageError

CARD = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def test_listing_finds_the_files_and_nothing_private() -> None:
    assert set(kinds()) >= {"device", "fake", "folder", "gstreamer", "picamera2", "url", "video"}
    assert not any(kind.startswith("_") for kind in kinds())


def test_what_no_kind_claims_is_one_line_that_names_them() -> None:
    with pytest.raises(EdgecnnError, match=r"98765: no such video file; a camera is .*folder.*picamera2"):
        open_camera("98765")


@pytest.mark.parametrize("source", ["", " ", "video:", "folder:", "device:", "url:"])
def test_a_source_without_a_name_is_refused_and_not_the_current_folder(source: str) -> None:
    with pytest.raises(EdgecnnError, match=rf"^{source.strip() or 'the camera'}"):
        open_camera(source)


@pytest.mark.parametrize("kind", ["device", "folder", "gstreamer", "picamera2", "url", "video"])
def test_a_kind_that_does_not_take_a_url_does_not_print_its_password(kind: str) -> None:
    with pytest.raises(EdgecnnError) as error:
        open_camera(f"{kind}:rtsp://me:secret@127.0.0.1:9/x")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("0", "0"),
        ("rtsp://me:secret@cam:554/a", "rtsp://***@cam:554/a"),
        ("http://me:se@cr/et@cam/a", "http://***@cam/a"),
        ("http://cam/video?user=me&pwd=secret", "http://cam/video?***"),
        (
            "rtspsrc location=rtsp://me:secret@cam/a user-pw=secret ! appsink",
            "rtspsrc location=rtsp://***@cam/a user-pw=*** ! appsink",
        ),
        ("rtsp://me:se cret@cam/a", "rtsp://***@cam/a"),
        ("rtsp:/me:secret@cam/a", "rtsp:/***@cam/a"),
        ("rtsp://cam/user=admin_password=se_cret_channel=1.sdp", "rtsp://cam/user=***"),
        ("http://cam/a#token=secret", "http://cam/a#***"),
        ('rtspsrc user-pw="se cret" ! appsink', "rtspsrc user-pw=*** ! appsink"),
        ("a folder/vidéo?.mp4", "a folder/vidéo?.mp4"),
    ],
)
def test_no_secret_is_shown(source: str, expected: str) -> None:
    assert shown(source) == expected


def test_without_options_the_picture_is_the_same_array() -> None:
    assert Options().apply(CARD) is CARD


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (Options(rotation=90), np.rot90(CARD, -1)),
        (Options(rotation=180), np.rot90(CARD, 2)),
        (Options(rotation=270), np.rot90(CARD)),
        (Options(flip="horizontal"), CARD[:, ::-1]),
        (Options(flip="vertical"), CARD[::-1]),
        (Options(flip="both"), CARD[::-1, ::-1]),
        (Options(region=Region(0.5, 0.25, 0.5, 0.5)), CARD[1:3, 3:]),
        # The region is one of what is seen: turned first, then cut.
        (Options(rotation=90, region=Region(0, 0, 1, 0.5)), np.rot90(CARD, -1)[:3]),
        (Options(rotation=180, flip="vertical"), np.rot90(CARD, 2)[::-1]),
    ],
)
def test_pictures_are_turned_flipped_and_cut_in_this_order(options: Options, expected: np.ndarray) -> None:
    result = options.apply(CARD)
    assert (result == expected).all()
    assert result.flags["C_CONTIGUOUS"]


def test_another_resolution_is_resized() -> None:
    assert Options(resolution=(12, 8)).apply(CARD).shape == (8, 12, 3)
    assert Options(resolution=(6, 4)).apply(CARD) is CARD


@given(
    sides=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    corner=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)),
    shares=st.tuples(st.floats(1e-6, 1), st.floats(1e-6, 1)),
)
def test_a_region_always_keeps_a_pixel(
    sides: tuple[int, int], corner: tuple[float, float], shares: tuple[float, float]
) -> None:
    region = Region(*corner, (1 - corner[0]) * shares[0], (1 - corner[1]) * shares[1])
    cut = Options(region=region).apply(np.zeros((*sides, 3), np.uint8))
    assert 1 <= cut.shape[0] <= sides[0]
    assert 1 <= cut.shape[1] <= sides[1]


@pytest.mark.parametrize(
    "words",
    [
        ("640", None, 0, "none", None),
        ("0x480", None, 0, "none", None),
        ("9000x480", None, 0, "none", None),
        (None, 0.0, 0, "none", None),
        (None, 1e-300, 0, "none", None),
        (None, float("nan"), 0, "none", None),
        (None, None, 45, "none", None),
        (None, None, 0, "sideways", None),
        (None, None, 0, "none", "0,0,1"),
        (None, None, 0, "none", "0,0,1,x"),
        (None, None, 0, "none", "0.5,0,0.6,1"),
        (None, None, 0, "none", "0,0,0,1"),
        (None, None, 0, "none", "nan,0,1,1"),
    ],
)
def test_options_out_of_range_are_wrong_usage(words: tuple[str | None, float | None, int, str, str | None]) -> None:
    with pytest.raises(UsageError, match="received"):
        Options.parse(*words)


def test_options_are_read_from_words() -> None:
    parsed = Options.parse("640x480", 10, 90, "both", "0.25,0,0.5,1")
    assert parsed == Options((640, 480), 10, 90, "both", Region(0.25, 0, 0.5, 1))
    assert Options.parse(None, None, 0, "none", None) == Options()


def test_opencv_and_ffmpeg_print_nothing_even_when_opencv_was_imported_first(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.avi"
    damaged.write_bytes(b"RIFF\0\0\0\0AVI " + bytes(500))
    sources = ["0", "987", str(damaged), "http://127.0.0.1:9/x", "rtsp://127.0.0.1:9/x", "gstreamer:fakesrc"]
    code = (
        "import cv2\nfrom edgecnn_runtime.cameras import open_camera\nfrom edgecnn_runtime.errors import EdgecnnError\n"
        f"for source in {sources!r}:\n    try:\n        open_camera(source)\n    except EdgecnnError: pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout + done.stderr == ""
