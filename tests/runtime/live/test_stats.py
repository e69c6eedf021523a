"""Statistics with a clock that the test sets."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest

from edgecnn_runtime.cameras import Frame
from edgecnn_runtime.classifier import Result, Timings
from edgecnn_runtime.live.capture import Health
from edgecnn_runtime.live.stats import WINDOW_FRAMES, Statistics

PICTURE = np.zeros((2, 2, 3), np.uint8)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_ages_speed_and_health_are_those_of_the_clock() -> None:
    clock = Clock()
    statistics, health = Statistics(clock), Health(dropped=3, reconnections=1)
    for index in range(100):
        clock.now += 0.1
        result = Result("a", 1.0, np.ones(1, np.float32), ("a",), Timings(0, 1, index + 1))
        frame = Frame(PICTURE, clock.now - (index + 1) / 1e3, index, index / 10)
        stats = statistics.add(frame, result, health)
    assert (stats.frames, stats.health) == (100, health)
    assert stats.seconds == pytest.approx(10)
    assert stats.fps == pytest.approx(10)
    assert stats.frame_age_ms == pytest.approx(100)
    last = statistics.now(health)
    assert last.age_ms.p50 == pytest.approx(50.5)
    assert last.age_ms.p95 == pytest.approx(95.05)
    assert last.inference_ms.p99 == pytest.approx(99.01)
    assert str(last.age_ms) == "50/95/99 ms"
    document = json.loads(json.dumps(last.document()))
    assert document["age_ms"] == {"p50": 50.5, "p95": 95.05, "p99": 99.01}
    assert (document["dropped"], document["reconnections"], document["state"]) == (3, 1, "ok")
    assert last.fps == pytest.approx(10)
    for state in ("lost", "hung"):
        assert statistics.now(Health(state)).fps == 0, "what gives nothing has no speed"


def test_memory_does_not_grow_and_old_frames_are_forgotten() -> None:
    clock = Clock()
    statistics = Statistics(clock)
    result = Result("a", 1.0, np.ones(1, np.float32), ("a",), Timings(0, 1, 1))
    tracemalloc.start()
    for index in range(WINDOW_FRAMES + 500):
        clock.now += 0.001
        age_s = 9.0 if index < 500 else 0.01
        statistics.add(Frame(PICTURE, clock.now - age_s, index, 0), result, Health())
        if index == 100:
            early, _ = tracemalloc.get_traced_memory()
    late, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert late - early < 50_000
    assert statistics.now(Health()).age_ms.p99 == pytest.approx(10)


def test_without_a_frame_there_is_no_number() -> None:
    stats = Statistics().now(Health("lost"))
    assert stats.age_ms.p50 is None
    assert str(stats.age_ms) == "-/-/- ms"


def test_the_times_of_a_model_that_was_replaced_are_forgotten() -> None:
    statistics = Statistics(clock := Clock())
    for inference_ms in (500.0, 2.0):
        result = Result("a", 1.0, np.ones(1, np.float32), ("a",), Timings(0, 1, inference_ms))
        statistics.forget_times()
        assert statistics.now(Health()).inference_ms.p50 is None
        statistics.add(Frame(PICTURE, clock.now, 0, 0.0), result, Health())
    stats = statistics.now(Health())
    assert (stats.frames, stats.inference_ms.p99) == (2, 2.0)
