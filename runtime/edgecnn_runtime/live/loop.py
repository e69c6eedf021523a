"""The loop: every frame through the classifier and to the views."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgecnn_runtime.cameras import Frame
from edgecnn_runtime.classifier import Classifier
from edgecnn_runtime.live.observation import Observation
from edgecnn_runtime.live.views import View

_FPS_FRAMES = 30
_MEDIAN_FRAMES = 10_000  # bounds the memory of a program that runs for months


@dataclass(frozen=True)
class Summary:
    """How a run went.

    Attributes:
        seconds: from before the first frame to the end, waiting for the camera included.
        median_inference_ms: over the last 10,000 frames; None without a frame.
        interrupted: whether Ctrl-C ended it.
    """

    frames: int
    seconds: float
    median_inference_ms: float | None
    interrupted: bool

    def __str__(self) -> str:
        if self.median_inference_ms is None:
            return "no frames"
        speed = f"{self.frames / self.seconds:.1f} FPS, inference {self.median_inference_ms:.2f} ms (median)"
        return f"frames: {self.frames} in {self.seconds:.2f} s, {speed}"


def run(classifier: Classifier, frames: Iterable[Frame], views: Sequence[View], limit: int | None = None) -> Summary:
    """Classifies frame after frame until they end, a view is closed, `limit` frames are done, or Ctrl-C.

    Closing camera and views is the caller's, who opened them.

    Raises:
        EdgecnnError: the camera or the model failed.
    """
    start = time.perf_counter()
    ends = deque([start], maxlen=_FPS_FRAMES + 1)
    inference_ms: deque[float] = deque(maxlen=_MEDIAN_FRAMES)
    count, interrupted = 0, False
    try:
        for frame in frames:
            result = classifier.classify(frame.picture, "bgr")
            frame_age_ms = (time.monotonic() - frame.captured_s) * 1e3
            ends.append(time.perf_counter())
            inference_ms.append(result.timings.inference_ms)
            count += 1
            fps = (len(ends) - 1) / (ends[-1] - ends[0])
            observation = Observation(frame, result, frame_age_ms, fps)
            if not all([view.show(observation) for view in views]) or count == limit:
                break
    except KeyboardInterrupt:
        interrupted = True
    median = statistics.median(inference_ms) if inference_ms else None
    return Summary(count, time.perf_counter() - start, median, interrupted)
