"""The older TFLite engine, in an environment of its own: it needs Python 3.11, numpy 1 and OpenCV 4."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench._networks import MOBILE, living_model, soft_pictures

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NEEDS = ("tflite-runtime==2.14.0", "numpy<2", "opencv-python-headless==4.11.*", "typer", "rich")


@pytest.fixture(scope="module")
def python(make_python: Callable[..., Path]) -> Path:
    if sys.version_info[:2] != (3, 11):
        pytest.skip("tflite-runtime ends with Python 3.11")
    made = make_python(*NEEDS)
    packages = next(made.parents[1].glob("lib/*/site-packages"))
    shutil.copytree(ROOT / "runtime" / "edgecnn_runtime", packages / "edgecnn_runtime")
    return made


def edgecnn(python: Path, *words: object) -> Any:
    command = [str(python), "-m", "edgecnn_runtime", *map(str, words), "--json"]
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=own, cwd=python.parent, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_selftest_passes(python: Path, tiny_artifact: Path) -> None:
    answer = edgecnn(python, "selftest", tiny_artifact)
    assert answer["passed"]
    assert answer["worst"] <= 1.0


def _wide() -> Any:
    """A network with a dense layer that is too large to stay in float."""
    from keras import Input, Model, layers

    inputs = Input((64, 64, 3), name="image")
    x = layers.Conv2D(32, 3, strides=2, activation="relu")(layers.Rescaling(1 / 255)(inputs))
    x = layers.Dense(1200, activation="relu")(layers.Flatten()(layers.MaxPooling2D(4)(x)))
    return Model(inputs, layers.Dense(5, activation="softmax")(x))


@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic", "int8"])
@pytest.mark.parametrize("name", ["wide", *(pytest.param(name, marks=pytest.mark.all) for name in MOBILE)])
def test_what_export_makes_passes_its_selftest(python: Path, name: str, precision: str, tmp_path: Path) -> None:
    import keras

    from edgecnn_converters.artifacts import make_artifact
    from edgecnn_converters.freeze import freeze
    from edgecnn_runtime import Contract
    from edgecnn_runtime.contract import Provenance

    keras.utils.set_random_seed(3)
    pictures = soft_pictures(16, 64)
    model = _wide() if name == "wide" else living_model(name, 64, pictures)
    labels = tuple(f"thing {number}" for number in range(model.output_shape[-1]))
    contract = Contract(64, 64, labels, Provenance(backbone=name, precision="", weights="none"))
    function = freeze(model, 64, 64)
    made = make_artifact(function, contract, "tflite", precision, pictures, None, None, tmp_path, 1)
    answer = edgecnn(python, "selftest", made.path)
    assert (answer["passed"], answer["goldens"]) == (True, 4)


def test_both_engines_say_the_same(python: Path, tiny_artifact: Path, tmp_path: Path) -> None:
    from PIL import Image

    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{seed}.png")
    old = edgecnn(python, "classify", tiny_artifact, tmp_path)["results"]
    new = edgecnn(Path(sys.executable), "classify", tiny_artifact, tmp_path)["results"]
    assert len(old) == 3
    for one, other in zip(old, new, strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], abs=0.01)
