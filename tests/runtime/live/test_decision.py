"""The decision as a pure function of times and probabilities."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn_runtime import Classifier
from edgecnn_runtime.errors import UsageError
from edgecnn_runtime.live.decision import Decision, Rules, decide

LABELS = ("a", "b", "c")
RULES = Rules(LABELS)
RAW = Rules(LABELS, smoothing_ms=0, hysteresis=0, min_duration_ms=0, cooldown_ms=0)


def one_hot(label: str, sure: float = 0.9) -> np.ndarray:
    probabilities = np.full(3, (1 - sure) / 2, np.float32)
    probabilities[LABELS.index(label)] = sure
    return probabilities


def decided(frames: Sequence[np.ndarray], rules: Rules, fps: float = 30.0) -> list[Decision]:
    decisions: list[Decision] = []
    for index, probabilities in enumerate(frames):
        decisions.append(decide(decisions[-1] if decisions else None, index / fps, probabilities, rules))
    return decisions


def flips(labels: Sequence[str | None]) -> int:
    return sum(before != after for before, after in itertools.pairwise(labels))


@st.composite
def clips(draw: st.DrawFn) -> tuple[list[float], list[np.ndarray]]:
    steps = draw(st.lists(st.floats(0, 2), min_size=1, max_size=40))
    weights = draw(
        st.lists(st.lists(st.integers(0, 100), min_size=3, max_size=3), min_size=len(steps), max_size=len(steps))
    )
    probabilities = [np.array(row, np.float32) + np.float32(1e-3) for row in weights]
    return list(itertools.accumulate(steps)), [row / row.sum() for row in probabilities]


some_rules = st.builds(
    Rules,
    st.just(LABELS),
    threshold=st.floats(0, 1),
    smoothing_ms=st.floats(0, 5000),
    hysteresis=st.floats(0, 0.9),
    min_duration_ms=st.floats(0, 3000),
    cooldown_ms=st.floats(0, 3000),
)


@given(clip=clips(), rules=some_rules)
def test_what_holds_for_every_clip(clip: tuple[list[float], list[np.ndarray]], rules: Rules) -> None:
    before, last_event = None, dict[str, float]()
    for at_s, probabilities in zip(*clip, strict=True):
        now = decide(before, at_s, probabilities, rules)
        again = decide(before, at_s, probabilities, rules)
        assert (now.label, now.event, now.since_s) == (again.label, again.event, again.since_s)  # nothing is remembered
        assert now.label is None or now.label in LABELS
        assert 0 <= now.probability <= 1 + 1e-6
        assert now.smoothed.sum() == pytest.approx(1, abs=1e-4)
        if now.label is not None:
            assert now.probability >= rules.threshold * (1 - rules.hysteresis) - 1e-6
        if now.event is not None:
            assert now.event == now.label
            assert (at_s - now.since_s) * 1e3 >= rules.min_duration_ms
            if now.event in last_event:
                assert (at_s - last_event[now.event]) * 1e3 >= rules.cooldown_ms
            last_event[now.event] = at_s
        before = now


@given(clip=clips(), threshold=st.floats(0, 1))
def test_without_smoothing_and_hysteresis_it_is_the_models_own_answer(
    clip: tuple[list[float], list[np.ndarray]], threshold: float
) -> None:
    before, rules = None, replace(RAW, threshold=threshold)
    for at_s, probabilities in zip(*clip, strict=True):
        before = decide(before, at_s, probabilities, rules)
        best = float(probabilities.max())
        if before.label is None:
            assert best < threshold
        else:
            assert probabilities[LABELS.index(before.label)] == pytest.approx(best)
            assert best >= np.float32(threshold)


@given(shift=st.floats(-1e3, 1e6), clip=clips())
def test_only_differences_of_time_count(shift: float, clip: tuple[list[float], list[np.ndarray]]) -> None:
    here = there = None
    for at_s, probabilities in zip(*clip, strict=True):
        here = decide(here, at_s, probabilities, RULES)
        there = decide(there, at_s + shift, probabilities, RULES)
        assert here.smoothed == pytest.approx(there.smoothed, abs=1e-3)


@given(fps=st.floats(5, 120))
def test_the_time_constant_is_one_of_time_and_not_of_frames(fps: float) -> None:
    rules = replace(RULES, smoothing_ms=400)
    before = decide(None, 0.0, one_hot("a", 1.0), rules)
    for index in range(1, round(0.4 * fps) + 1):
        before = decide(before, index / fps, one_hot("b", 1.0), rules)
    expected = 1 - np.exp(-round(0.4 * fps) / fps / 0.4)  # a first-order low pass
    assert before.smoothed[1] == pytest.approx(expected, abs=1e-3)


def test_noise_does_not_flicker_and_a_change_is_seen_soon() -> None:
    rng = np.random.default_rng(0)
    truth = ["a"] * 150 + ["b"] * 150
    frames = [rng.dirichlet(1 + 2 * one_hot(label, 0.8)).astype(np.float32) for label in truth]
    raw = [LABELS[int(frame.argmax())] for frame in frames]
    answers = [decision.label for decision in decided(frames, RULES)]
    assert flips(raw) >= 5 * flips(answers) > 0
    assert answers[150 + 18 :].count("b") > 120


def test_a_single_odd_frame_changes_nothing() -> None:
    frames = [one_hot("a")] * 10 + [one_hot("b", 0.99)] + [one_hot("a")] * 10
    assert {decision.label for decision in decided(frames, RULES)} == {"a"}


def test_two_classes_alike_keep_the_one_that_was_there_first() -> None:
    frames = [np.array([0.5 + delta, 0.5 - delta, 0], np.float32) for delta in (0.02, -0.02, 0.03, -0.04, 0.01)] * 20
    rules = replace(RULES, smoothing_ms=0)
    assert {decision.label for decision in decided(frames, rules)} == {"a"}
    assert flips([decision.label for decision in decided(frames, RAW)]) > 50


def test_among_many_classes_a_clear_lead_counts_though_it_is_small() -> None:
    rules = Rules(tuple(map(str, range(1000))), smoothing_ms=0)
    first, second = np.full(1000, 1e-4, np.float32), np.full(1000, 1e-4, np.float32)
    first[0], second[0], second[1] = 0.5, 0.03, 0.1
    assert decide(decide(None, 0, first, rules), 1, second, rules).label == "1"


def test_at_the_threshold_it_does_not_flicker_between_answer_and_unknown() -> None:
    rules = replace(RULES, threshold=0.6, smoothing_ms=0)
    sure = [0.58, 0.61, 0.59, 0.62, 0.58, 0.55, 0.5, 0.58, 0.59, 0.61]
    labels = [decision.label for decision in decided([one_hot("a", p) for p in sure], rules)]
    assert labels == [None, "a", "a", "a", "a", "a", None, None, None, "a"]


def test_an_event_begins_when_a_label_has_stood_long_enough_and_not_again_in_the_cooldown() -> None:
    rules = replace(RAW, min_duration_ms=200, cooldown_ms=1000)
    clip = "aaaaaa bb aaaaaa bbbbbb cccccccc aaaaaa".replace(" ", "")
    decisions = decided([one_hot(label) for label in clip], rules, fps=10)
    # a at 0.2 s; b stood 0.1 s; a again within a second of its event; b at 1.6, c at 2.2, a at 3.0.
    assert [(round(d.at_s, 1), d.event) for d in decisions if d.event] == [
        (0.2, "a"),
        (1.6, "b"),
        (2.2, "c"),
        (3.0, "a"),
    ]


def test_time_that_goes_back_counts_as_none() -> None:
    before = decide(None, 5.0, one_hot("a"), RULES)
    after = decide(before, 4.0, one_hot("b"), RULES)
    assert (after.at_s, after.label) == (5.0, "a")


@pytest.mark.parametrize(
    ("name", "value"),
    [("threshold", 1.1), ("threshold", np.nan), ("hysteresis", 1), ("smoothing_ms", -1), ("cooldown_ms", np.inf)],
)
def test_values_out_of_range_are_wrong_usage(name: str, value: float) -> None:
    with pytest.raises(UsageError, match="received"):
        Rules(LABELS, **{name: value})


def test_the_models_own_rules_are_its_labels_and_its_threshold(tiny_artifact) -> None:
    classifier = Classifier.load(tiny_artifact)
    classifier.reject_threshold = 0.7
    assert Rules.of(classifier) == Rules(("red", "green", "blue"), threshold=0.7)
