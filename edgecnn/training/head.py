"""The head: pooling, dropout and dense layers on the backbone's feature map; and the whole model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn import backbones
from edgecnn.training.options import HeadOptions
from edgecnn_runtime.classifier import Probabilities
from edgecnn_runtime.decode import Picture

if TYPE_CHECKING:
    import keras

    from edgecnn.training.run import Config

_PREDICT_BATCH = 32
_PREDICT_PART = 256


def add_pooling(network: keras.Model, pooling: str = "average") -> keras.Model:
    """The network with its feature map ``(N, h, w, C)`` as a vector: average or max over the picture, or flattened."""
    import keras

    if len(network.output_shape) == 2:
        return network
    kinds = {
        "average": keras.layers.GlobalAveragePooling2D,
        "max": keras.layers.GlobalMaxPooling2D,
        "flatten": keras.layers.Flatten,
    }
    pooled = kinds[pooling](name=pooling)(network.output)
    return keras.Model(network.input, pooled, name=f"{network.name}_features")


def build_head(features: int, classes: int, options: HeadOptions) -> keras.Model:
    """``(N, features)`` to ``(N, classes)`` softmax, or ``(N, 1)`` sigmoid, the probability of the second class."""
    import keras

    inputs = keras.Input((features,), name="features")
    x = inputs
    penalty = keras.regularizers.L1L2(options.l1, options.l2)
    if options.hidden:
        x = keras.layers.Dense(options.hidden, activation="relu", kernel_regularizer=penalty, name="hidden")(x)
    if options.normalization != "none":
        kinds = {"batch": keras.layers.BatchNormalization, "layer": keras.layers.LayerNormalization}
        x = kinds[options.normalization](name=f"{options.normalization}_normalization")(x)
    x = keras.layers.Dropout(options.dropout, name="dropout")(x)
    x = keras.layers.Dense(
        1 if options.output == "sigmoid" else classes,
        activation=options.output,
        kernel_regularizer=penalty,
        dtype="float32",  # probabilities are not halved by mixed precision
        name="predictions",
    )(x)
    return keras.Model(inputs, x, name="head")


def join(network: keras.Model, head: keras.Model, pooling: str = "average") -> keras.Model:
    """Backbone, pooling and head as one model, sharing their weights: ``(N, H, W, 3)`` raw RGB to probabilities."""
    import keras

    pooled = add_pooling(network, pooling)
    return keras.Model(pooled.input, head(pooled.output), name=network.name)


def build(config: Config, classes: int, weights: str) -> tuple[keras.Model, keras.Model, keras.Model]:
    """A config's backbone, head, and both joined. Raises EdgecnnError, see `edgecnn.backbones.Backbone.build`."""
    network = backbones.get(config.backbone).build(config.height, config.width, weights)
    features = int(np.prod(add_pooling(network, config.head.pooling).output_shape[1:]))
    head = build_head(features, classes, config.head)
    return network, head, join(network, head, config.head.pooling)


def predict(model: keras.Model, pixels: Sequence[Picture]) -> Probabilities:
    """The Keras model's probabilities, ``(N, classes)`` float32, for preprocessed pictures ``(H, W, 3)`` uint8 RGB."""
    # Not predict_on_batch, which repeats the batch on every device. In parts: float pixels take four times the room.
    starts = range(0, len(pixels), _PREDICT_PART)
    parts = (np.stack(pixels[start : start + _PREDICT_PART]).astype(np.float32) for start in starts)
    return by_class([model.predict(part, batch_size=_PREDICT_BATCH, verbose=0) for part in parts])


def by_class(outputs: Sequence[Any]) -> Probabilities:
    """Batches of outputs as one array ``(N, classes)`` float32: the one output of a sigmoid becomes two columns."""
    if not outputs:
        return np.empty((0, 2), np.float32)
    together = np.concatenate([np.asarray(batch, np.float32) for batch in outputs])
    return np.concatenate([1.0 - together, together], 1) if together.shape[1] == 1 else together
