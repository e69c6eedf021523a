"""What is known after one frame."""

from __future__ import annotations

from dataclasses import dataclass

from edgecnn_runtime.cameras import Frame
from edgecnn_runtime.classifier import Result
from edgecnn_runtime.live.artifact import Model
from edgecnn_runtime.live.decision import Decision
from edgecnn_runtime.live.stats import Stats


@dataclass(frozen=True, eq=False)
class Observation:
    """A frame, what the model says about it, and what is decided. Nothing in it changes any more: threads can share it.

    Attributes:
        result: of this frame alone.
        decision: the answer, by this frame and those before.
        stats: of the run so far.
        model: what `result` comes from, where the caller says it.
    """

    frame: Frame
    result: Result
    decision: Decision
    stats: Stats
    model: Model | None = None

    @property
    def caption(self) -> str:
        """Answer and probability for people; "unknown" below the reject threshold."""
        return f"{self.decision.label or 'unknown'} {self.decision.probability:.1%}"

    @property
    def trouble(self) -> str:
        """What is wrong with the camera, in a few words; empty where nothing is."""
        return trouble(self.stats)


_TROUBLES = {
    "ok": "",
    "lost": "camera lost, trying again",
    "frozen": "camera frozen, trying again",
    "black": "camera sees black",
    "hung": "camera does not answer any more, restart edgecnn",
}


def trouble(stats: Stats) -> str:
    """See `Observation.trouble`."""
    return _TROUBLES[stats.health.state]
