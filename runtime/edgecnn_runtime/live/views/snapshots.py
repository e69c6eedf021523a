"""Snapshots: the frame with which an event begins, as a JPEG file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import cv2

from edgecnn_runtime.errors import EdgecnnError
from edgecnn_runtime.live.observation import Observation
from edgecnn_runtime.live.stats import Stats

_QUALITY = 92


class Snapshots:
    """Saves frames as they are, without a caption, so that they can be trained on.

    Args:
        folder: made if it is not there.
        labels: of the events to save; all where it is empty.

    Raises:
        EdgecnnError: the folder or a file cannot be written, now or in `show`.
    """

    def __init__(self, folder: Path, labels: Sequence[str]) -> None:
        self._folder, self._labels = folder, frozenset(labels)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EdgecnnError(f"{folder}: cannot be made: {error.strerror}") from error

    def show(self, observation: Observation) -> bool:
        """See `edgecnn_runtime.live.views.View`."""
        event = observation.decision.event
        if event is not None and (event in self._labels or not self._labels):
            # A label is text from a file: it may hold what names a folder, or what a file system refuses.
            label = re.sub(r"[^\w-]+", "_", event)[:60]
            moment = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
            path = self._folder / f"{moment}-{label}-{observation.frame.index:06}.jpg"
            data = cv2.imencode(".jpg", observation.frame.picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
            temporary = path.with_suffix(".tmp")
            try:
                temporary.write_bytes(data)
                temporary.replace(path)
            except OSError as error:
                temporary.unlink(missing_ok=True)
                raise EdgecnnError(f"{path}: cannot be written: {error.strerror}") from error
        return True

    def wait(self, stats: Stats) -> bool:
        """See `edgecnn_runtime.live.views.View`."""
        return True

    def close(self) -> None:
        """Nothing is open."""
