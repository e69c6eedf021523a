from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.evaluation.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    fit_temperature,
    reject_threshold,
)
from edgecnn_runtime import Contract
from edgecnn_runtime.classifier import _probabilities, apply_temperature
from edgecnn_runtime.contract import Decision
from edgecnn_runtime.errors import EdgecnnError, UsageError
from edgecnn_runtime.metrics import expected_calibration_error


def drawn(
    seed: int, pictures: int, temperature: float, classes: int = 5
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Probabilities that are right by themselves once that temperature is applied, and the truth."""
    rng = np.random.default_rng(seed)
    honest = rng.dirichlet(np.full(classes, 0.15), pictures)
    truth = (honest.cumsum(1) > rng.random((pictures, 1))).argmax(1)
    stated = np.maximum(honest, 1e-30) ** temperature
    return (stated / stated.sum(1, keepdims=True)).astype(np.float32), truth


def loss(probabilities: npt.NDArray[np.float32], truth: npt.NDArray[np.int64]) -> float:
    return float(-np.log(np.maximum(probabilities[np.arange(len(truth)), truth], 1e-12)).mean())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_temperature_that_was_hidden_is_found(temperature: float) -> None:
    probabilities, truth = drawn(0, 4000, temperature)
    fitted = fit_temperature(probabilities, truth)
    assert fitted == pytest.approx(temperature, rel=0.08)
    assert fit_temperature(probabilities, truth) == fitted
    after = apply_temperature(probabilities, fitted)
    assert expected_calibration_error(after, truth) < 0.03
    assert (after.argmax(1) == probabilities.argmax(1)).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), pictures=st.integers(1, 60), temperature=st.floats(0.05, 20))
def test_a_temperature_is_never_worse_than_none(seed: int, pictures: int, temperature: float) -> None:
    probabilities, truth = drawn(seed, pictures, temperature)
    fitted = fit_temperature(probabilities, truth)
    assert MIN_TEMPERATURE * 0.999 <= fitted <= MAX_TEMPERATURE * 1.001
    Decision(temperature=fitted)
    assert loss(apply_temperature(probabilities, fitted), truth) <= loss(probabilities, truth) + 1e-5


def test_impossible_and_certain_probabilities_do_no_harm() -> None:
    certain = np.eye(3, dtype=np.float32)
    assert fit_temperature(certain, np.array([0, 1, 2])) == pytest.approx(1.0, abs=1e-3)
    assert fit_temperature(certain, np.array([1, 1, 2])) == pytest.approx(MAX_TEMPERATURE, rel=1e-3)
    assert fit_temperature(np.empty((0, 3), np.float32), np.empty(0, np.int64)) == 1.0
    assert apply_temperature(certain, 0.3).tolist() == certain.tolist()


def test_few_pictures_all_right_do_not_make_the_model_boundlessly_sure() -> None:
    few = np.tile(np.array([[0.97, 0.03]], np.float32), (8, 1))
    assert 0.7 < fit_temperature(few, np.zeros(8, np.int64)) <= 1.0
    many = np.tile(few, (100, 1))
    assert fit_temperature(many, np.zeros(800, np.int64)) < 0.6


@pytest.mark.parametrize("temperature", [0.25, 0.7, 1.0, 3.0])
def test_the_runtime_does_the_same(tiny_contract: Contract, temperature: float) -> None:
    contract = dataclasses.replace(tiny_contract, decision=Decision(temperature=temperature))
    probabilities, _ = drawn(1, 50, 2.0, classes=3)
    device = np.stack([_probabilities(row, contract, logits=False) for row in probabilities])
    np.testing.assert_allclose(apply_temperature(probabilities, temperature), device, rtol=1e-5, atol=1e-7)


def test_a_threshold_keeps_to_its_rate_by_hand() -> None:
    """99 sure answers, one of them wrong, then wrong ones."""
    top = np.concatenate([np.full(99, 0.9), [0.7, 0.6]]).astype(np.float32)
    probabilities = np.stack([top, 1 - top], 1)
    truth = np.array([0] * 98 + [1, 1, 1])
    chosen = reject_threshold(probabilities, truth, 0.02)
    assert (chosen.accepted, chosen.wrong, chosen.coverage) == (99, 1, 99 / 101)
    assert chosen.threshold == pytest.approx(0.8)
    everything = reject_threshold(probabilities, truth, 0.05)
    assert (everything.threshold, everything.coverage) == (0.0, 1.0)
    assert everything.interval[0] < 3 / 101 < everything.interval[1]


def test_equal_probabilities_stand_or_fall_together() -> None:
    top = np.full(40, 0.9, np.float32)
    truth = np.array([0] * 30 + [1] * 10)
    with pytest.raises(EdgecnnError, match=r"40 validation pictures the lowest rate is 26\.9 %"):
        reject_threshold(np.stack([top, 1 - top], 1), truth, 0.1)


def test_the_lowest_rate_that_is_named_can_be_had() -> None:
    probabilities, truth = drawn(3, 60, 1.0)
    with pytest.raises(EdgecnnError, match="allow that much, or train with more pictures") as caught:
        reject_threshold(probabilities, truth, 0.001)
    named = float(str(caught.value).split("rate is ")[1].split(" %")[0])
    assert reject_threshold(probabilities, truth, named / 100).accepted > 0


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 5.0, math.nan])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    probabilities, truth = drawn(0, 10, 1.0)
    with pytest.raises(UsageError, match="between 0 % and 100 %"):
        reject_threshold(probabilities, truth, rate)


def test_without_pictures_there_is_no_threshold() -> None:
    with pytest.raises(EdgecnnError, match="needs validation pictures"):
        reject_threshold(np.empty((0, 2), np.float32), np.empty(0, np.int64), 0.05)


def test_new_pictures_keep_to_the_rate_on_average() -> None:
    new, new_truth = drawn(10**6, 20_000, 1.0)
    wrong, top = new.argmax(1) != new_truth, new.max(1)
    rates = [wrong[top >= reject_threshold(*drawn(seed, 300, 1.0), 0.1).threshold].mean() for seed in range(60)]
    assert 0.06 < np.mean(rates) <= 0.1
