"""The loop on real pictures and a real engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgecnn_runtime import Classifier
from edgecnn_runtime.cameras import Frame
from edgecnn_runtime.live.loop import run
from edgecnn_runtime.live.observation import Observation

BGR = {"red": (0, 0, 220), "green": (0, 220, 0), "blue": (220, 0, 0)}


class Recorder:
    """A view that keeps what it is shown and asks to end after `limit`."""

    def __init__(self, limit: int | None = None) -> None:
        self.seen: list[Observation] = []
        self._limit = limit

    def show(self, observation: Observation) -> bool:
        self.seen.append(observation)
        return len(self.seen) != self._limit

    def close(self) -> None:
        pass


def frames(*labels: str) -> Iterator[Frame]:
    for index, label in enumerate(labels):
        yield Frame(np.full((48, 64, 3), BGR[label], np.uint8), time.monotonic(), index)


@pytest.fixture
def classifier(tiny_artifact: Path) -> Classifier:
    return Classifier.load(tiny_artifact)


def test_every_frame_is_classified_in_the_right_colour_order(classifier: Classifier) -> None:
    view = Recorder()
    summary = run(classifier, frames("red", "green", "blue", "blue"), [view])
    assert [seen.result.label for seen in view.seen] == ["red", "green", "blue", "blue"]
    assert all(seen.frame_age_ms >= seen.result.timings.total_ms > 0 for seen in view.seen)
    assert (summary.frames, summary.interrupted) == (4, False)
    assert str(summary).startswith("frames: 4 in ")


def test_fps_and_age_are_those_of_the_clock(classifier: Classifier) -> None:
    def slow() -> Iterator[Frame]:
        for frame in frames(*["red"] * 10):
            time.sleep(0.02)
            yield frame

    view = Recorder()
    summary = run(classifier, slow(), [view])
    assert 15 < view.seen[-1].fps < 50
    assert summary.frames / summary.seconds == pytest.approx(view.seen[-1].fps, rel=0.1)
    assert view.seen[-1].frame_age_ms >= 20


@pytest.mark.parametrize(("limit", "view_limit"), [(2, None), (None, 2)])
def test_it_ends_at_the_limit_and_when_a_view_is_closed(
    classifier: Classifier, limit: int | None, view_limit: int | None
) -> None:
    first, second = Recorder(view_limit), Recorder()
    summary = run(classifier, frames(*["red"] * 9), [first, second], limit)
    assert summary.frames == len(first.seen) == len(second.seen) == 2


def test_ctrl_c_still_gives_the_summary(classifier: Classifier) -> None:
    def stopped() -> Iterator[Frame]:
        yield from frames("red")
        raise KeyboardInterrupt

    summary = run(classifier, stopped(), [Recorder()])
    assert (summary.frames, summary.interrupted) == (1, True)


def test_no_frame_is_no_crash(classifier: Classifier) -> None:
    assert str(run(classifier, frames(), [])) == "no frames"


def test_below_the_threshold_it_says_unsure(classifier: Classifier) -> None:
    classifier.reject_threshold = 1.0
    view = Recorder()
    grey = Frame(np.full((48, 64, 3), 100, np.uint8), time.monotonic(), 0)
    run(classifier, [grey], [view])
    assert view.seen[0].result.label is None
    assert view.seen[0].caption == f"unsure {view.seen[0].result.probability:.1%}"
