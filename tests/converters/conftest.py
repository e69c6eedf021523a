"""One tiny untrained network, with a softmax and with a sigmoid, as every converter gets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest

from edgecnn_converters.freeze import freeze
from edgecnn_runtime.contract import Contract, Preprocessing, Provenance

HEIGHT, WIDTH = 40, 48  # not square, so that swapped sides are seen


@dataclass(frozen=True)
class Small:
    """A network, what is converted of it, and what Keras says.

    Attributes:
        model: ``(N, 40, 48, 3)`` float32 RGB 0-255 to ``(N, outputs)``.
        pictures: 24 of ``(40, 48, 3)`` uint8.
        expected: ``(24, classes)`` float32, the model's probabilities.
    """

    model: Any
    function: Any
    contract: Contract
    pictures: list[np.ndarray]
    expected: np.ndarray


def _pictures(count: int) -> list[np.ndarray]:
    coarse = np.random.default_rng(3).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return [cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR) for picture in coarse]


def _model(outputs: int, activation: str, pictures: np.ndarray) -> Any:
    import keras
    from keras import layers

    keras.utils.set_random_seed(4)
    inputs = keras.Input((HEIGHT, WIDTH, 3), name="image")
    x = layers.Rescaling(1 / 128, offset=-127 / 128)(inputs)
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.0)(x)  # takes over the statistics of the one batch that it sees below
    x = layers.ReLU(6.0)(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.0)(x)
    x = layers.ReLU(6.0)(x)
    x = layers.Conv2D(24, 1)(x)
    x = layers.GlobalAveragePooling2D()(x)
    wide = keras.initializers.RandomNormal(stddev=4.0)  # so that pictures differ clearly in their probabilities
    model = keras.Model(inputs, layers.Dense(outputs, activation=activation, kernel_initializer=wide)(x))
    model(pictures, training=True)
    return model


@pytest.fixture(scope="session", params=["softmax", "sigmoid"])
def small(request: pytest.FixtureRequest) -> Small:
    pictures = _pictures(24)
    batch = np.stack(pictures).astype(np.float32)
    labels = ("one", "two", "three") if request.param == "softmax" else ("no", "yes")
    model = _model(3 if request.param == "softmax" else 1, request.param, batch)
    outputs = np.asarray(model(batch, training=False))
    contract = Contract(
        HEIGHT,
        WIDTH,
        labels,
        Provenance(backbone="small", precision="", weights="none"),
        Preprocessing(fit="squash"),
        request.param,
    )
    expected = outputs if request.param == "softmax" else np.concatenate([1 - outputs, outputs], 1)
    return Small(model, freeze(model, HEIGHT, WIDTH), contract, pictures, expected)
