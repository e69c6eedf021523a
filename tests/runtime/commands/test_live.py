"""`edgecnn live` as a real process: on files and the fake camera, in a pipe, stopped by signals, in a window."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn_runtime import Classifier, cli
from edgecnn_runtime.artifact import read_artifact, write_artifact

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
    done = live(tiny_artifact, "--camera", video, "--every-frame", "--smoothing-ms", 0)
    assert done.returncode == 0, done.stderr
    *lines, summary = done.stdout.splitlines()
    assert [line.split()[0] for line in lines][:3] == ["red", "green", "blue"]
    assert all("FPS" in line for line in lines)
    assert summary.startswith("frames: 9 in ")
    assert "FPS" in summary


@pytest.mark.parametrize(("cores", "words", "threads"), [(2, (), 2), (64, (), 4), (4, ("--threads", "1"), 1)])
def test_it_takes_the_cores_that_there_are_and_at_most_four(
    tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch, cores: int, words: tuple[str, ...], threads: int
) -> None:
    module, taken = importlib.import_module("edgecnn_runtime.commands.live"), []
    load = Classifier.load

    def noting(path: Path, threads: int) -> Classifier:
        taken.append(threads)
        return load(path, threads)

    monkeypatch.setattr(Classifier, "load", noting)
    monkeypatch.setattr(module, "cores", lambda: cores)
    with pytest.raises(SystemExit) as end:
        cli.main(["live", str(tiny_artifact), "--camera", "fake:frames=2", "--jsonl", "-", *words])
    assert (end.value.code, taken) == (0, [threads])


def test_json_lines_are_one_object_per_frame_and_nothing_else(tiny_artifact: Path, video: Path) -> None:
    done = live(tiny_artifact, "--camera", video, "--every-frame", "--jsonl", "-", "--frames", 5)
    assert done.returncode == 0, done.stderr
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert [document["frame"] for document in documents] == [0, 1, 2, 3, 4]
    assert [document["raw"]["label"] for document in documents] == ["red"] * 4 + ["green"]
    assert [document["label"] for document in documents] == ["red"] * 5  # one green frame is no change yet
    first = documents[0]
    assert set(first) == {
        *(
            "schema",
            "command",
            "frame",
            "at_s",
            "label",
            "probability",
            "event",
            "raw",
            "frame_age_ms",
            "timings_ms",
            "camera",
            "model",
            "new_model",
        )
    }
    assert [document["at_s"] for document in documents] == pytest.approx([index / 30 for index in range(5)], abs=1e-3)
    assert (first["schema"], first["command"]) == (1, "live")
    assert set(first["timings_ms"]) == {"preprocess", "inference", "total"}
    assert 0 < first["timings_ms"]["total"] <= first["frame_age_ms"]
    assert "frames: 5 in" in done.stderr


def test_below_the_threshold_there_is_no_label(tiny_artifact: Path, tmp_path: Path) -> None:
    grey = write_video(tmp_path / "grey.avi", [(120, 120, 120)])
    document = json.loads(live(tiny_artifact, "--camera", grey, "--threshold", 1, "--jsonl", "-").stdout)
    assert document["label"] is None
    assert live(tiny_artifact, "--camera", grey, "--threshold", 1).stdout.startswith("unknown ")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--camera", "missing.avi"], 1, "missing.avi: no such video file"),
        (["--camera", "987"], 1, "camera 987: "),
        (["--view", "hologram"], 2, "--view is auto, page, window, terminal"),
        (["--jsonl", "-", "--view", "terminal"], 2, "both write to stdout"),
        (["--jsonl"], 2, "--jsonl"),
        (["--rotation", "45"], 2, "0, 90, 180 or 270"),
        (["--region", "1,2,3"], 2, "--region is LEFT,TOP,WIDTH,HEIGHT"),
        (["--camera", "fake:", "--every-frame"], 2, "every frame is for recordings"),
        (["--camera", "fake:", "--threshold", "2"], 2, "a threshold is in [0, 1] (received: 2.0)"),
        (["--camera", "fake:", "--hysteresis", "1"], 2, "hysteresis"),
        (["--snapshot-label", "red"], 2, "needs --snapshots"),
        (["--camera", "fake:", "--snapshots", "{tmp}/s", "--snapshot-label", "dog"], 2, "no label 'dog' (it has: red"),
        (["--camera", "fake:", "--video", "{tmp}/out.gif"], 2, ".mp4 or .avi"),
        (["--camera", "fake:", "--jsonl", "{tmp}/no/out.jsonl"], 1, "out.jsonl: cannot be written: No such file"),
        (["--camera", "fake:", "--stats", "{tmp}/taken"], 1, "taken exists already; add --overwrite"),
        (["--camera", "http://me:secret@127.0.0.1:9/x"], 1, "http://***@127.0.0.1:9/x: no video there"),
        (["--camera", ""], 1, "the camera's name is empty"),
        (["--camera", "fake:", "--append"], 2, "--append adds to a file; name it with --jsonl"),
        (["--jsonl", "{tmp}/a", "--stats", "{tmp}/./a", "--overwrite"], 2, "need a file each"),
        (["--camera", "fake:", "--video", "{tmp}"], 1, "is a folder; name a file"),
        (["--frames", "0"], 2, "--frames"),
        (["--size", "32"], 2, "--size, --range and --labels"),
    ],
)
def test_mistakes_are_one_line(tiny_artifact: Path, tmp_path: Path, words: list[str], code: int, message: str) -> None:
    (tmp_path / "taken").touch()
    done = live(tiny_artifact, *(word.replace("{tmp}", str(tmp_path)) for word in words))
    assert done.returncode == code
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
    assert done.stdout == ""


def test_a_window_without_a_display_is_an_error(tiny_artifact: Path, video: Path) -> None:
    done = live(tiny_artifact, "--camera", video, "--view", "window")
    assert done.returncode == 1
    assert "--view terminal" in done.stderr.splitlines()[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("source", ["video", "fake:", "fake:unplug=0.2-999"])
def test_a_signal_ends_it_with_the_summary_and_every_file_whole(
    tiny_artifact: Path, long_video: Path, tmp_path: Path, number: signal.Signals, code: int, source: str
) -> None:
    files = [tmp_path / name for name in ("out.jsonl", "stats.json", "out.mp4")]
    outputs = [
        word for option, path in zip(("--jsonl", "--stats", "--video"), files, strict=True) for word in (option, path)
    ]
    words = command(tiny_artifact, "--camera", long_video if source == "video" else source, *outputs)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=NO_DISPLAY) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        if "unplug" in source:
            while not process.stdout.readline().startswith("camera lost, trying again: "):
                assert process.poll() is None
        process.send_signal(number)
        rest, errors = process.communicate(timeout=30)
    assert first.startswith("blue " if source == "video" else "red ")
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    summary = rest.splitlines()[-1]
    assert summary.startswith("frames: ")
    frames = int(summary.split()[1])
    assert 0 < frames < ENDLESS_FRAMES
    assert len([json.loads(line) for line in files[0].read_text("utf-8").splitlines()]) == frames
    assert json.loads(files[1].read_text("utf-8"))["frames"] == frames
    assert cv2.VideoCapture(str(files[2])).read()[0]
    assert sorted(tmp_path.iterdir()) == sorted(files)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux")
def test_a_full_disk_ends_it_with_one_line_and_the_other_files_whole(tiny_artifact: Path, tmp_path: Path) -> None:
    stats = tmp_path / "stats.json"
    done = live(tiny_artifact, "--camera", "fake:", "--jsonl", "/dev/full", "--stats", stats)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "edgecnn: error: /dev/full: cannot be written: No space left on device"
    assert "Traceback" not in done.stderr
    assert json.loads(stats.read_text("utf-8"))["frames"] == 1
    with Path("/dev/full").open("w") as full:
        words = command(tiny_artifact, "--camera", "fake:", "--frames", 5)
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "edgecnn: error: stdout: cannot be written: No space left on device"


def test_all_outputs_at_once_and_only_with_overwrite_again(tiny_artifact: Path, tmp_path: Path) -> None:
    words = [
        "--camera",
        "fake:frames=120",
        "--every-frame",
        "--video",
        tmp_path / "v.avi",
        "--stats",
        tmp_path / "s.json",
    ]
    words += ["--jsonl", tmp_path / "o.jsonl", "--snapshots", tmp_path / "shots", "--snapshot-label", "green"]
    done = live(tiny_artifact, *words)
    assert done.returncode == 0, done.stderr
    documents = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text("utf-8").splitlines()]
    assert [document["event"] for document in documents if document["event"]] == ["red", "green"]
    changes = [index for index in range(1, 120) if documents[index]["label"] != documents[index - 1]["label"]]
    assert len(changes) == 1
    assert 60 <= changes[0] <= 69  # at most 300 ms after the card turned green
    assert len(list((tmp_path / "shots").iterdir())) == 1
    assert json.loads((tmp_path / "s.json").read_text("utf-8"))["frames"] == 120
    capture = cv2.VideoCapture(str(tmp_path / "v.avi"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 120
    assert "exists already; add --overwrite" in live(tiny_artifact, *words).stderr
    assert live(tiny_artifact, *words, "--overwrite").returncode == 0


def test_a_folder_is_shown_whole_with_its_bad_pictures_counted(tiny_artifact: Path, tmp_path: Path) -> None:
    for index, bgr in enumerate([(0, 0, 220), (0, 220, 0), (220, 0, 0)]):
        assert cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((40 + index, 50, 3), bgr, np.uint8))
    (tmp_path / "1b.jpg").write_bytes(b"no picture")
    done = live(tiny_artifact, "--camera", tmp_path, "--jsonl", "-")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == ["red", "green", "blue"]
    assert "bad 1" in done.stderr


def test_the_picture_is_cut_and_turned_before_it_is_classified(tiny_artifact: Path, tmp_path: Path) -> None:
    picture = np.full((60, 90, 3), (0, 0, 220), np.uint8)
    picture[:, 60:] = (220, 0, 0)
    assert cv2.imwrite(str(tmp_path / "p.png"), picture)
    for words, label in (
        (["0,0,0.6,1"], "red"),
        (["0.7,0,0.3,1"], "blue"),
        (["0,0,1,0.3", "--rotation", "270"], "blue"),
    ):
        done = live(tiny_artifact, "--camera", tmp_path, "--jsonl", "-", "--region", *words)
        assert json.loads(done.stdout)["label"] == label


def test_a_camera_that_comes_back_goes_on(tiny_artifact: Path, tmp_path: Path) -> None:
    words = ["--camera", "fake:unplug=1-3,bad=20", "--frames", 100, "--stats", tmp_path / "s.json"]
    done = live(tiny_artifact, *words)
    assert done.returncode == 0, done.stderr
    assert "camera lost, trying again" in done.stdout
    stats = json.loads((tmp_path / "s.json").read_text("utf-8"))
    assert (stats["reconnections"], stats["frames"], stats["state"]) == (1, 100, "ok")
    assert stats["bad"] > 0


STAND_IN = Path(__file__).parents[1] / "cameras" / "picamera2_stand_in.py"


def test_a_camera_module_by_its_stand_in_and_without_it(tiny_artifact: Path, tmp_path: Path) -> None:
    shutil.copy(STAND_IN, tmp_path / "picamera2.py")
    words = command(tiny_artifact, "--camera", "picamera2:0", "--frames", 3)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(words, capture_output=True, text=True, env={**NO_DISPLAY, "PYTHONPATH": path}, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("blue ")
    missing = live(tiny_artifact, "--camera", "picamera2:0")
    assert missing.returncode == 1
    assert "sudo apt install -y python3-picamera2" in missing.stderr.splitlines()[-1]


def test_a_reader_that_goes_away_ends_it_quietly(tiny_artifact: Path, long_video: Path) -> None:
    words = command(tiny_artifact, "--camera", long_video, "--jsonl", "-")
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


# What a window manager sends where somebody closes a window (ICCCM, WM_DELETE_WINDOW), by Xlib's XClientMessageEvent.
CLOSE_BUTTON = """
import ctypes, sys
from ctypes import byref, c_char_p, c_int, c_long, c_ulong, c_void_p

