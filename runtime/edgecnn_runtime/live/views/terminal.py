"""The terminal: one line rewritten in place, or lines in a file or pipe."""

from __future__ import annotations

import os
import shutil
import sys
import time

from rich.cells import set_cell_size

from edgecnn_runtime.errors import EdgecnnError
from edgecnn_runtime.live.observation import Observation, trouble
from edgecnn_runtime.live.stats import Stats

_REDRAW_S = 0.1  # faster than an eye reads; a slow connection would hold up the frames
_LINE_S = 1.0
_JOURNAL_LINE_S = 60.0  # a service's log is kept for months, and lies on a card that wears out


class TerminalView:
    """Writes to stdout; raises EdgecnnError where that fails. In a file or pipe: a line when the answer or the camera's
    state changes, and one a second; in the journal one a minute."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._every_s = _REDRAW_S if self._terminal else _JOURNAL_LINE_S if _is_journal() else _LINE_S
        self._last: str | None = None
        self._written: str | None = None
        self._said: tuple[str | None, str] | None = None
        self._written_s = 0.0

    def show(self, observation: Observation) -> bool:
        """See `edgecnn_runtime.live.views.View`."""
        stats = observation.stats
        speed = f"{stats.fps:.1f} FPS  inference {observation.result.timings.inference_ms:.1f} ms"
        self._say(f"{observation.caption}  {speed}", stats, observation.decision.label)
        return True

    def wait(self, stats: Stats) -> bool:
        """See `edgecnn_runtime.live.views.View`."""
        if trouble(stats):
            self._say(stats.health.detail or "no frame", stats, None)
        return True

    def close(self) -> None:
        """Writes the last observation, if it is not written yet, and ends the line."""
        if self._last is not None and self._last != self._written:
            self._write(self._last)
        if self._terminal and self._last is not None:
            self._print("\n")
        self._last = None

    def _say(self, words: str, stats: Stats, label: str | None) -> None:
        health = stats.health
        words = f"{words}  age {stats.age_ms}  dropped {health.dropped}"
        counts = ((health.bad, "bad"), (health.reconnections, "reconnected"))
        words += "".join(f"  {name} {count}" for count, name in counts if count)
        # First, since a terminal may be too narrow for all of it.
        self._last = f"{trouble(stats)}: {words}" if trouble(stats) else words
        due = time.monotonic() - self._written_s >= self._every_s
        said = (label, trouble(stats))
        if due or (said != self._said and not self._terminal):
            self._write(self._last)
            self._said = said

    def _write(self, line: str) -> None:
        self._written, self._written_s = line, time.monotonic()
        if self._terminal:
            # Filled up with blanks to cover the line before, one short of the width so that nothing wraps.
            self._print(f"\r{set_cell_size(line, shutil.get_terminal_size().columns - 1)}")
        else:
            self._print(f"{line}\n")

    def _print(self, text: str) -> None:
        try:
            print(text, end="", flush=True)
        except BrokenPipeError:  # a reader may go when it has seen enough
            raise
        except OSError as error:
            self._last = None
            raise EdgecnnError(f"stdout: cannot be written: {error.strerror or error}") from error


def _is_journal() -> bool:
    """Whether stdout goes to the journal itself, by what systemd says of it (man systemd.exec, JOURNAL_STREAM)."""
    try:
        found = os.fstat(sys.stdout.fileno())
    except (OSError, ValueError):  # no file at all
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
