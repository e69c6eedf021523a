"""The terminal: one line rewritten in place, or lines in a file or pipe."""

from __future__ import annotations

import shutil
import sys
import time

from rich.cells import set_cell_size

from edgecnn_runtime.live.observation import Observation

_REDRAW_S = 0.1  # faster than an eye reads; a slow connection would hold up the frames
_LINE_S = 1.0


class TerminalView:
    """Writes to stdout. In a file or pipe: a line whenever the label changes, and at least one a second."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._last: Observation | None = None
        self._written: Observation | None = None
        self._written_s = 0.0

    def show(self, observation: Observation) -> bool:
        """See `edgecnn_runtime.live.views.View`."""
        self._last = observation
        due = time.monotonic() - self._written_s >= (_REDRAW_S if self._terminal else _LINE_S)
        changed = self._written is None or observation.result.label != self._written.result.label
        if due or (changed and not self._terminal):
            self._write(observation)
        return True

    def close(self) -> None:
        """Writes the last observation, if it is not written yet, and ends the line."""
        if self._last is not None and self._last is not self._written:
            self._write(self._last)
        if self._terminal and self._last is not None:
            print(flush=True)

    def _write(self, observation: Observation) -> None:
        self._written, self._written_s = observation, time.monotonic()
        speed = f"{observation.fps:.1f} FPS  inference {observation.result.timings.inference_ms:.1f} ms"
        line = f"{observation.caption}  {speed}"
        if self._terminal:
            # Filled up with blanks to cover the line before, one short of the width so that nothing wraps.
            line = set_cell_size(line, shutil.get_terminal_size().columns - 1)
            print(f"\r{line}", end="", flush=True)
        else:
            print(line, flush=True)