class ClientMessage(ctypes.Structure):
    _fields_ = [("type", c_int), ("serial", c_ulong), ("send_event", c_int), ("display", c_void_p), ("window", c_ulong),
                ("message_type", c_ulong), ("format", c_int), ("data", c_long * 5), ("rest", c_long * 24)]

x11, window = ctypes.CDLL("libX11.so.6"), int(sys.argv[1])
x11.XOpenDisplay.restype, x11.XInternAtom.restype = c_void_p, c_ulong
x11.XInternAtom.argtypes = [c_void_p, c_char_p, c_int]
x11.XSendEvent.argtypes = [c_void_p, c_ulong, c_int, c_long, c_void_p]
x11.XFlush.argtypes = [c_void_p]
display = x11.XOpenDisplay(None)
protocols, delete = (x11.XInternAtom(display, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW"))
message = ClientMessage(33, 0, 1, display, window, protocols, 32, (c_long * 5)(delete))
x11.XSendEvent(display, window, 0, 0, byref(message))
x11.XFlush(display)
"""


@pytest.mark.parametrize("way", ["q", "close button"])
def test_the_window_shows_the_label_and_ends_by_a_key_or_when_it_is_closed(
    tiny_artifact: Path, long_video: Path, display: dict[str, str], way: str
) -> None:
    words = command(tiny_artifact, "--camera", long_video, "--view", "window")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=display) as process:
        search, found, deadline = ["xdotool", "search", "--name", "^edgecnn: blue$"], "", time.monotonic() + 30
        while not found and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
            found = subprocess.run(search, capture_output=True, text=True, env=display).stdout.strip()
        keys = ["xdotool", "windowfocus", found, "key", "q"]
        if way != "q":
            keys = [sys.executable, "-c", CLOSE_BUTTON, found]
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
    words = command(tiny_artifact, "--camera", video, "--every-frame", "--view", "window", "--jsonl", "-")
    done = subprocess.run(words, capture_output=True, text=True, env=display, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["frame"] for line in done.stdout.splitlines()] == list(range(9))


def test_a_new_model_without_the_label_of_the_snapshots_is_refused(tiny_artifact: Path, tmp_path: Path) -> None:
    place = Path(shutil.copy(tiny_artifact, tmp_path / "model.tflite"))
    graph, contract, _ = read_artifact(place)
    write_artifact(tmp_path / "other.tflite", graph, replace(contract, labels=("rot", "grün", "blau"), goldens=()))
    options = ["--camera", "fake:", "--snapshots", tmp_path / "s", "--snapshot-label", "red", "--jsonl", os.devnull]
    words = [sys.executable, "-m", "edgecnn_runtime", "live", str(place), *map(str, options)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=NO_DISPLAY) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()  # it runs
        os.replace(tmp_path / "other.tflite", place)
        said = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert "the new file is refused" in said
    assert "the model has no label 'red' (it has: rot, grün, blau)" in said
