"""Equalized channels compute the same; they differ less; what cannot be equalized is left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgecnn_converters.formats import tflite
from edgecnn_converters.freeze import freeze
from edgecnn_converters.quantization import _graph
from edgecnn_converters.quantization.equalization import _factor, equalize
from edgecnn_converters.quantization.rewrites import rewrite

SIDE, CHANNELS = 8, 6
PICTURES = [np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for seed in range(4)]


def _pad_channels(x: Any) -> Any:
    from keras import ops

    return ops.pad(x, [[0, 0], [0, 0], [0, 0], [CHANNELS // 2, CHANNELS // 2]])


# Each goes on from a map of CHANNELS channels.
EQUALIZED: dict[str, Any] = {
    "convolution": lambda x, layers: layers.Conv2D(4, 3)(x),
    "rectified": lambda x, layers: layers.Conv2D(4, 1)(layers.ReLU()(x)),
    "padded": lambda x, layers: layers.Conv2D(4, 3, strides=2)(layers.ZeroPadding2D()(x)),
    "depthwise": lambda x, layers: layers.DepthwiseConv2D(3, depth_multiplier=2)(x),
    "pooled": lambda x, layers: layers.Dense(4)(layers.GlobalAveragePooling2D()(layers.MaxPooling2D(2)(x))),
    "two readers": lambda x, layers: layers.Concatenate()([layers.Conv2D(4, 1)(x), layers.DepthwiseConv2D(1)(x)]),
}
LEFT: dict[str, Any] = {
    "clipped": lambda x, layers: layers.Conv2D(4, 1)(layers.ReLU(6.0)(x)),
    "hard-swish": lambda x, layers: layers.Conv2D(4, 1)(layers.Activation("hard_silu")(x)),
    "sum": lambda x, layers: layers.Conv2D(4, 1)(layers.Add()([x, layers.ReLU()(x)])),
    "one reader of two": lambda x, layers: layers.Concatenate()([layers.Conv2D(4, 1)(x), x]),
    "flattened": lambda x, layers: layers.Dense(4)(layers.Flatten()(x)),
    "groups": lambda x, layers: layers.Conv2D(4, 1, groups=2)(x),
    "more channels": lambda x, layers: layers.DepthwiseConv2D(3)(_pad_channels(x)),
    "more channels in groups": lambda x, layers: layers.Conv2D(4, 1, groups=2)(_pad_channels(x)),
    "the end": lambda x, layers: layers.ReLU()(x),
}


def network(tail: Any) -> bytes:
    """A first layer whose channels differ a hundred times, as a float TFLite file."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(4)
    inputs = keras.Input((SIDE, SIDE, 3))
    first = layers.Conv2D(CHANNELS, 3, padding="same", bias_initializer="random_normal")
    model = keras.Model(inputs, tail(first(layers.Rescaling(1 / 255)(inputs)), layers))
    scale = np.geomspace(1, 100, CHANNELS).astype(np.float32)
    first.set_weights([each * scale for each in first.get_weights()])
    return rewrite(tflite.convert(freeze(model, SIDE, SIDE), "float32", ()), for_int8=True)


def largest(graph: bytes) -> np.ndarray:
    """Of each channel of the first layer's map, over all pictures."""
    own = _graph.Graph(graph)
    (first,) = [each for each in own.graph.operators if own.kind(each) == "CONV_2D"][:1]
    maps = [np.abs(values(int(first.outputs[0]))) for values in _graph.run(graph, PICTURES)]
    return np.asarray(np.max(maps, axis=(0, 1, 2, 3)))


def answers(graph: bytes) -> np.ndarray:
    tensor = _graph.Graph(graph).graph.outputs[0]
    return np.stack([np.array(values(tensor)) for values in _graph.run(graph, PICTURES)])


@pytest.mark.parametrize("tail", EQUALIZED)
def test_the_function_is_kept_and_channels_differ_less(tail: str) -> None:
    graph = network(EQUALIZED[tail])
    equalized = equalize(graph, PICTURES)
    np.testing.assert_allclose(answers(equalized), answers(graph), rtol=1e-4, atol=1e-4)
    before, after = (np.ptp(np.log(largest(each))) for each in (graph, equalized))
    assert after < (0.01 if tail == "depthwise" else 0.7) * before


@pytest.mark.parametrize("tail", LEFT)
def test_what_does_not_keep_a_factor_is_left_alone(tail: str) -> None:
    graph = network(LEFT[tail])
    np.testing.assert_array_equal(largest(equalize(graph, PICTURES)), largest(graph))
    np.testing.assert_array_equal(answers(equalize(graph, PICTURES)), answers(graph))


def test_what_is_not_finite_gives_no_factor() -> None:
    for wrong in (np.inf, np.nan):
        largest = np.array([1.0, wrong, 2.0], np.float32)
        np.testing.assert_array_equal(_factor(largest, [None]), np.ones(3))


def test_a_channel_that_calibration_saw_nothing_of_keeps_its_weights() -> None:
    import keras
    from keras import layers

    inputs = keras.Input((SIDE, SIDE, 3))
    first = layers.Conv2D(CHANNELS, 1, activation="relu")
    model = keras.Model(inputs, layers.Conv2D(2, 1)(first(inputs)))
    kernel = np.abs(first.get_weights()[0])
    kernel[..., 2] = -kernel[..., 2]  # of pixels, which are never negative
    first.set_weights([kernel, np.zeros(CHANNELS, np.float32)])
    graph = rewrite(tflite.convert(freeze(model, SIDE, SIDE), "float32", ()), for_int8=True)
    own = _graph.Graph(equalize(graph, PICTURES))
    found = next(own.array(each.inputs[1]) for each in own.graph.operators if own.kind(each) == "CONV_2D")
    assert found is not None
    np.testing.assert_array_equal(found[2].ravel(), kernel[0, 0, :, 2])
    np.testing.assert_allclose(answers(own.to_bytes()), answers(graph), rtol=1e-4, atol=1e-4)
