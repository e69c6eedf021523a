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
from edgecnn_runtime.live.observation import Observation

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
        title = f"{NAME}: {observation.result.label or 'unsure'}"
        if title != self._title:
            cv2.setWindowTitle(NAME, title)
            self._title = title
        cv2.imshow(NAME, picture)
        return cv2.waitKey(1) & 0xFF not in _ENDING_KEYS and _is_open()

    def close(self) -> None:
        """Closes the window."""
        cv2.destroyAllWindows()


def _is_open() -> bool:
    try:
        return bool(cv2.getWindowProperty(NAME, cv2.WND_PROP_VISIBLE) >= 1)
    except cv2.error:  # what OpenCV 4 says of a window that was closed
        return False


def draw(observation: Observation) -> Picture:
    """The frame in a size for the screen, with a caption.

    Returns:
        ``(H, W, 3)`` uint8, BGR, 0-255, a new array; at most 1280x720, and 480 high where the frame is smaller.
    """
    rows, columns = observation.frame.picture.shape[:2]
    scale = min(max(1.0, _MIN_HEIGHT_PX / rows), _MAX_HEIGHT_PX / rows, _MAX_WIDTH_PX / columns)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    picture = np.asarray(cv2.resize(observation.frame.picture, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    text = _drawable(f"{observation.caption}  {observation.fps:.0f} FPS")
    font, font_scale = cv2.FONT_HERSHEY_SIMPLEX, 1.0
    (width, height), _ = cv2.getTextSize(text, font, font_scale, 2)
    font_scale *= min(1.0, (size[0] - 2 * _MARGIN_PX) / width)
    picture[-(height + 2 * _MARGIN_PX) :] //= 3  # white reads on any picture once it is darkened
    cv2.putText(picture, text, (_MARGIN_PX, size[1] - _MARGIN_PX), font, font_scale, (255, 255, 255), 2, cv2.LINE_AA)
    return picture


def _drawable(text: str) -> str:
    """OpenCV 5 draws Unicode. OpenCV 4 has ASCII alone: accents are left out and what remains becomes "?"; the window's
    title shows the label as it is."""
    if int(cv2.__version__.split(".")[0]) >= 5:
        return text
    plain = (char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return "".join(plain).encode("ascii", "replace").decode()
