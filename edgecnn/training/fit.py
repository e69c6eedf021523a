"""Fitting: optimizer and schedule, the input pipeline, what is trained, and what wins on validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgecnn.training.options import Machine, Optimization

if TYPE_CHECKING:
    import keras

Floats = npt.NDArray[np.float32]
Batch = tuple[Floats, Floats, Floats]  # input, targets, weight of each picture
Measure = Callable[[], tuple[float, float]]  # cross-entropy and accuracy on validation

PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.5, 3
FLOOR = 0.01  # of the learning rate, where a schedule ends
MOMENTUM = 0.9
# Of batch normalisation that learns. With 0.99 and 0.999, as the families have it, a few hundred steps leave the
# statistics near their first values, and the network says the same of every picture.
NORMALIZATION_MOMENTUM = 0.9
TOP_FRACTION = 1 / 8


@dataclass(frozen=True)
class Stage:
    """One part of a training.

    Attributes:
        name: names its checkpoint.
        steps: batches in an epoch.
        batch: (epoch, number of the batch) -> a batch. It must depend on nothing else, so that it can be resumed.
        measure: on validation.
        folder: where checkpoints and TensorBoard's files go.
    """

    name: str
    steps: int
    batch: Callable[[int, int], Batch]
    measure: Measure
    folder: Path
    tensorboard: bool = False


def targets(truth: npt.NDArray[np.int64], classes: int, output: str) -> Floats:
    """Labels ``(N,)`` as ``(N, classes)`` with a one in each row, or for a sigmoid as ``(N, 1)``."""
    if output == "sigmoid":
        return truth[:, None].astype(np.float32)
    return np.eye(classes, dtype=np.float32)[truth]


def shared_batch_size(options: Optimization, pictures: int) -> int:
    """The batch size, rounded so that each device of the current `tf.distribute` strategy gets as many of the first
    batch: of others Keras (3.15) cannot build the model."""
    import tensorflow as tf

    devices: int = tf.distribute.get_strategy().num_replicas_in_sync
    if devices == 1:
        return options.batch_size
    return max(min(-(-options.batch_size // devices), pictures // devices), 1) * devices


def used_of_an_epoch(pictures: int, batch_size: int) -> int:
    """How many pictures an epoch takes: all that its last batch can share evenly, or some device might get none."""
    import tensorflow as tf

    devices: int = tf.distribute.get_strategy().num_replicas_in_sync
    return pictures - pictures % batch_size % devices or pictures


def class_weights(truth: npt.NDArray[np.int64], classes: int, balance: str) -> Floats:
    """Weight of each class in the loss, ``(classes,)``, 1 on average over the pictures."""
    if balance != "weights":
        return np.ones(classes, np.float32)
    counts = np.maximum(np.bincount(truth, minlength=classes), 1)
    return (len(truth) / (classes * counts)).astype(np.float32)


def picture_weights(wanted: Floats, weights: Floats) -> Floats:
    """Weight ``(N,)`` of pictures with these targets; mixed pictures get a mixed weight."""
    return wanted @ weights if wanted.shape[1] > 1 else weights[0] * (1 - wanted[:, 0]) + weights[1] * wanted[:, 0]


def epoch_order(
    index: npt.NDArray[np.int64], truth: npt.NDArray[np.int64], balance: str, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """The pictures of an epoch in their order; with sampling, every class is drawn as often."""
    if balance != "sampling":
        return rng.permutation(index)
    rarity = 1.0 / np.bincount(truth[index])[truth[index]]
    return rng.choice(index, len(index), p=rarity / rarity.sum())


def compile_model(
    model: keras.Model, options: Optimization, machine: Machine, steps: int, steps_per_execution: int = 1
) -> None:
    """Optimizer with its schedule over `steps` steps an epoch, cross-entropy for the output, accuracy."""
    import keras

    sigmoid = model.output_shape[-1] == 1
    loss = keras.losses.BinaryCrossentropy if sigmoid else keras.losses.CategoricalCrossentropy
    model.compile(
        _optimizer(options, steps),
        loss(label_smoothing=options.label_smoothing),
        metrics=[keras.metrics.BinaryAccuracy("accuracy") if sigmoid else "accuracy"],
        steps_per_execution=steps_per_execution,
        jit_compile=machine.xla,
    )


def _optimizer(options: Optimization, steps: int) -> Any:
    import keras

    average: dict[str, Any] = {"use_ema": True, "ema_momentum": options.averaging} if options.averaging else {}
    rate = _schedule(options, steps)
    if options.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=options.weight_decay, **average)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer
    if options.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=MOMENTUM, nesterov=True, **average)
    kinds = {"adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop}
    return kinds[options.optimizer](rate, **average)


def _schedule(options: Optimization, steps: int) -> Any:
    """The rate, or the rate as a function of the step."""
    import keras
    from keras import ops

    if options.schedule == "plateau" or (options.schedule == "constant" and not options.warmup):
        return options.learning_rate
    rise = options.warmup * steps
    fall = max(options.epochs * steps - rise, 1.0)

    class Schedule(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
        """Linear warm-up, then the named way down."""

        def __call__(self, step: Any) -> Any:
            step = ops.cast(step, "float32")
            way = ops.clip((step - rise) / fall, 0.0, 1.0)
            factor = {
                "constant": lambda: ops.ones_like(way),
                "step": lambda: ops.where(way < 0.5, 1.0, ops.where(way < 0.75, 0.1, 0.01)),
                "exponential": lambda: FLOOR**way,
                "cosine": lambda: FLOOR + (1.0 - FLOOR) * 0.5 * (1.0 + ops.cos(np.pi * way)),
            }[options.schedule]()
            return options.learning_rate * factor * ops.clip((step + 1.0) / max(rise, 1.0), 0.0, 1.0)

        def get_config(self) -> dict[str, Any]:
            return {}

    return Schedule()


def watchers(options: Optimization) -> list[Any]:
    """EarlyStopping, which restores the best weights, and ReduceLROnPlateau, where they are asked for."""
    import keras

    found: list[Any] = []
    if options.patience:
        found.append(
            keras.callbacks.EarlyStopping(
                "val_loss", patience=options.patience, min_delta=options.min_delta, restore_best_weights=True
            )
        )
    if options.schedule == "plateau":
        found.append(keras.callbacks.ReduceLROnPlateau("val_loss", factor=PLATEAU_FACTOR, patience=PLATEAU_PATIENCE))
    return found


def fit(
    model: keras.Model,
    stage: Stage,
    options: Optimization,
    progress: Callable[[int, int], None],
    each_epoch: Callable[[Sequence[dict[str, float]]], None],
) -> list[dict[str, float]]:
    """Trains a compiled model in place, going on after its checkpoint where there is one.

    Returns:
        One row an epoch: loss, accuracy, val_loss, val_accuracy, learning_rate.
    """
    import keras

    from edgecnn.training.callbacks import Checkpoint, Validation

    others = watchers(options)
    checkpoint = Checkpoint(stage.folder / f"{stage.name}.npz", others, each_epoch)
    first = checkpoint.first_epoch(options.epochs)
    rate = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(learning_rate=float(np.asarray(model.optimizer.learning_rate)))
    )
    show = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: progress(batch + 1, stage.steps),
    )
    extra = [keras.callbacks.TensorBoard(stage.folder / "tensorboard" / stage.name)] if stage.tensorboard else []
    model.fit(
        _dataset(stage, first, options.epochs, model),
        steps_per_epoch=stage.steps,
        initial_epoch=first,
        epochs=options.epochs,
        callbacks=[Validation(stage.measure), rate, *others, *extra, show, checkpoint],
        shuffle=False,
        verbose=0,
    )
    return checkpoint.rows


def _dataset(stage: Stage, first: int, epochs: int, model: keras.Model) -> Any:
    """All batches from epoch `first` on, made side by side ahead of their use, in a fixed order."""
    import tensorflow as tf

    shapes = [(None, *model.input_shape[1:]), (None, *model.output_shape[1:]), (None,)]

    def make(step: Any) -> Any:
        made = tf.numpy_function(
            lambda number: stage.batch(*divmod(int(number), stage.steps)), [step], [tf.float32] * 3
        )
        return tuple(tf.ensure_shape(part, shape) for part, shape in zip(made, shapes, strict=True))

    steps = tf.data.Dataset.range(first * stage.steps, epochs * stage.steps)
    batch = tf.autograph.experimental.do_not_convert(make)  # plain Python, which AutoGraph would warn about
    return steps.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def keep_winner(model: keras.Model, candidates: Mapping[str, Sequence[Any]], measure: Measure) -> str:
    """Of several weights of a model, by their names, keeps what is best on validation, and returns its name.

    Accuracy decides; among equals the loss does.
    """

    def merit(name: str) -> tuple[float, float]:
        model.set_weights(candidates[name])
        loss, accuracy = measure()
        return accuracy, -loss

    winner = max(candidates, key=merit)
    model.set_weights(candidates[winner])
    return winner


def unfreeze(network: keras.Model, what: str, normalization: bool) -> None:
    """Makes a part of the backbone trainable and freezes the rest.

    Args:
        what: "none"; "all"; "top", the layers from the first map of at most an eighth of the picture's side on (those
            before it see edges and colours, and cost half the time); "block", the layers from the last reduction of
            the map on that has weights after it; or a number of layers, counted from the end.
        normalization: whether batch normalisation learns too, statistics included. Frozen, it stays as it was
            pretrained: batches are small here, and it takes half the time.
    """
    import keras

    layers = network.layers
    sides = [layer.output.shape[1] if len(layer.output.shape) == 4 else 0 for layer in layers]
    if what == "block":
        starts = [i for i in range(1, len(layers)) if sides[i] < sides[i - 1]]
        start = max((i for i in starts if any(layer.weights for layer in layers[i:])), default=0)
        count = len(layers) - start
    elif what == "top":
        count = len(layers) - next(i for i, side in enumerate(sides) if side <= sides[0] * TOP_FRACTION)
    else:
        count = int(what) if what.isdecimal() else {"none": 0, "all": len(layers)}[what]
    for position, layer in enumerate(layers):
        is_normalization = isinstance(layer, keras.layers.BatchNormalization)
        if is_normalization and normalization:
            layer.momentum = min(layer.momentum, NORMALIZATION_MOMENTUM)
        layer.trainable = position >= len(layers) - count and (normalization or not is_normalization)
