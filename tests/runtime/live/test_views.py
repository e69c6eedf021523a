"""What the views write and draw; the window itself is tried in tests/runtime/commands/test_live.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn_runtime.cameras import Frame
from edgecnn_runtime.classifier import Result, Timings
from edgecnn_runtime.errors import EdgecnnError, UsageError
from edgecnn_runtime.live.capture import Health
from edgecnn_runtime.live.decision import Decision
from edgecnn_runtime.live.observation import Observation
from edgecnn_runtime.live.stats import Percentiles, Stats
from edgecnn_runtime.live.views import open_view, window
from edgecnn_runtime.live.views.jsonl import JsonLines
from edgecnn_runtime.live.views.snapshots import Snapshots
from edgecnn_runtime.live.views.stats_file import StatsFile
from edgecnn_runtime.live.views.terminal import TerminalView
from edgecnn_runtime.live.views.video import VideoFile
from edgecnn_runtime.live.watchdog import State


def observation(
    label: str | None,
    shape: tuple[int, int] = (120, 160),
    state: State = "ok",
    index: int = 0,
    event: str | None = None,
) -> Observation:
    probabilities = np.array([0.975, 0.025], np.float32)
    result = Result(label, 0.975, probabilities, (label or "a", "b"), Timings(0, 1, 2))
    frame = Frame(np.full((*shape, 3), 200, np.uint8), time.monotonic(), index, index / 25)
    decision = Decision(label, 0.975, event, 0.0, 0.0, probabilities)
    ages = Percentiles(30, 40, 50)
    return Observation(frame, result, decision, Stats(index + 1, 1.0, 25.0, 3.5, ages, ages, Health(state, dropped=7)))


def test_a_pipe_gets_a_line_when_the_answer_changes_and_the_last_one(capsys: pytest.CaptureFixture[str]) -> None:
    view = TerminalView()
    for index, label in enumerate(("hat", "hat", "épée", "épée", None, "hat", "hat")):
        assert view.show(replace(observation(label), stats=Stats(fps=25 - index)))
    view.close()
    view.close()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["hat", "épée", "unknown", "hat", "hat"]


def test_a_line_says_how_the_camera_does(capsys: pytest.CaptureFixture[str]) -> None:
    view, stats = TerminalView(), Stats(health=Health("lost", bad=2, reconnections=1))
    view.show(observation("hat"))
    view.show(observation("hat", state="black"))
    view.wait(stats)
    view.wait(stats)
    view.wait(Stats())  # a camera that is only slow is nothing to speak of
    assert capsys.readouterr().out.splitlines() == [
        "hat 97.5%  25.0 FPS  inference 2.0 ms  age 30/40/50 ms  dropped 7",
        "camera sees black: hat 97.5%  25.0 FPS  inference 2.0 ms  age 30/40/50 ms  dropped 7",
        "camera lost, trying again: no frame  age -/-/- ms  dropped 0  bad 2  reconnected 1",
    ]


def test_a_pipe_gets_a_line_a_second(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    view, clock = TerminalView(), iter(np.arange(100.0, 110.0, 0.25).repeat(2))
    monkeypatch.setattr("edgecnn_runtime.live.views.terminal.time.monotonic", lambda: float(next(clock)))
    for _ in range(12):
        view.show(observation("hat"))
    assert 2 <= len(capsys.readouterr().out.splitlines()) <= 5


def test_the_journal_gets_a_line_a_minute_and_every_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "journal").open("w+") as journal:
        found = os.fstat(journal.fileno())
        for stream, limit in ((f"{found.st_dev}:{found.st_ino}", 4), ("8:12345", 26)):
            journal.seek(0)
            journal.truncate()
            monkeypatch.setenv("JOURNAL_STREAM", stream)
            monkeypatch.setattr(sys, "stdout", journal)
            clock = iter(np.arange(100.0, 200.0, 0.5).repeat(2))
            monkeypatch.setattr("edgecnn_runtime.live.views.terminal.time.monotonic", lambda: float(next(clock)))  # noqa: B023
            view = TerminalView()
            for index in range(50):
                view.show(observation("hat" if index < 25 else "coat"))
            lines = (tmp_path / "journal").read_text().splitlines()
            assert 2 <= len(lines) <= limit
            assert [line.split()[0] for line in lines if line.startswith(("hat", "coat"))][-1] == "coat"


def test_a_terminal_line_is_rewritten_and_never_wraps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "30")
    view = TerminalView()
    view.show(observation("日本語の帽子" * 10))
    view.show(observation("hat"))
    view.close()
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.endswith("\n")
    first, second = out.strip("\r\n").split("\r")
    assert len(first) <= 16  # each of these characters takes two columns of 29
    assert second == "hat 97.5%  25.0 FPS  inferenc"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((120, 160), (480, 640)), ((480, 640), (480, 640)), ((1080, 1920), (720, 1280)), ((600, 100), (600, 100))],
)
def test_the_drawn_picture_fits_a_screen_and_leaves_the_frame_alone(
    shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    seen = observation("hat", shape)
    before = seen.frame.picture.copy()
    picture = window.draw(seen)
    assert picture.shape == (*expected, 3)
    assert picture.dtype == np.uint8
    assert (seen.frame.picture == before).all()
    assert (picture[expected[0] // 4 : expected[0] // 2] == 200).all()
    assert (picture[-40:] > 250).any()
    assert picture[: window._MARGIN_PX * 2].max() > picture[0].max()  # the status, small in a narrow picture


def test_json_lines_can_be_added_to_a_file(tmp_path: Path) -> None:
    for append, lines in ((False, 1), (True, 2), (False, 1)):
        view = JsonLines(tmp_path / "o.jsonl", append)
        view.show(observation("hat"))
        view.close()
        assert len((tmp_path / "o.jsonl").read_text("utf-8").splitlines()) == lines


def test_a_long_label_is_drawn_whole() -> None:
    picture = window.draw(observation("a label that is very much longer than the picture is wide " * 3))
    assert (picture[-40:] > 230).any()
    assert not (picture[:, -window._MARGIN_PX + 2 :] > 200).any()


def test_accents_are_drawn_or_left_out_but_no_question_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "__version__", "4.11.0")
    assert window._drawable("Épée à l'été, 日本") == "Epee a l'ete, ??"
    monkeypatch.setattr(cv2, "__version__", "5.0.0")
    assert window._drawable("Épée, 日本") == "Épée, 日本"


def test_an_unknown_view_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="auto, window, terminal"):
        open_view("hologram")


@pytest.mark.skipif(sys.platform != "linux", reason="displays are named by variables on Linux alone")
@pytest.mark.parametrize("display", [None, ":987"])
def test_without_a_display_auto_is_the_terminal_and_window_an_error(
    display: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", display)
    window.why_no_window.cache_clear()
    assert isinstance(open_view("auto"), TerminalView)
    with pytest.raises(EdgecnnError, match=r"no window: .*--view terminal"):
        open_view("window")
    window.why_no_window.cache_clear()


def test_the_views_need_no_display_to_be_imported() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    code = "import edgecnn_runtime.live.loop, edgecnn_runtime.live.views.window"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)


def test_json_lines_are_whole_at_once(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    view = JsonLines(path)
    view.show(observation("épée"))
    view.show(observation(None, state="frozen", index=1))
    first, second = map(json.loads, path.read_text("utf-8").splitlines())  # before it is closed
    view.close()
    view.close()
    assert (first["label"], first["frame"], first["camera"]) == ("épée", 0, "ok")
    assert (second["label"], second["at_s"], second["camera"]) == (None, 0.04, "frozen")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux")
def test_a_full_disk_is_one_line() -> None:
    view = JsonLines(Path("/dev/full"))
    with pytest.raises(EdgecnnError, match=r"^/dev/full: cannot be written: No space left"):
        view.show(observation("hat"))


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".MP4"])
def test_a_video_keeps_the_frames_times_and_can_be_played(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out put{suffix}"
    view = VideoFile(path, 25.0)
    for index in (0, 1, 2, 10, 1000):  # eight frames apart, then a pause
        view.show(observation("hat", (480, 640), index=index))
        assert not path.exists()
    view.close()
    view.close()
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    pictures = []
    while (reading := capture.read())[0]:
        pictures.append(reading[1])
    assert len(pictures) == 11 + 25
    assert capture.get(cv2.CAP_PROP_FPS) == 25
    assert pictures[0].shape == (480, 640, 3)
    assert pictures[0][-40:].max() > 230  # the caption
    assert list(tmp_path.iterdir()) == [path]


def test_a_video_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"a video is written as \.mp4 or \.avi \(received: \.gif\)"):
        VideoFile(tmp_path / "out.gif", 25)
    with pytest.raises(EdgecnnError, match="cannot be written: no folder"):
        VideoFile(tmp_path / "no" / "out.mp4", 25)
    view = VideoFile(tmp_path / "out.mp4", 0)
    view.show(observation("hat"))
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("edgecnn_runtime.live.views.video.shutil.disk_usage", lambda _: usage(1_000_000))
    monkeypatch.setattr("edgecnn_runtime.live.views.video._LOOK_S", 0)
    with pytest.raises(EdgecnnError, match=r"the disk is full.*free: 1 of 32 MB"):
        view.show(observation("hat", index=1))
    view.close()
    assert (tmp_path / "out.mp4").stat().st_size > 0  # what came before is kept


def test_snapshots_are_the_frames_of_events_under_a_harmless_name(tmp_path: Path) -> None:
    folder, label = tmp_path / "a" / "b", "../../ha t:épée"
    view = Snapshots(folder, [label])
    for index, event in enumerate((None, label, "hat", label)):
        view.show(observation(event or "hat", index=index, event=event))
    view.close()
    files = sorted(folder.iterdir())
    assert [file.suffix for file in files] == [".jpg", ".jpg"]
    assert [file.stem.rsplit("-", 1)[1] for file in files] == ["000001", "000003"]
    assert all("_ha_t_épée" in file.name for file in files)
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
    picture = cv2.imread(str(files[0]))
    assert picture is not None
    assert abs(picture.astype(int) - 200).max() <= 3  # no caption


def test_snapshots_in_a_file_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EdgecnnError, match="file: cannot be made"):
        Snapshots(tmp_path / "file", [])


def test_the_statistics_file_is_there_from_the_beginning_and_whole_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "stats.json"
    view = StatsFile(path, "camera 0")
    assert json.loads(path.read_text("utf-8"))["frames"] == 0
    view.show(observation("hat", index=41))
    view.close()
    document = json.loads(path.read_text("utf-8"))
    assert (document["frames"], document["camera"], document["dropped"]) == (42, "camera 0", 7)
    assert document["age_ms"] == {"p50": 30, "p95": 40, "p99": 50}
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(EdgecnnError, match="cannot be written"):
        StatsFile(tmp_path / "no" / "stats.json", "camera 0")
