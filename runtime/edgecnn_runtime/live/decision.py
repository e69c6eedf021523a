"""The decision: from the probabilities of many frames to one answer that does not flicker, and to events.

A pure function of times and probabilities: the same frames give the same answers, however fast they are read.

    decision = None
    for frame in frames:
        result = classifier.classify(frame.picture, "bgr")
        decision = decide(decision, frame.at_s, result.probabilities, rules)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edgecnn_runtime.classifier import Classifier
from edgecnn_runtime.errors import UsageError
from edgecnn_runtime.metrics import Probabilities


@dataclass(frozen=True)
class Rules:
    """How frames become an answer.

    Attributes:
        labels: of the classes, in the order of the probabilities.
        threshold: an answer less probable than this, in [0, 1], is "unknown"; 0 rejects nothing.
        smoothing_ms: time constant of the exponential average of the probabilities; 0 is none.
        hysteresis: in [0, 1). Another answer must be more probable than the present one by this share of their sum; and
            an answer that stands may fall by this share below the threshold before it is "unknown".
        min_duration_ms: an answer that has stood for so long is an event.
        cooldown_ms: after an event there is none of the same label for so long.

    Raises:
        UsageError: a value is out of its range.
    """

    labels: tuple[str, ...]
    threshold: float = 0.0
    smoothing_ms: float = 150.0
    hysteresis: float = 0.1
    min_duration_ms: float = 500.0
    cooldown_ms: float = 2000.0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"a threshold is in [0, 1] (received: {self.threshold})")
        if not 0 <= self.hysteresis < 1:
            raise UsageError(f"hysteresis is in [0, 1) (received: {self.hysteresis})")
        for value in (self.smoothing_ms, self.min_duration_ms, self.cooldown_ms):
            if not (0 <= value < math.inf):
                raise UsageError(f"smoothing, minimum duration and cooldown are 0 ms or more (received: {value})")

    @classmethod
    def of(cls, classifier: Classifier) -> Rules:
        """The model's labels and its reject threshold (its temperature is in the probabilities already)."""
        return cls(classifier.contract.labels, classifier.reject_threshold)


@dataclass(frozen=True, eq=False)
class Decision:
    """What is said after a frame, and what has to be remembered for the next.

    Attributes:
        label: the answer; None is "unknown".
        probability: smoothed, in [0, 1], of the answer; of the most probable class where it is "unknown".
        event: the label whose event begins with this frame; None for most frames.
        since_s: when the answer came up.
        at_s: of the frame.
        smoothed: ``(classes,)`` float32, the averaged probabilities; sum as of the frames'.
        events: when the last event of each label began.
        announced: whether the present answer was an event, or came up too soon after its last one.
    """

    label: str | None
    probability: float
    event: str | None
    since_s: float
    at_s: float
    smoothed: Probabilities
    events: Mapping[str, float] = field(default_factory=dict)
    announced: bool = False


def decide(before: Decision | None, at_s: float, probabilities: Probabilities, rules: Rules) -> Decision:
    """The decision after one more frame.

    The average is that of a first-order low-pass filter for uneven times: a = 1 - exp(-dt / time constant),
    s += a (p - s).

    Args:
        before: what was decided after the frame before; None for the first.
        at_s: when the frame was taken, in seconds; a time before that of `before` counts as the same.
        probabilities: ``(classes,)`` float32 in [0, 1], in the order of ``rules.labels``.
    """
    if before is None:
        smoothed = probabilities
    else:
        at_s = max(at_s, before.at_s)
        weight = 1.0 if rules.smoothing_ms == 0 else -math.expm1((before.at_s - at_s) * 1e3 / rules.smoothing_ms)
        smoothed = np.asarray(before.smoothed + np.float32(weight) * (probabilities - before.smoothed), np.float32)
    chosen = _choose(None if before is None else before.label, smoothed, rules)
    label = None if chosen is None else rules.labels[chosen]
    probability = float(smoothed.max() if chosen is None else smoothed[chosen])
    if before is None or label != before.label:
        since_s, announced = at_s, False
    else:
        since_s, announced = before.since_s, before.announced
    events = {} if before is None else before.events
    event = None
    if label is not None and not announced and (at_s - since_s) * 1e3 >= rules.min_duration_ms:
        announced = True
        if label not in events or (at_s - events[label]) * 1e3 >= rules.cooldown_ms:
            event, events = label, {**events, label: at_s}
    return Decision(label, probability, event, since_s, at_s, smoothed, events, announced)


def _choose(label: str | None, smoothed: Probabilities, rules: Rules) -> int | None:
    best = int(np.argmax(smoothed))
    if label is not None:
        present = rules.labels.index(label)
        stands = smoothed[present] >= rules.threshold * (1 - rules.hysteresis)
        # A share, since a network of 1,000 classes may see 10 % against 3 % where one of two sees 75 % against 25 %.
        lead, both = smoothed[best] - smoothed[present], smoothed[best] + smoothed[present]
        if stands and (best == present or lead < rules.hysteresis * both):
            return present
    return best if smoothed[best] >= rules.threshold else None
