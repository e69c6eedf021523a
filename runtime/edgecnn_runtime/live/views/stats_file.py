"""The statistics as a JSON file, whole at any moment."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from edgecnn_runtime.commands import SCHEMA
from edgecnn_runtime.errors import EdgecnnError
from edgecnn_runtime.live.observation import Observation
from edgecnn_runtime.live.stats import Stats

_EVERY_S = 5.0


class StatsFile:
    """Writes the last statistics at once, every five seconds, and at the end; raises EdgecnnError where that fails."""

    def __init__(self, path: Path, camera: str) -> None:
        self._path, self._camera = path, camera
        self._last = Stats()
        self._write()

    def show(self, observation: Observation) -> bool:
        """See `edgecnn_runtime.live.views.View`."""
        return self.wait(observation.stats)

    def wait(self, stats: Stats) -> bool:
        """See `edgecnn_runtime.live.views.View`."""
        self._last = stats
        if time.monotonic() - self._written_s >= _EVERY_S:
            self._write()
        return True

    def finish(self, stats: Stats) -> None:
        """The statistics of the end, for `close` to write."""
        self._last = stats

    def close(self) -> None:
        """Writes the file for the last time."""
        self._write()

    def _write(self) -> None:
        self._written_s = time.monotonic()
        document = {"schema": SCHEMA, "command": "live", "camera": self._camera, **self._last.document()}
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
            temporary.replace(self._path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise EdgecnnError(f"{self._path}: cannot be written: {error.strerror}") from error
