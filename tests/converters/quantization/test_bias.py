"""With rounded weights and corrected biases, a layer gives the same on average as with its own weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgecnn_converters.formats import tflite
from edgecnn_converters.freeze import freeze
from edgecnn_converters.quantization._graph import Graph
from edgecnn_converters.quantization.bias import PICTURES, correct_bias, rounded

HEIGHT, WIDTH = 11, 8  # odd and even, not square

LAYERS: dict[str, Any] = {
    "1x1": lambda layers: layers.Conv2D(5, 1),
    "same": lambda layers: layers.Conv2D(5, 3, padding="same"),
    "valid, strided": lambda layers: layers.Conv2D(5, (5, 2), strides=2),
    "same, strided": lambda layers: layers.Conv2D(5, 4, strides=2, padding="same"),
    "dilated": lambda layers: layers.Conv2D(5, 3, dilation_rate=2, padding="same"),
    "depthwise": lambda layers: layers.DepthwiseConv2D(3, strides=2, padding="same"),
    "depthwise, doubled": lambda layers: layers.DepthwiseConv2D(5, depth_multiplier=2),
    "without bias": lambda layers: layers.Conv2D(5, 3, use_bias=False),
    "dense": lambda layers: layers.Dense(5),
}


def with_rounded_weights(graph: bytes) -> bytes:
    own = Graph(graph)
    for operator in own.graph.operators:
        if (kind := own.kind(operator)) in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            weights = rounded(own.array(operator.inputs[1]), kind == "DEPTHWISE_CONV_2D")
            operator.inputs = [operator.inputs[0], own.constant(weights, "rounded"), *operator.inputs[2:]]
    return own.to_bytes()


def mean_output(graph: bytes, pictures: list[np.ndarray]) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=graph)
    interpreter.allocate_tensors()
    outputs = []
    for picture in pictures:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[np.newaxis].astype(np.float32))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    stacked = np.concatenate(outputs)
    return stacked.reshape(-1, stacked.shape[-1]).mean(0, dtype=np.float64)


@pytest.mark.parametrize("name", LAYERS)
def test_the_mean_is_kept(name):
    import keras
    from keras import layers

    keras.utils.set_random_seed(5)
    inputs = keras.Input((HEIGHT, WIDTH, 3))
    x = layers.Flatten()(inputs) if name == "dense" else inputs
    graph = tflite._float32(freeze(keras.Model(inputs, LAYERS[name](layers)(x)), HEIGHT, WIDTH))
    rng = np.random.default_rng(6)
    pictures = list(rng.integers(100, 256, (PICTURES, HEIGHT, WIDTH, 3), np.uint8))  # a mean that is not 0
    wanted = mean_output(graph, pictures)
    plain = np.abs(mean_output(with_rounded_weights(graph), pictures) - wanted).max()
    corrected = np.abs(mean_output(with_rounded_weights(correct_bias(graph, pictures)), pictures) - wanted).max()
    assert plain > 0.05
    assert corrected < 0.01 * plain


def test_weights_are_rounded_to_steps_of_their_channel():
    """Rounding what is rounded already changes nothing, and a channel of zeros stays one."""
    rng = np.random.default_rng(7)
    weights = rng.normal(size=(4, 3, 3, 2)).astype(np.float32)
    weights[1] = 0
    once = rounded(weights, False)
    assert (once[1] == 0).all()
    np.testing.assert_allclose(rounded(once, False), once, rtol=1e-6)
    assert np.abs(once - weights).max() <= np.abs(weights).max() / 127 / 2 * 1.001
    with_steps = once / (np.abs(weights).max((1, 2, 3), keepdims=True) / 127 + 1e-30)
    np.testing.assert_allclose(with_steps, np.rint(with_steps), atol=1e-3)
