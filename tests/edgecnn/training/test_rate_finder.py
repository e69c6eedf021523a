"""The learning-rate finder names a rate at which the loss falls."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgecnn.training.rate_finder import HIGHEST, LOWEST, steepest


def test_steepest_is_where_the_loss_falls_fastest():
    rates = np.geomspace(LOWEST, HIGHEST, 100)
    losses = 1.0 - 0.8 / (1.0 + np.exp(-4.0 * (np.log10(rates) + 3.0))) + 5.0 * rates**2
    assert steepest(list(zip(rates, losses, strict=True))) == pytest.approx(1e-3, rel=0.3)
    losses[:3] += (0.5, 0.2, 0.1)  # the first batches happened to be hard
    assert steepest(list(zip(rates, losses, strict=True))) == pytest.approx(1e-3, rel=0.3)
    assert steepest([(1e-6, 1.0), (1e-5, 0.9), (1e-4, 5.0)]) == 1e-6


@pytest.mark.parametrize("recipe", ["fast", "scratch"])
def test_found_rate_is_sensible_and_no_run_is_left(here, shapes, tmp_path, recipe):
    words = ("--backbone", "basic_cnn", "--size", 32, "--weights", "none", "--recipe", recipe, "--batch-size", 16)
    done = here("train", shapes, "--out", tmp_path / "run", *words, "--find-learning-rate", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert LOWEST < document["learning_rate"] < HIGHEST
    rates, losses = np.array(document["losses"]).T
    assert (np.diff(rates) > 0).all()
    assert losses.min() < losses[0]
    assert not list(tmp_path.iterdir())
