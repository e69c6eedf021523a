"""JSON lines: one object for each frame, in a file or on stdout."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from edgecnn_runtime.commands import SCHEMA
from edgecnn_runtime.errors import EdgecnnError
from edgecnn_runtime.live.observation import Observation
from edgecnn_runtime.live.stats import Stats


class JsonLines:
    """Writes each line at once, whole.

    Args:
        path: a file, which is replaced; None is stdout.
        append: add to the file what it does not have yet.

    Raises:
        EdgecnnError: the file cannot be written, now or in `show`.
    """

    def __init__(self, path: Path | None, append: bool = False) -> None:
        self._path = path
        self._model = -1
        try:
            self._file = sys.stdout
            if path is not None:
                mode = "a" if append else "w"
                self._file = path.open(mode, encoding="utf-8", errors="backslashreplace", newline="\n")
        except OSError as error:
            raise self._failed(error) from error

    def show(self, observation: Observation) -> bool:
        """See `edgecnn_runtime.live.views.View`."""
        result, decision, timings = observation.result, observation.decision, observation.result.timings
        model = observation.model
        is_new = model is not None and model.number != self._model
        self._model = self._model if model is None else model.number
        document = {
            "schema": SCHEMA,
            "command": "live",
            "frame": observation.frame.index,
            "at_s": round(observation.frame.at_s, 4),
            "label": decision.label,
            "probability": decision.probability,
            "event": decision.event,
            "raw": {"label": result.label, "probability": result.probability},
            "frame_age_ms": round(observation.stats.frame_age_ms, 3),
            "timings_ms": {
                "preprocess": round(timings.preprocess_ms, 3),
                "inference": round(timings.inference_ms, 3),
                "total": round(timings.total_ms, 3),
            },
            "camera": observation.stats.health.state,
            "model": None if model is None else model.number,
            "new_model": model.document() if model is not None and is_new else None,
        }
        self._write(json.dumps(document, ensure_ascii=False))
        return True

    def wait(self, stats: Stats) -> bool:
        """See `edgecnn_runtime.live.views.View`."""
        return True

    def close(self) -> None:
        """Closes the file."""
        if self._path is None:
            return
        try:
            self._file.close()
        except OSError as error:
            raise self._failed(error) from error

    def _write(self, line: str) -> None:
        try:
            print(line, file=self._file, flush=True)  # whoever reads it acts on it now
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> EdgecnnError:
        return EdgecnnError(f"{self._path or 'stdout'}: cannot be written: {error.strerror or error}")
