"""Weights in 8 bits: nearly the same answers from a far smaller file, in one piece for the delegate."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn_converters.formats import tflite
from edgecnn_converters.freeze import freeze
from edgecnn_converters.quantization._graph import WEIGHTED, Graph
from edgecnn_converters.quantization.weights import halve_weights, shorten_weights
from edgecnn_runtime.backends import PIXELS
from edgecnn_runtime.backends.tflite import check_structure, describe, load

SIDE, CLASSES = 16, 1100  # more classes than a dense layer may have and stay in float


@pytest.fixture(scope="module")
def graph() -> bytes:
    """A float32 file with all kinds of layers that have weights."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(6)
    inputs = keras.Input((SIDE, SIDE, 3), name="image")
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="hard_silu")(layers.Rescaling(1 / 255)(inputs))
    x = layers.DepthwiseConv2D(7, padding="same", activation="relu6")(x)
    x = layers.Conv2D(256, 1, activation="relu6")(x)
    x = layers.Dense(CLASSES, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    return tflite.convert(freeze(keras.Model(inputs, x), SIDE, SIDE), "float32", ())


def test_all_but_depthwise_weights_have_8_bits_and_nothing_leaves_the_delegate(graph):
    short = shorten_weights(graph)
    check_structure(short)
    assert describe(short)[0] == "1 partition for the delegate"
    own = Graph(short)
    kinds = [(own.kind(o), own.array(o.inputs[1]) is None) for o in own.graph.operators if own.kind(o) in WEIGHTED]
    assert kinds == [("CONV_2D", False), ("DEPTHWISE_CONV_2D", False), ("CONV_2D", True), ("FULLY_CONNECTED", True)]
    assert len(short) < 0.3 * len(graph)


def test_answers_stay_close(graph):
    pictures = np.random.default_rng(2).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
    exact, near = load(graph, 1, PIXELS), load(shorten_weights(graph), 1, PIXELS)
    for picture in pictures:
        expected = exact.run(picture)
        assert np.abs(near.run(picture) - expected).max() <= 0.05 * expected.max()


def test_halved_constants_run_in_one_piece_and_what_16_bits_cannot_hold_stays(graph):
    half = halve_weights(graph)
    check_structure(half)
    assert describe(half)[0] == "1 partition for the delegate"
    assert len(half) < 0.55 * len(graph)
    exact, near = load(graph, 1, PIXELS), load(half, 1, PIXELS)
    for picture in np.random.default_rng(4).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8):
        expected = exact.run(picture)
        assert np.abs(near.run(picture) - expected).max() <= 0.01 * expected.max()

    own = Graph(graph)
    first = next(operator for operator in own.graph.operators if own.kind(operator) == "CONV_2D")
    first.inputs = [first.inputs[0], own.constant(own.array(first.inputs[1]) * 1e9, "large"), *first.inputs[2:]]
    halved = Graph(halve_weights(own.to_bytes()))
    large = next(operator for operator in halved.graph.operators if halved.kind(operator) == "CONV_2D")
    assert halved.array(large.inputs[1]) is not None


def test_the_tail_of_few_classes_stays_in_float(small):
    graph = tflite.convert(small.function, "float32", ())
    own = Graph(shorten_weights(graph))
    dense = next(o for o in own.graph.operators if own.kind(o) == "FULLY_CONNECTED")
    assert own.array(dense.inputs[1]) is not None


def test_no_constant_stays_in_the_file_that_nothing_reads(graph):
    own = Graph(shorten_weights(graph))
    read = {own.graph.tensors[t].buffer for o in own.graph.operators for t in o.inputs if t >= 0}
    unread = [b.data for n, b in enumerate(own.model.buffers) if n not in read and b.data is not None]
    assert sum(len(data) for data in unread) < 1_000, "only metadata"
