"""`edgecnn live` as a real process: on a file, in a pipe, stopped by Ctrl-C, in a window."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

ENDLESS_FRAMES = 20_000
NO_DISPLAY = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}


def write_video(path: Path, frames: list[tuple[int, int, int]]) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (64, 48))
    for bgr in frames:
        writer.write(np.full((48, 64, 3), bgr, np.uint8))
    writer.release()
    return path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "vidéo.avi", [(0, 0, 220)] * 4 + [(0, 220, 0)] * 3 + [(220, 0, 0)] * 2)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("long") / "long.avi", [(220, 0, 0)] * ENDLESS_FRAMES)


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "edgecnn_runtime", "live", *map(str, words)]


def live(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), capture_output=True, text=True, env=NO_DISPLAY, timeout=60)


def test_a_video_file_to_its_end(tiny_artifact: Path, video: Path) -> None:
    done = live(tiny_artifact, "--camera", video)
    assert done.returncode == 0, done.stderr
    *lines, summary = done.stdout.splitlines()
    assert [line.split()[0] for line in lines][:3] == ["red", "green", "blue"]
    assert all("FPS" in line for line in lines)
    assert summary.startswith("frames: 9 in ")
    assert "FPS" in summary


def test_json_lines_are_one_object_per_frame_and_nothing_else(tiny_artifact: Path, video: Path) -> None:
    done = live(tiny_artifact, "--camera", video, "--jsonl", "--frames", 5)
    assert done.returncode == 0, done.stderr
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert [document["frame"] for document in documents] == [0, 1, 2, 3, 4]
    assert [document["label"] for document in documents] == ["red"] * 4 + ["green"]
    first = documents[0]
    assert set(first) == {"schema", "command", "frame", "label", "probability", "frame_age_ms", "timings_ms"}
    assert (first["schema"], first["command"]) == (1, "live")
    assert set(first["timings_ms"]) == {"preprocess", "inference", "total"}
    assert 0 < first["timings_ms"]["total"] <= first["frame_age_ms"]
    assert "frames: 5 in" in done.stderr


def test_below_the_threshold_there_is_no_label(tiny_artifact: Path, tmp_path: Path) -> None:
    grey = write_video(tmp_path / "grey.avi", [(120, 120, 120)])
    document = json.loads(live(tiny_artifact, "--camera", grey, "--threshold", 1, "--jsonl").stdout)
    assert document["label"] is None
    assert live(tiny_artifact, "--camera", grey, "--threshold", 1).stdout.startswith("unsure ")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--camera", "missing.avi"], 1, "missing.avi: no such video file"),
        (["--camera", "987"], 1, "camera 987: "),
        (["--view", "hologram"], 2, "--view is auto, window, terminal"),
        (["--jsonl", "--view", "terminal"], 2, "both write to stdout"),
        (["--frames", "0"], 2, "--frames"),
        (["--size", "32"], 2, "--size, --range and --labels"),
    ],
)
def test_mistakes_are_one_line(tiny_artifact: Path, words: list[str], code: int, message: str) -> None:
    done = live(tiny_artifact, *words)
    assert done.returncode == code
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_window_without_a_display_is_an_error(tiny_artifact: Path, video: Path) -> None:
    done = live(tiny_artifact, "--camera", video, "--view", "window")
    assert done.returncode == 1
    assert "--view terminal" in done.stderr.splitlines()[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_ctrl_c_ends_with_the_summary_and_130(tiny_artifact: Path, long_video: Path) -> None:
    words = command(tiny_artifact, "--camera", long_video)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=NO_DISPLAY) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    assert first.startswith("blue ")
    assert process.returncode == 130, errors
    assert rest.splitlines()[-1].startswith("frames: ")
    assert int(rest.splitlines()[-1].split()[1]) < ENDLESS_FRAMES
    assert "Traceback" not in errors


def test_a_reader_that_goes_away_ends_it_quietly(tiny_artifact: Path, long_video: Path) -> None:
    words = command(tiny_artifact, "--camera", long_video, "--jsonl")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=NO_DISPLAY) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=30) == 1
        assert "Traceback" not in process.stderr.read()


@pytest.fixture
def display() -> Iterator[dict[str, str]]:
    """The environment of a screen without a window manager."""
    if not (shutil.which("Xvfb") and shutil.which("xdotool")):
        pytest.skip("a window is tried with Xvfb and xdotool, which are not installed")
    read_end, write_end = os.pipe()
    words = ["Xvfb", "-displayfd", str(write_end), "-screen", "0", "1400x900x24", "-nolisten", "tcp", "-noreset"]
    with subprocess.Popen(words, pass_fds=[write_end], stderr=subprocess.DEVNULL) as server:
        os.close(write_end)
        with os.fdopen(read_end) as number:
            environment = {**NO_DISPLAY, "DISPLAY": f":{number.readline().strip()}"}
        # The situation of Ubuntu's desktop, in which Qt would print that it does without Wayland.
        environment |= {"XDG_SESSION_TYPE": "wayland", "XDG_CURRENT_DESKTOP": "ubuntu:GNOME"}
        yield environment
        server.terminate()


@pytest.mark.parametrize("view", ["auto", "window"])
def test_the_window_shows_the_label_and_ends_by_q(
    tiny_artifact: Path, long_video: Path, display: dict[str, str], view: str
) -> None:
    words = command(tiny_artifact, "--camera", long_video, "--view", view)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=display) as process:
        search, found, deadline = ["xdotool", "search", "--name", "^edgecnn: blue$"], "", time.monotonic() + 30
        while not found and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
            found = subprocess.run(search, capture_output=True, text=True, env=display).stdout.strip()
        keys = ["xdotool", "windowfocus", found, "key", "q"]
        while found and process.poll() is None and time.monotonic() < deadline:  # a key before the focus is lost
            subprocess.run(keys, capture_output=True, env=display)
            time.sleep(0.2)
        process.kill()
        out, errors = process.communicate(timeout=30)
    assert found, errors
    assert process.returncode == 0
    assert out.startswith("frames: ")
    assert int(out.split()[1]) < ENDLESS_FRAMES
    assert [line for line in errors.splitlines() if "XNNPACK" not in line] == []


def test_a_window_and_json_lines_go_together(tiny_artifact: Path, video: Path, display: dict[str, str]) -> None:
    words = command(tiny_artifact, "--camera", video, "--view", "window", "--jsonl")
    done = subprocess.run(words, capture_output=True, text=True, env=display, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["frame"] for line in done.stdout.splitlines()] == list(range(9))
