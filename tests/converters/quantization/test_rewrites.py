"""What a graph computes is kept by every rewrite; hard-swish and multiplications by a number are gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgecnn_converters.formats import tflite
from edgecnn_converters.freeze import freeze
from edgecnn_converters.quantization.rewrites import rewrite

SIDE, CHANNELS = 8, 6


def run(graph: bytes, pixels: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=graph)
    interpreter.allocate_tensors()
    answers = []
    for picture in pixels:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[np.newaxis])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.stack(answers)


def operators(graph: bytes) -> list[str]:
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(graph)
    return [flatbuffer_utils.opcode_to_name(model, each.opcodeIndex) for each in model.subgraphs[0].operators]


def squeeze_excite(x: Any, layers: Any, keras: Any) -> Any:
    """As MobileNetV3 has it, hard sigmoid included."""
    squeezed = layers.Activation("hard_silu")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    gate = layers.ReLU(6.0)(layers.Conv2D(CHANNELS, 1)(squeezed) + 3.0) * (1.0 / 6.0)
    return layers.Multiply()([x, gate])


def joined(x: Any, layers: Any, keras: Any) -> Any:
    """Features of several maps, with factors of their own, which the head's weights must take in one by one."""
    other = layers.Conv2D(3, 1)(x)
    pooled = [layers.GlobalAveragePooling2D()(each) for each in (x, other, squeeze_excite(x, layers, keras))]
    return layers.Dense(4)(layers.Concatenate()(pooled))


def shared(x: Any, layers: Any, keras: Any) -> Any:
    """One kernel read by two branches, of which one has a factor."""
    kernel = layers.Conv2D(4, 1)
    return layers.Add()([kernel(x), kernel(layers.ReLU()(layers.Conv2D(CHANNELS, 1)(x)))])


# Each goes on from the output of a hard-swish, the map of CHANNELS channels, and leaves so many products.
TAILS: dict[str, tuple[Callable[[Any, Any, Any], Any], int]] = {
    "convolution": (lambda x, layers, keras: layers.Conv2D(4, 3, padding="same")(x), 1),
    "strided": (lambda x, layers, keras: layers.Conv2D(4, 3, strides=2)(layers.ZeroPadding2D()(x)), 1),
    "depthwise": (lambda x, layers, keras: layers.DepthwiseConv2D(3, depth_multiplier=2)(x), 1),
    "dense": (lambda x, layers, keras: layers.Dense(4)(layers.Flatten()(x)), 1),
    "squeeze-excite": (lambda x, layers, keras: layers.Conv2D(4, 1)(squeeze_excite(x, layers, keras)), 4),
    "joined": (joined, 4),
    "shared": (shared, 1),
    "largest": (lambda x, layers, keras: layers.Conv2D(4, 1)(layers.MaxPooling2D(2)(x)), 1),
    "average": (lambda x, layers, keras: layers.Conv2D(4, 1)(layers.AveragePooling2D(2)(x)), 1),
    "rectified": (lambda x, layers, keras: layers.Conv2D(4, 1)(layers.ReLU()(layers.AveragePooling2D(2)(x))), 1),
    "again": (lambda x, layers, keras: layers.Conv2D(4, 1)(layers.Activation("hard_silu")(x)), 3),
    "clipped": (lambda x, layers, keras: layers.Conv2D(4, 1)(layers.ReLU(6.0)(layers.MaxPooling2D(2)(x))), 2),
    "sum": (lambda x, layers, keras: layers.Add()([x, layers.Conv2D(CHANNELS, 1)(x)]), 2),
    "shifted": (lambda x, layers, keras: layers.Conv2D(4, 1)(x * 0.5 + 1.0), 1),
    "softmax": (lambda x, layers, keras: layers.Softmax()(layers.GlobalAveragePooling2D()(x)), 2),
    "the end": (lambda x, layers, keras: x, 0),
}


@pytest.mark.parametrize("tail", TAILS)
def test_rewritten_graph_computes_the_same(tail):
    import keras
    from keras import layers

    keras.utils.set_random_seed(7)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(CHANNELS, 3, padding="same", kernel_initializer=keras.initializers.RandomNormal(stddev=0.02))(
        layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    )
    x = layers.Activation("hard_silu")(x * 20.0)
    build, products = TAILS[tail]
    graph = tflite._float32(freeze(keras.Model(inputs, build(x, layers, keras)), SIDE, SIDE))
    pixels = np.random.default_rng(1).integers(0, 256, (5, SIDE, SIDE, 3)).astype(np.float32)
    wanted, rewritten = run(graph, pixels), rewrite(graph, for_int8=True)
    assert "HARD_SWISH" in operators(graph), "the converter makes no hard-swish of this any more"
    assert np.ptp(wanted, axis=0).max() > 0.05, "the pictures must not all look alike to the network"
    np.testing.assert_allclose(run(rewritten, pixels), wanted, rtol=1e-4, atol=1e-5)
    assert ("HARD_SWISH" in operators(rewritten)) == (tail == "the end")
    assert operators(rewritten).count("MUL") == products
    in_float = rewrite(graph, for_int8=False)
    np.testing.assert_allclose(run(in_float, pixels), wanted, rtol=1e-4, atol=1e-5)
    assert operators(in_float).count("HARD_SWISH") == operators(graph).count("HARD_SWISH")


def test_many_maps_are_joined_in_groups():
    import keras
    from keras import layers

    keras.utils.set_random_seed(3)
    inputs = keras.Input((SIDE, SIDE, 3))
    maps = [layers.Conv2D(1 + number % 3, 1)(inputs) for number in range(11)]
    maps[4] = layers.Activation("hard_silu")(maps[4])
    features = layers.Concatenate()([layers.GlobalAveragePooling2D()(each) for each in maps])
    graph = tflite._float32(freeze(keras.Model(inputs, layers.Dense(3)(features)), SIDE, SIDE))
    rewritten = rewrite(graph, for_int8=False)
    assert (operators(graph).count("CONCATENATION"), operators(rewritten).count("CONCATENATION")) == (1, 4)
    pixels = np.random.default_rng(2).uniform(0, 1, (3, SIDE, SIDE, 3)).astype(np.float32)
    np.testing.assert_allclose(run(rewritten, pixels), run(graph, pixels), rtol=1e-5, atol=1e-6)


def test_a_graph_without_anything_to_rewrite_is_kept(small):
    graph = tflite._float32(small.function)
    assert set(operators(graph)) - set(operators(rewrite(graph, for_int8=True))) <= {"MUL"}
    pixels = np.stack(small.pictures).astype(np.float32)
    np.testing.assert_allclose(run(rewrite(graph, for_int8=True), pixels), run(graph, pixels), atol=1e-5)
