"""What is simulated is what the engines compute; weights that have seen it lose less; the same every time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgecnn_converters.formats import onnx, tflite
from edgecnn_converters.freeze import freeze
from edgecnn_converters.quantization._graph import WEIGHTED, Graph
from edgecnn_converters.quantization.bias import rounded
from edgecnn_converters.quantization.fine_tuning import STEPS, Simulation, TuningError
from edgecnn_converters.quantization.repair import NONE, Prepared, Repair
from edgecnn_converters.quantization.rewrites import rewrite
from edgecnn_runtime.backends import PIXELS, module_for

REPAIR = Repair(clipped=True)
SIDE = 14


def silent(what: str, done: int, total: int) -> None:
    pass


def answers(graph: bytes, pictures: Any, format: str = "tflite") -> np.ndarray:
    backend = module_for(f"model.{format}").load(graph, 1, PIXELS)
    return np.stack([backend.run(np.asarray(picture)) for picture in pictures])


@pytest.fixture(scope="module")
def tuned(unbalanced: Any) -> tuple[Any, Prepared]:
    """The function, and what fine-tuning made of it by pictures that the tests do not ask about."""
    function = freeze(unbalanced.model, *unbalanced.pictures.shape[1:3])
    pictures = list(unbalanced.pictures[:100])
    return function, tflite.fine_tuned(function, pictures[:50], pictures, silent)


def every_operator(outputs: int, activation: str) -> Any:
    """One network with all that is simulated."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 64, offset=-2)(inputs)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="hard_silu")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu6")(layers.ZeroPadding2D(2)(x))
    x = layers.Conv2D(16, 3, dilation_rate=2, padding="same", activation="silu")(x)
    gate = layers.Conv2D(16, 1, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Multiply()([x, gate])
    large, mean = layers.MaxPooling2D(2, padding="same")(x), layers.AveragePooling2D(2, padding="same")(x)
    x = layers.Concatenate()([layers.ReLU()(layers.Subtract()([large, mean])), layers.ReLU(6.0)(mean)])
    x = layers.Dense(16, activation="relu")(layers.Flatten()(x))
    wide = keras.initializers.RandomNormal(stddev=4.0)
    return keras.Model(inputs, layers.Dense(outputs, activation=activation, kernel_initializer=wide)(x))


@pytest.mark.parametrize(("outputs", "activation"), [(3, "softmax"), (1, "sigmoid")])
def test_in_float_every_operator_gives_what_the_engine_gives(outputs: int, activation: str) -> None:
    import tensorflow as tf

    model = every_operator(outputs, activation)
    pictures = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)
    function = freeze(model, SIDE, SIDE)
    graph = rewrite(tflite._float32(function), for_int8=True)
    own = Graph(graph)
    kinds = {own.kind(operator) for operator in own.graph.operators}
    assert {"ADD", "AVERAGE_POOL_2D", "CONCATENATION", "LOGISTIC", "MAX_POOL_2D", "MEAN", "MUL", "PAD", "SUB"} <= kinds
    logits = Simulation(graph, None)(tf.constant(pictures.astype(np.float32)))
    simulated = tf.nn.softmax(logits) if activation == "softmax" else tf.sigmoid(logits)
    np.testing.assert_allclose(simulated, answers(graph, pictures), atol=1e-4)


def test_in_8_bits_the_simulation_errs_as_the_engine_does(unbalanced: Any) -> None:
    import tensorflow as tf

    function = freeze(unbalanced.model, *unbalanced.pictures.shape[1:3])
    prepared = tflite.prepare_with_ranges(function, list(unbalanced.pictures[:50]), NONE)
    engine = answers(tflite.convert(prepared, "int8", list(unbalanced.pictures[:50])), unbalanced.pictures)
    batch = tf.constant(unbalanced.pictures.astype(np.float32))
    simulated = tf.nn.softmax(Simulation(prepared.graph, prepared)(batch)).numpy()
    error, simulated_error = engine - unbalanced.expected, simulated - unbalanced.expected
    assert np.abs(error).mean() > 0.05
    assert np.corrcoef(error.ravel(), simulated_error.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_an_int8_file_comes_nearer_to_its_float_model(unbalanced: Any, tuned: Any, format: str) -> None:
    function, network = tuned
    maker = {"tflite": tflite, "onnx": onnx}[format]
    calibration, held_out = list(unbalanced.pictures[:50]), unbalanced.pictures[100:]

    def noise(source: Any) -> float:
        found = answers(maker.convert(source, "int8", calibration, REPAIR), held_out, format)
        return float(np.abs(found - unbalanced.expected[100:]).mean())

    assert noise(network) < 0.5 * noise(function)


def test_tuned_weights_are_rounded_no_further(tuned: Any) -> None:
    own = Graph(tuned[1].graph)
    for operator in own.graph.operators:
        if own.kind(operator) in WEIGHTED and own.name(operator.outputs[0]) not in tuned[1].in_float:
            rows = own.array(operator.inputs[1])
            rows = rows.reshape(len(rows), -1)
            np.testing.assert_allclose(rounded(rows), rows, rtol=1e-5)


def test_the_same_pictures_give_the_same_weights_and_progress_is_told(unbalanced: Any, tuned: Any) -> None:
    told: list[tuple[str, int, int]] = []
    pictures = list(unbalanced.pictures[:100])
    again = tflite.fine_tuned(tuned[0], pictures[:50], pictures, lambda *words: told.append(words))
    assert again == tuned[1]
    assert told == [("fine-tuning", step, STEPS) for step in range(1, STEPS + 1)]


def test_a_sigmoid_is_tuned_too(small: Any) -> None:
    network = tflite.fine_tuned(small.function, small.pictures, small.pictures, silent)
    made = answers(tflite.convert(network, "int8", small.pictures), small.pictures)
    expected = small.expected if made.shape[1] > 1 else small.expected[:, 1:]
    assert np.abs(made - expected).mean() < 0.02


def test_what_cannot_be_tuned_says_why() -> None:
    import keras
    from keras import layers

    inputs = keras.Input((SIDE, SIDE, 3))
    leaky = layers.GlobalAveragePooling2D()(layers.LeakyReLU()(layers.Conv2D(3, 3)(inputs)))
    unknown, endless = (
        freeze(keras.Model(inputs, last(leaky)), SIDE, SIDE) for last in (layers.Softmax(), layers.Rescaling(0.5))
    )
    pictures = [np.zeros((SIDE, SIDE, 3), np.uint8)]
    for function, training, why in (
        (unknown, pictures, "LEAKY_RELU is not simulated"),
        (endless, pictures, "the network does not end in a softmax or a sigmoid"),
        (unknown, [], "there are no training pictures"),
        (b"an ONNX file", pictures, "the network is ONNX already"),
    ):
        with pytest.raises(TuningError, match=why):
            tflite.fine_tuned(function, pictures, training, silent)
