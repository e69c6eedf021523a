"""With rounded weights and corrected biases, a layer gives the same on average as with its own weights."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from edgecnn_converters.formats import tflite
from edgecnn_converters.freeze import freeze
from edgecnn_converters.quantization._graph import Graph, run
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
    "in groups": lambda layers: layers.Conv2D(6, 3, groups=3),  # of six channels
    "dense": lambda layers: layers.Dense(5),
}


def with_rounded_weights(graph: bytes) -> bytes:
    own = Graph(graph)
    for operator in own.graph.operators:
        if (kind := own.kind(operator)) in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            weights = own.array(operator.inputs[1])
            rows = weights.reshape(-1, weights.shape[-1]).T if kind == "DEPTHWISE_CONV_2D" else weights
            values = rounded(rows.reshape(len(rows), -1))
            weights = (values.T if kind == "DEPTHWISE_CONV_2D" else values).reshape(weights.shape)
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


def one_layer(name: str, seed: int) -> bytes:
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    inputs = keras.Input((HEIGHT, WIDTH, 3))
    x = layers.Flatten()(inputs) if name == "dense" else inputs
    if name == "in groups":
        x = layers.Concatenate()([x, 0.25 * x])
    return tflite._float32(freeze(keras.Model(inputs, LAYERS[name](layers)(x)), HEIGHT, WIDTH))


@pytest.mark.parametrize("name", LAYERS)
def test_the_mean_is_kept(name):
    graph = one_layer(name, seed=5)
    rng = np.random.default_rng(6)
    pictures = list(rng.integers(100, 256, (PICTURES, HEIGHT, WIDTH, 3), np.uint8))  # a mean that is not 0
    wanted = mean_output(graph, pictures)
    plain = np.abs(mean_output(with_rounded_weights(graph), pictures) - wanted).max()
    corrected = np.abs(mean_output(with_rounded_weights(correct_bias(graph, pictures)), pictures) - wanted).max()
    assert plain > 0.05
    assert corrected < 0.01 * plain


@pytest.mark.parametrize("name", LAYERS)
def test_weights_rounded_jointly_err_less_on_inputs_that_go_together(name):
    graph = one_layer(name, seed=8)
    rng = np.random.default_rng(9)
    soft = [cv2.resize(rng.integers(0, 256, (3, 2, 3), np.uint8), (WIDTH, HEIGHT)) for _ in range(2 * PICTURES)]
    soft = [(0.2 * picture + 0.8 * picture.mean(2, keepdims=True)).astype(np.uint8) for picture in soft]
    pictures = soft[:PICTURES]
    others = pictures if name == "dense" else soft[PICTURES:]  # so few tell nothing of 264 weights on others

    def error(rounding):
        both = [np.stack([v(own) for v in run(g, others)]) for g, own in ((graph, output), (rounding, output))]
        return float(((both[0] - both[1]) ** 2).mean())

    output = Graph(graph).graph.outputs[0]
    jointly = correct_bias(graph, pictures, jointly=True)
    assert Graph(jointly).graph.outputs[0] == output
    # They lie on the quantizer's own grid: rounding them once more, as it does, changes next to nothing.
    assert error(with_rounded_weights(jointly)) == pytest.approx(error(jointly), rel=0.02)
    assert error(jointly) < 0.8 * error(with_rounded_weights(correct_bias(graph, pictures)))


def test_a_layer_that_stays_in_float_is_left_alone():
    graph = one_layer("same", seed=5)
    own = Graph(graph)
    name = own.name(own.graph.operators[0].outputs[0])
    pictures = [np.full((HEIGHT, WIDTH, 3), 200, np.uint8)]
    (kept,) = Graph(correct_bias(graph, pictures, [name], jointly=True)).graph.operators
    np.testing.assert_array_equal(kept.inputs, own.graph.operators[0].inputs)


def test_weights_are_rounded_to_steps_of_their_channel():
    """Rounding what is rounded already changes nothing, and a channel of zeros stays one."""
    rng = np.random.default_rng(7)
    weights = rng.normal(size=(4, 3, 3, 2)).astype(np.float32)
    weights[1] = 0
    weights = weights.reshape(4, -1)
    once = rounded(weights)
    assert (once[1] == 0).all()
    np.testing.assert_allclose(rounded(once), once, rtol=1e-6)
    assert np.abs(once - weights).max() <= np.abs(weights).max() / 127 / 2 * 1.001
    with_steps = once / (np.abs(weights).max(1, keepdims=True) / 127 + 1e-30)
    np.testing.assert_allclose(with_steps, np.rint(with_steps), atol=1e-3)
