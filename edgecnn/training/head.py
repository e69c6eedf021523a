"""The head: pooling, dropout and dense layers on the backbone's feature map; and the whole model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgecnn import backbones
from edgecnn.training.folding import fold_normalization
from edgecnn.training.options import HeadOptions
from edgecnn.training.run import TUNING_RECIPES
from edgecnn_runtime.classifier import Probabilities
from edgecnn_runtime.decode import Picture
from edgecnn_runtime.errors import UsageError

if TYPE_CHECKING:
    import keras

    from edgecnn.training.features import Features
    from edgecnn.training.run import Config

_LEAST_SCALE = 0.1
LEVEL = "level_"  # what the names of the pooling layers of `levels` begin with
MAX_LEVEL_FEATURES = 8192
_PREDICT_BATCH = 32
_PREDICT_PART = 256


def add_pooling(network: keras.Model, pooling: str = "average") -> keras.Model:
    """The network with its feature map ``(N, h, w, C)`` as a vector: average or max over the picture, flattened, or
    the averages of all maps that the last blocks compute (`last_maps`)."""
    import keras

    if len(network.output_shape) == 2:
        return network
    if pooling == "levels":
        # Not halved by mixed precision, whatever the policy is by now: TFLite cannot join halves.
        averages = [
            keras.layers.GlobalAveragePooling2D(name=f"{LEVEL}{number}", dtype="float32")(each)
            for number, each in enumerate(last_maps(network))
        ]
        together = keras.layers.Concatenate(name="levels", dtype="float32")
        pooled = together(averages) if len(averages) > 1 else averages[0]
    else:
        kinds = {
            "average": keras.layers.GlobalAveragePooling2D,
            "max": keras.layers.GlobalMaxPooling2D,
            "flatten": keras.layers.Flatten,
        }
        pooled = kinds[pooling](name=pooling, dtype="float32")(network.output)
    return keras.Model(network.input, pooled, name=f"{network.name}_features")


def last_maps(network: keras.Model) -> list[Any]:
    """The maps of a network's last size, ``(N, h, w, C)`` each: what its 1x1 convolutions there read, and its output.

    What the last layers drop because 1,000 classes of photographs did not need it, a few classes of one's own may
    (Evci et al. 2022, "Head2Toe: Utilizing Intermediate Representations for Better Transfer Learning"). Together
    they have at most `MAX_LEVEL_FEATURES` channels; the first ones are left out where there are more.
    """
    import keras

    size = network.output_shape[1:3]
    read = [
        layer.input
        for layer in network.layers
        if isinstance(layer, keras.layers.Conv2D)
        and not isinstance(layer, keras.layers.DepthwiseConv2D)
        and tuple(layer.kernel_size) == (1, 1)
        and tuple(layer.input.shape[1:3]) == size
    ]
    maps: dict[int, Any] = {}  # two convolutions may read one map
    room = MAX_LEVEL_FEATURES
    for each in reversed([*read, network.output]):
        room -= 0 if id(each) in maps else each.shape[-1]
        if room < 0 and maps:
            break
        maps[id(each)] = each
    return list(reversed(maps.values()))


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


def standardization(features: Features) -> tuple[Features, Features]:
    """Mean and scale ``(F,)`` float32 by which the features ``(N, F)`` are standardised.

    The scale is the standard deviation and a tenth of the average one, or features that hardly vary would be noise
    blown up.
    """
    mean = features.mean(0, dtype=np.float64)
    squares = np.einsum("nf,nf->f", features, features, dtype=np.float64) / len(features)  # no second copy, as std has
    deviation = np.sqrt(np.maximum(squares - mean**2, 0.0))
    scale = np.maximum(deviation + _LEAST_SCALE * deviation.mean(), np.finfo(np.float32).tiny)
    return mean.astype(np.float32), scale.astype(np.float32)


def fold(weights: Sequence[npt.NDArray[np.float32]], mean: Features, scale: Features) -> list[npt.NDArray[np.float32]]:
    """Weights of a head for standardised features as weights of the same head for the features themselves.

    Args:
        weights: of a `build_head` that begins dense: kernel, bias, and whatever follows.
        mean, scale: ``(F,)``.
    """
    kernel = weights[0] / scale[:, None]
    return [kernel, weights[1] - mean @ kernel, *weights[2:]]


def join(network: keras.Model, head: keras.Model, pooling: str = "average") -> keras.Model:
    """Backbone, pooling and head as one model, sharing their weights: ``(N, H, W, 3)`` raw RGB to probabilities."""
    import keras

    pooled = add_pooling(network, pooling)
    return keras.Model(pooled.input, head(pooled.output), name=network.name)


def build(config: Config, classes: int, weights: str) -> tuple[keras.Model, keras.Model, keras.Model]:
    """A config's backbone, head, and both joined. Raises EdgecnnError, see `edgecnn.backbones.Backbone.build`."""
    network = backbones.get(config.backbone).build(config.height, config.width, weights)
    if config.recipe in TUNING_RECIPES:
        network = fold_normalization(network)
    features = int(np.prod(add_pooling(network, config.head.pooling).output_shape[1:]))
    head = build_head(features, classes, config.head)
    return network, head, join(network, head, config.head.pooling)


def at_size(model: keras.Model, side_px: int) -> keras.Model:
    """The same layers, with their weights and the state of their dropout, for pictures of `side_px` x `side_px` px.

    Raises UsageError where weights depend on the size.
    """
    import keras

    try:
        return keras.models.clone_model(model, keras.Input((side_px, side_px, 3)), clone_function=lambda layer: layer)
    except ValueError as error:
        raise UsageError(
            f"--train-size {side_px}: {model.name} with this head has weights for {model.input_shape[1]} px alone: "
            "use --train-size 0"
        ) from error


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
