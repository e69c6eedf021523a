"""The window: each frame with label, probability and speed. Ends by q, Esc or closing it."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import unicodedata

import cv2
import numpy as np

from edgecnn_runtime.decode import Picture
from edgecnn_runtime.errors import EdgecnnError
from edgecnn_runtime.live.observation import Observation, trouble
from edgecnn_runtime.live.stats import Stats

NAME = "edgecnn"
_FLAGS = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
_ENDING_KEYS = (ord("q"), ord("Q"), 27)
_MIN_HEIGHT_PX, _MAX_HEIGHT_PX, _MAX_WIDTH_PX = 480, 720, 1280
_MARGIN_PX = 12

# On Wayland Qt would print that it does without its Wayland plugin, which OpenCV's wheels leave out.
os.environ.setdefault("QT_LOGGING_RULES", "*=false")


@functools.cache
def why_no_window() -> str | None:
    """Why no window can be opened here, in one line; None where one can."""
    remedy = "use --view terminal"
    if sys.platform == "linux":
        if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            return f"no window: there is no display (DISPLAY and WAYLAND_DISPLAY are unset); {remedy}"
        # Qt aborts the whole process where it cannot reach the display, so another process has to try.
        code = f"import cv2; cv2.namedWindow('{NAME}', {_FLAGS})"
        refused = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode != 0
    else:
        try:
            cv2.namedWindow(NAME, _FLAGS)
            refused = False
        except cv2.error:
            refused = True
    if refused:
        return f"no window: the display refuses, or this OpenCV is a build without windows (headless); {remedy}"
    return None


class WindowView:
    """An OpenCV window. Raises EdgecnnError where none can be opened."""

    def __init__(self) -> None:
        if reason := why_no_window():
            raise EdgecnnError(reason)
        cv2.namedWindow(NAME, _FLAGS)
        self._title = ""
        self._shown = False

    def show(self, observation: Observation) -> bool:
        """See `edgecnn_runtime.live.views.View`; False after q, Esc, or when the window was closed."""
        # Asked before anything is shown: showing a picture in a window that was closed opens a new one.
        if self._shown and not _is_open():
            return False
        picture = draw(observation)
        if not self._shown:
            cv2.resizeWindow(NAME, picture.shape[1], picture.shape[0])
            self._shown = True
        self._set_title(observation.decision.label or "unknown")
        cv2.imshow(NAME, picture)
        return cv2.waitKey(1) & 0xFF not in _ENDING_KEYS and _is_open()

    def wait(self, stats: Stats) -> bool:
        """See `edgecnn_runtime.live.views.View`. The last picture stays, and the title says what is wrong."""
        if self._shown and not _is_open():
            return False
        if trouble(stats):
            self._set_title(trouble(stats))
        return cv2.waitKey(1) & 0xFF not in _ENDING_KEYS

    def close(self) -> None:
        """Closes the window."""
        cv2.destroyAllWindows()

    def _set_title(self, words: str) -> None:
        title = f"{NAME}: {words}"
        if title != self._title:
            cv2.setWindowTitle(NAME, title)
            self._title = title


def _is_open() -> bool:
    try:
        return bool(cv2.getWindowProperty(NAME, cv2.WND_PROP_VISIBLE) >= 1)
    except cv2.error:  # what OpenCV 4 says of a window that was closed
        return False


def draw(observation: Observation) -> Picture:
    """The frame in a size for the screen, with a caption, and a line above that says how the camera does.

    Returns:
        ``(H, W, 3)`` uint8, BGR, 0-255, a new array; at most 1280x720, and 480 high where the frame is smaller.
    """
    rows, columns = observation.frame.picture.shape[:2]
    scale = min(max(1.0, _MIN_HEIGHT_PX / rows), _MAX_HEIGHT_PX / rows, _MAX_WIDTH_PX / columns)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    picture = np.asarray(cv2.resize(observation.frame.picture, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    stats = observation.stats
    health = stats.health
    _write(picture, f"{observation.caption}  {stats.fps:.0f} FPS", 1.0, top=False)
    status = f"age {stats.age_ms}  dropped {health.dropped}  bad {health.bad}  reconnected {health.reconnections}"
    _write(picture, f"{observation.trouble}  {status}" if observation.trouble else status, 0.5, top=True)
    return picture


def _write(picture: Picture, text: str, font_scale: float, top: bool) -> None:
    """A line of white text in a darkened strip, as large as asked or as fits."""
    font, thickness, rows = cv2.FONT_HERSHEY_SIMPLEX, 2 if font_scale >= 1 else 1, picture.shape[0]
    text = _drawable(text)
    (width, height), _ = cv2.getTextSize(text, font, font_scale, thickness)
    font_scale *= min(1.0, (picture.shape[1] - 2 * _MARGIN_PX) / width)
    strip = height + 2 * _MARGIN_PX
    shaded = picture[:strip] if top else picture[-strip:]
    shaded //= 3  # white reads on any picture once it is darkened
    place = (_MARGIN_PX, _MARGIN_PX + height if top else rows - _MARGIN_PX)
    cv2.putText(picture, text, place, font, font_scale, (255, 255, 255), thickness, cv2.LINE_AA)


def _drawable(text: str) -> str:
    """OpenCV 5 draws Unicode. OpenCV 4 has ASCII alone: accents are left out and what remains becomes "?"; the window's
    title shows the label as it is."""
    if int(cv2.__version__.split(".")[0]) >= 5:
        return text
    plain = (char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return "".join(plain).encode("ascii", "replace").decode()
