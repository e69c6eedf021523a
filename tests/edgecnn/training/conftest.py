"""A training that takes a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgecnn.commands._training import train_run
from edgecnn.training.options import Optimization
from edgecnn.training.run import Config, Run, read_run

QUICK = Optimization(epochs=3, batch_size=16)


@pytest.fixture(scope="session")
def config() -> Callable[..., Config]:
    """A config of the smallest network, 32 px, three epochs, all of it trained."""

    def make(data: Path, **changes: Any) -> Config:
        given = {"backbone": "basic_cnn", "height": 32, "width": 32, "weights": "none", "recipe": "scratch"}
        return Config(**{"data": str(data), **given, "optimization": QUICK, **changes})

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, shapes: Path, config: Callable[..., Config]) -> Run:
    """A finished run. Tests must not alter its folder."""
    folder = tmp_path_factory.mktemp("runs") / "shapes"
    train_run(config(shapes), folder, False, 2)
    return read_run(folder)
