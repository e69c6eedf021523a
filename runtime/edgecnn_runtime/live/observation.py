"""What is known after one frame."""

from __future__ import annotations

from dataclasses import dataclass

from edgecnn_runtime.cameras import Frame
from edgecnn_runtime.classifier import Result


@dataclass(frozen=True, eq=False)
class Observation:
    """A frame and what the model says about it.

    Attributes:
        frame_age_ms: from the frame's capture until the result was there.
        fps: frames per second over the last frames, everything included.
    """

    frame: Frame
    result: Result
    frame_age_ms: float
    fps: float

    @property
    def caption(self) -> str:
        """Label and probability for people; "unsure" below the reject threshold."""
        return f"{self.result.label or 'unsure'} {self.result.probability:.1%}"
