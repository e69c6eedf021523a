"""The head: pooling, dropout and one dense layer, trained on cached features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgecnn.training.features import Features
from edgecnn_runtime.classifier import Probabilities
from edgecnn_runtime.decode import Picture

if TYPE_CHECKING:
    import keras

History = dict[str, list[float]]

_PREDICT_BATCH = 32


@dataclass(frozen=True)
class HeadOptions:
    """Options with the field's names.

    Attributes:
        activation: "softmax", or "sigmoid" for two classes by one output.
        dropout: fraction of the features that a training step leaves out, in [0, 1).
        l2: factor of the squared weights in the loss.
        patience: epochs without a lower validation loss before training stops; the best weights are restored.
    """

    activation: str = "softmax"
    dropout: float = 0.3
    l2: float = 3e-3
    learning_rate: float = 2e-3
    batch_size: int = 128
    epochs: int = 60
    patience: int = 6


def add_pooling(network: keras.Model) -> keras.Model:
    """The network with its feature map averaged over the picture: ``(N, H, W, 3)`` to ``(N, features)``."""
    import keras

    if len(network.output_shape) == 2:
        return network
    pooled = keras.layers.GlobalAveragePooling2D(name="average")(network.output)
    return keras.Model(network.input, pooled, name=f"{network.name}_features")


def build_head(features: int, classes: int, options: HeadOptions) -> keras.Model:
    """``(N, features)`` to ``(N, classes)`` softmax, or ``(N, 1)`` sigmoid, the probability of the second class."""
    import keras

    inputs = keras.Input((features,), name="features")
    x = keras.layers.Dropout(options.dropout, name="dropout")(inputs)
    x = keras.layers.Dense(
        1 if options.activation == "sigmoid" else classes,
        activation=options.activation,
        kernel_regularizer=keras.regularizers.L2(options.l2),
        name="predictions",
    )(x)
    return keras.Model(inputs, x, name="head")


def join(network: keras.Model, head: keras.Model) -> keras.Model:
    """Backbone, pooling and head as one model, sharing their weights: ``(N, H, W, 3)`` raw RGB to probabilities."""
    import keras

    pooled = add_pooling(network)
    return keras.Model(pooled.input, head(pooled.output), name=network.name)


def compile_model(model: keras.Model, options: HeadOptions, steps_per_execution: int = 1) -> None:
    """Adam, cross-entropy for the activation, accuracy."""
    import keras

    binary = options.activation == "sigmoid"
    model.compile(
        keras.optimizers.Adam(options.learning_rate),
        keras.losses.BinaryCrossentropy() if binary else keras.losses.SparseCategoricalCrossentropy(),
        metrics=[keras.metrics.BinaryAccuracy("accuracy") if binary else "accuracy"],
        steps_per_execution=steps_per_execution,
    )


def callbacks(options: HeadOptions) -> list[Any]:
    """Early stopping that restores the weights with the lowest validation loss."""
    import keras

    return [keras.callbacks.EarlyStopping("val_loss", patience=options.patience, restore_best_weights=True)]


def train_head(
    head: keras.Model,
    train: tuple[Features, npt.NDArray[np.int64]],
    val: tuple[Features, npt.NDArray[np.int64]],
    options: HeadOptions,
    extra_callbacks: tuple[Any, ...] = (),
) -> History:
    """Trains the head in place.

    Args:
        train, val: features ``(N, F)`` float32 and labels ``(N,)`` int.

    Returns:
        One list per figure, one value per epoch: loss, accuracy, val_loss, val_accuracy.
    """
    compile_model(head, options, steps_per_execution=8)  # a step of so small a model takes less than calling it
    fitted = head.fit(
        *train,
        batch_size=options.batch_size,
        epochs=options.epochs,
        validation_data=val,
        callbacks=[*callbacks(options), *extra_callbacks],
        verbose=0,
    )
    return {name: [float(value) for value in values] for name, values in fitted.history.items()}


def predict(model: keras.Model, pixels: Sequence[Picture]) -> Probabilities:
    """The Keras model's probabilities, ``(N, classes)`` float32, for preprocessed pictures ``(H, W, 3)`` uint8 RGB."""
    starts = range(0, len(pixels), _PREDICT_BATCH)
    batches = [np.stack(pixels[start : start + _PREDICT_BATCH]).astype(np.float32) for start in starts]
    return by_class([model.predict_on_batch(batch) for batch in batches])


def by_class(outputs: Sequence[Any]) -> Probabilities:
    """Batches of outputs as one array ``(N, classes)`` float32: the one output of a sigmoid becomes two columns."""
    if not outputs:
        return np.empty((0, 2), np.float32)
    together = np.concatenate([np.asarray(batch, np.float32) for batch in outputs])
    return np.concatenate([1.0 - together, together], 1) if together.shape[1] == 1 else together
