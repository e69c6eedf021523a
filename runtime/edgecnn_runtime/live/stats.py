"""How a run goes: frame age, speed, and what went wrong, over a bounded number of frames."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from edgecnn_runtime.cameras import Frame
from edgecnn_runtime.classifier import Result
from edgecnn_runtime.live.capture import Health

WINDOW_FRAMES = 10_000  # bounds the memory of a program that runs for months
_FPS_FRAMES = 30
_REFRESH_S = 0.5  # percentiles of 10,000 numbers at every frame would cost more than some models


@dataclass(frozen=True)
class Percentiles:
    """Of the last 10,000 frames; None without a frame."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None

    def __str__(self) -> str:
        return "/".join("-" if value is None else f"{value:.0f}" for value in (self.p50, self.p95, self.p99)) + " ms"


@dataclass(frozen=True)
class Stats:
    """The state of a run after a frame.

    Attributes:
        frames: classified so far.
        seconds: since the run began, waiting for the camera included.
        fps: frames per second over the last 30, everything included; 0 while the camera is lost.
        frame_age_ms: from the capture of the last frame until its decision was there.
        age_ms, inference_ms: percentiles; at most half a second old while the run goes on.
        health: of the source.
    """

    frames: int = 0
    seconds: float = 0.0
    fps: float = 0.0
    frame_age_ms: float = 0.0
    age_ms: Percentiles = Percentiles()
    inference_ms: Percentiles = Percentiles()
    health: Health = field(default_factory=Health)

    def document(self) -> dict[str, Any]:
        """For JSON, in milliseconds and seconds, rounded."""
        whole = asdict(self)
        for name in ("age_ms", "inference_ms"):
            whole[name] = {key: None if value is None else round(value, 3) for key, value in whole[name].items()}
        for name in ("seconds", "fps", "frame_age_ms"):
            whole[name] = round(whole[name], 3)
        health = whole.pop("health")
        return {**whole, **health}


class Statistics:
    """Collects. For one thread; what it returns can be shared.

    Args:
        clock: seconds that never go back, the same as of `Frame.captured_s`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start_s = self._refreshed_s = clock()
        self._ends = deque([self._start_s], maxlen=_FPS_FRAMES + 1)
        # Frame age and inference time, the oldest overwritten. All of it at once, since a list that grows for ten
        # minutes looks like a leak.
        self._recent_ms = np.ones((2, WINDOW_FRAMES))
        self._timed = 0
        self._stats = Stats()

    def add(self, frame: Frame, result: Result, health: Health) -> Stats:
        """A frame whose decision is there now."""
        now_s = self._clock()
        self._ends.append(now_s)
        age_ms = (now_s - frame.captured_s) * 1e3
        self._recent_ms[:, self._timed % WINDOW_FRAMES] = age_ms, result.timings.inference_ms
        self._timed += 1
        fresh = self._stats.frames > 0 and now_s - self._refreshed_s < _REFRESH_S
        self._stats = Stats(
            self._stats.frames + 1,
            now_s - self._start_s,
            (len(self._ends) - 1) / max(self._ends[-1] - self._ends[0], 1e-9),
            age_ms,
            self._stats.age_ms if fresh else self._percentiles(0),
            self._stats.inference_ms if fresh else self._percentiles(1),
            health,
        )
        if not fresh:
            self._refreshed_s = now_s
        return self._stats

    def forget_times(self) -> None:
        """Begins the percentiles anew: another model answers from now on."""
        self._timed = 0

    def now(self, health: Health) -> Stats:
        """The state at this moment, with percentiles of all frames up to it; a camera that gives none has no speed."""
        last = self._stats
        return Stats(
            last.frames,
            self._clock() - self._start_s,
            0.0 if health.state in ("lost", "hung") else last.fps,
            last.frame_age_ms,
            self._percentiles(0),
            self._percentiles(1),
            health,
        )

    def _percentiles(self, row: int) -> Percentiles:
        if not self._timed:
            return Percentiles()
        recent = self._recent_ms[row, : self._timed]
        return Percentiles(*(float(value) for value in np.percentile(recent, (50, 95, 99))))
