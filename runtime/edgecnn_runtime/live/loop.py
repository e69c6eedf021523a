"""The loop: every frame through the classifier and the decision, and to the views."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgecnn_runtime.classifier import Classifier
from edgecnn_runtime.live.artifact import ArtifactFile
from edgecnn_runtime.live.capture import Frames
from edgecnn_runtime.live.decision import Decision, Rules, decide
from edgecnn_runtime.live.observation import Observation
from edgecnn_runtime.live.stats import Statistics, Stats
from edgecnn_runtime.live.views import View

_WAIT_S = 0.1  # how often the views hear of a camera that gives nothing, and a signal is heard


@dataclass(frozen=True)
class Summary:
    """How a run went.

    Attributes:
        stats: at its end.
        interrupted: whether Ctrl-C or `stop` ended it.
    """

    stats: Stats
    interrupted: bool

    def __str__(self) -> str:
        stats = self.stats
        if not stats.frames:
            return "no frames"
        inference = "-" if stats.inference_ms.p50 is None else f"{stats.inference_ms.p50:.2f}"
        health = stats.health
        return (
            f"frames: {stats.frames} in {stats.seconds:.2f} s, {stats.frames / max(stats.seconds, 1e-9):.1f} FPS, "
            f"inference {inference} ms (median), frame age {stats.age_ms} (p50/p95/p99), "
            f"dropped {health.dropped}, bad {health.bad}, reconnections {health.reconnections}"
        )


class Tuning:
    """Rules that any thread may `change` while a run goes on.

    Args:
        follows_model: the threshold is the model's own, and with another model that one's, until somebody changes it.
    """

    def __init__(self, rules: Rules, follows_model: bool = False) -> None:
        self.rules = rules
        self._follows_model = follows_model
        self._lock = threading.Lock()

    def change(self, **values: Any) -> None:
        """Puts other values in the place of those of `Rules`, and leaves what another thread changes at this moment.
        The labels are the model's, see `take`. Raises UsageError."""
        with self._lock:
            self.rules = replace(self.rules, **values)
            self._follows_model &= "threshold" not in values

    def take(self, classifier: Classifier) -> None:
        """Another model answers from now on."""
        own = Rules.of(classifier)
        with self._lock:
            threshold = own.threshold if self._follows_model else self.rules.threshold
            self.rules = replace(self.rules, labels=own.labels, threshold=threshold)


def run(
    model: Classifier | ArtifactFile,
    frames: Frames,
    views: Sequence[View],
    rules: Rules | Tuning | None = None,
    limit: int | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """Classifies frame after frame until they end, a view is closed, `limit` frames are done, Ctrl-C, or `stop` is set.

    The views are called from this thread alone. Closing camera and views is the caller's, who opened them.

    Args:
        model: a model's file may be replaced while the run goes on. With the next model the decision begins anew.
        rules: of the decision; the model's own where they are left out. Their threshold holds for the classifier's
            answer to a single frame too.

    Raises:
        EdgecnnError: the camera or the model failed.
        Exception: whatever a view raises.
    """
    file = model if isinstance(model, ArtifactFile) else None
    classifier = model.classifier if isinstance(model, ArtifactFile) else model
    tuning = rules if isinstance(rules, Tuning) else Tuning(rules or Rules.of(classifier), rules is None)
    before = tuning.rules
    statistics = Statistics()
    decision: Decision | None = None
    count, interrupted = 0, False
    try:
        while not (interrupted := stop is not None and stop.is_set()):
            if file is not None and file.renew():
                classifier, decision = file.classifier, None
                statistics.forget_times()
                tuning.take(classifier)
            try:
                frame = frames.next(_WAIT_S)
            except EOFError:
                break
            if frame is None:
                if not all([view.wait(statistics.now(frames.health())) for view in views]):
                    break
                continue
            now = tuning.rules
            classifier.reject_threshold = now.threshold
            if now is not before and decision is not None and decision.probability < now.threshold:
                # Hysteresis is against noise, not against who has just moved the threshold.
                decision = replace(decision, label=None)
            before = now
            result = classifier.classify(frame.picture, "bgr")
            decision = decide(decision, frame.at_s, result.probabilities, now)
            stats = statistics.add(frame, result, frames.health())
            observation = Observation(frame, result, decision, stats, None if file is None else file.model)
            count += 1
            if not all([view.show(observation) for view in views]) or count == limit:
                break
    except KeyboardInterrupt:
        interrupted = True
    return Summary(statistics.now(frames.health()), interrupted)
