"""Whether a live camera still sees: lost, frozen and black pictures, by the times that it is told."""

from __future__ import annotations

from typing import Literal

import numpy as np

from edgecnn_runtime.decode import Picture

State = Literal["ok", "lost", "frozen", "black", "hung"]

# A tenth less than the second within which a failure has to stand in the view.
QUIET_S = 0.9
_BLACK_LEVEL = 32  # video calls 16 black, and the sensor's noise comes on top
_BLACK_SHARE = 0.99


class Watchdog:
    """Told of every good frame, it says how the camera is; that it is "hung" is not for it to see. It has no clock: all
    times are seconds of the caller's.

    Attributes:
        quiet_s: for so long a camera may show nothing, the same bytes, or black, before that is a state.
    """

    def __init__(self, now_s: float, quiet_s: float = QUIET_S) -> None:
        self.quiet_s = quiet_s
        self._seen_s = self._changed_s = self._bright_s = now_s
        self._before: Picture | None = None

    def saw(self, picture: Picture, now_s: float) -> None:
        """A good frame, as the camera gave it.

        Args:
            picture: ``(H, W, 3)`` uint8; nobody may write into it afterwards.
        """
        self._seen_s = now_s
        if self._before is None or not _same(picture, self._before):
            self._changed_s = now_s
        if not _is_black(picture):
            self._bright_s = now_s
        self._before = picture

    def state(self, now_s: float) -> State:
        """What it is now. Black goes before frozen: darkness without noise is black, and opening the camera again does
        not bring light."""
        if now_s - self._seen_s >= self.quiet_s:
            return "lost"
        if now_s - self._bright_s >= self.quiet_s:
            return "black"
        if now_s - self._changed_s >= self.quiet_s:
            return "frozen"
        return "ok"


def _same(picture: Picture, before: Picture) -> bool:
    # A sensor's noise shows in the first rows looked at, so the whole picture is compared only when it stands still.
    return np.array_equal(picture[::16], before[::16]) and np.array_equal(picture, before)


def _is_black(picture: Picture) -> bool:
    return float((picture[::8, ::8].max(axis=2) <= _BLACK_LEVEL).mean()) >= _BLACK_SHARE
