"""What the views write and draw; the window itself is tried in tests/runtime/commands/test_live.py."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from edgecnn_runtime.cameras import Frame
from edgecnn_runtime.classifier import Result, Timings
from edgecnn_runtime.errors import EdgecnnError, UsageError
from edgecnn_runtime.live.observation import Observation
from edgecnn_runtime.live.views import open_view, window
from edgecnn_runtime.live.views.terminal import TerminalView


def observation(label: str | None, shape: tuple[int, int] = (120, 160)) -> Observation:
    result = Result(label, 0.975, np.array([0.975, 0.025], np.float32), (label or "a", "b"), Timings(0, 1, 2))
    return Observation(Frame(np.full((*shape, 3), 200, np.uint8), time.monotonic(), 0), result, 3.5, 25.0)


def test_a_pipe_gets_a_line_when_the_label_changes_and_the_last_one(capsys: pytest.CaptureFixture[str]) -> None:
    view = TerminalView()
    for label in ("hat", "hat", "épée", "épée", None, "hat", "hat"):
        assert view.show(observation(label))
    view.close()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["hat", "épée", "unsure", "hat", "hat"]
    assert lines[0] == "hat 97.5%  25.0 FPS  inference 2.0 ms"


def test_a_pipe_gets_a_line_a_second(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    view, clock = TerminalView(), iter(np.arange(100.0, 110.0, 0.25).repeat(2))
    monkeypatch.setattr("edgecnn_runtime.live.views.terminal.time.monotonic", lambda: float(next(clock)))
    for _ in range(12):
        view.show(observation("hat"))
    assert 2 <= len(capsys.readouterr().out.splitlines()) <= 5


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
    assert (picture[: expected[0] // 2] == 200).all()
    assert (picture[-40:] > 250).any()


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
