"""The loop on real pictures and a real engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecnn_runtime import Classifier
from edgecnn_runtime.cameras import Frame
from edgecnn_runtime.live.capture import Frames, Health, open_frames
from edgecnn_runtime.live.decision import Rules
from edgecnn_runtime.live.loop import Tuning, run
from edgecnn_runtime.live.observation import Observation
from edgecnn_runtime.live.stats import Stats

BGR = {"red": (0, 0, 220), "green": (0, 220, 0), "blue": (220, 0, 0)}


class Recorder:
    """A view that keeps what it is shown and asks to end after `limit`."""

    def __init__(self, limit: int | None = None) -> None:
        self.seen: list[Observation] = []
        self.waits: list[Stats] = []
        self._limit = limit

    def show(self, observation: Observation) -> bool:
        self.seen.append(observation)
        return len(self.seen) != self._limit

    def wait(self, stats: Stats) -> bool:
        self.waits.append(stats)
        return len(self.waits) != self._limit

    def close(self) -> None:
        pass


class Given(Frames):
    """Frames of one colour each; an exception is raised in its place, None is a pause."""

    name, fps = "given", 30.0

    def __init__(self, *labels: str | BaseException | None) -> None:
        self._labels = iter(enumerate(labels))

    def next(self, timeout_s: float) -> Frame | None:
        index, label = next(self._labels, (0, EOFError()))
        if isinstance(label, BaseException):
            raise label
        if label is None:
            return None
        return Frame(np.full((48, 64, 3), BGR[label], np.uint8), time.monotonic(), index, index / 30)

    def health(self) -> Health:
        return Health("lost", dropped=2)

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def classifier(tiny_artifact: Path) -> Classifier:
    return Classifier.load(tiny_artifact)


def raw_labels(seen: Iterable[Observation]) -> list[str | None]:
    return [observation.result.label for observation in seen]


def test_every_frame_is_classified_in_the_right_colour_order(classifier: Classifier) -> None:
    view = Recorder()
    summary = run(classifier, Given("red", "green", "blue", "blue"), [view])
    assert raw_labels(view.seen) == ["red", "green", "blue", "blue"]
    assert all(seen.stats.frame_age_ms >= seen.result.timings.total_ms > 0 for seen in view.seen)
    assert (summary.stats.frames, summary.interrupted) == (4, False)
    assert str(summary).startswith("frames: 4 in ")
    assert "dropped 2" in str(summary)


def test_the_decision_follows_the_rules(classifier: Classifier) -> None:
    rules = Rules.of(classifier)
    labels = ["red"] * 20 + ["green"] + ["red"] * 5 + ["blue"] * 30
    view = Recorder()
    run(classifier, Given(*labels), [view], rules)
    answers = [seen.decision.label for seen in view.seen]
    assert answers[:26] == ["red"] * 26
    assert answers[-20:] == ["blue"] * 20
    assert [seen.decision.event for seen in view.seen if seen.decision.event] == ["red", "blue"]


def test_a_pause_is_told_to_the_views_with_the_cameras_state(classifier: Classifier) -> None:
    view = Recorder()
    run(classifier, Given("red", None, None, "red"), [view])
    assert len(view.seen) == 2
    assert [stats.health.state for stats in view.waits] == ["lost", "lost"]
    assert view.seen[0].trouble == "camera lost, trying again"
    closed = Recorder(1)
    assert run(classifier, Given(None, None, "red"), [closed]).stats.frames == 0


@pytest.mark.parametrize(("limit", "view_limit"), [(2, None), (None, 2)])
def test_it_ends_at_the_limit_and_when_a_view_is_closed(
    classifier: Classifier, limit: int | None, view_limit: int | None
) -> None:
    first, second = Recorder(view_limit), Recorder()
    summary = run(classifier, Given(*["red"] * 9), [first, second], limit=limit)
    assert summary.stats.frames == len(first.seen) == len(second.seen) == 2


def test_ctrl_c_still_gives_the_summary(classifier: Classifier) -> None:
    summary = run(classifier, Given("red", KeyboardInterrupt()), [Recorder()])
    assert (summary.stats.frames, summary.interrupted) == (1, True)


def test_it_stops_when_it_is_told_from_another_thread(classifier: Classifier) -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    with open_frames("fake:") as frames:
        summary = run(classifier, frames, [Recorder()], stop=stop)
    assert summary.interrupted
    assert summary.stats.frames > 0


def test_a_view_that_raises_ends_the_run_and_the_camera_is_free(classifier: Classifier) -> None:
    class Broken(Recorder):
        def show(self, observation: Observation) -> bool:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), open_frames("fake:") as frames:
        run(classifier, frames, [Broken()])
    assert not any(thread.name.startswith("capture") for thread in threading.enumerate())


def test_no_frame_is_no_crash(classifier: Classifier) -> None:
    assert str(run(classifier, Given(), [])) == "no frames"


def test_below_the_threshold_it_says_unknown(classifier: Classifier) -> None:
    classifier.reject_threshold = 1.0
    view = Recorder()
    run(classifier, Given("red"), [view])
    assert view.seen[0].result.label is None
    assert view.seen[0].decision.label is None
    assert view.seen[0].caption == f"unknown {view.seen[0].result.probability:.1%}"


def test_rules_that_change_hold_from_the_next_frame_on(classifier: Classifier) -> None:
    tuning = Tuning(replace(Rules.of(classifier), smoothing_ms=0))

    class Strict(Recorder):
        """Raises the threshold after two frames, by less than hysteresis would bridge."""

        def show(self, observation: Observation) -> bool:
            if len(self.seen) == 1:
                threshold = min(1.0, observation.decision.probability + 0.01)
                tuning.change(threshold=threshold)
            return super().show(observation)

    view = Strict()
    run(classifier, Given(*["red"] * 4), [view], tuning)
    assert [seen.decision.label for seen in view.seen] == ["red", "red", None, None]
    assert raw_labels(view.seen) == ["red", "red", None, None]
