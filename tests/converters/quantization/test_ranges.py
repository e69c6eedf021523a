"""Ranges are those of the values themselves, whatever the engine does with their memory afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgecnn_converters.formats import tflite
from edgecnn_converters.freeze import freeze
from edgecnn_converters.quantization.ranges import activation_ranges
from edgecnn_converters.quantization.rewrites import rewrite
from edgecnn_runtime.backends import PIXELS

SIDE = 8
GATE = (0.0, 6.0)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def network(pictures: list[np.ndarray]) -> tuple[Any, dict[str, tuple[float, float]]]:
    """A hard-swish whose values reach beyond its gate's, and a branch of a sum; and what Keras says of their ranges."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    inputs = keras.Input((SIDE, SIDE, 3))
    before = layers.Conv2D(6, 1, name="before")(layers.Rescaling(1 / 4, offset=-30)(inputs))
    gated = layers.Activation("hard_silu")(before)
    branch = layers.Conv2D(6, 1, name="branch", kernel_initializer=keras.initializers.RandomNormal(stddev=0.3))(gated)
    total = layers.Add()([gated, branch])
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.Flatten()(total)))
    named = ("before", "branch")
    watched = keras.Model(inputs, [model.get_layer(name).output for name in named])
    values = [np.asarray(each) for each in watched(np.stack(pictures).astype(np.float32))]
    assert values[0].max() > 12, "the gate's output reaches much farther than the gate"
    return model, {
        name: (min(0.0, float(each.min())), float(each.max())) for name, each in zip(named, values, strict=True)
    }


def test_a_range_is_that_of_the_values(network: Any, pictures: list[np.ndarray]) -> None:
    model, expected = network
    graph = rewrite(tflite._float32(freeze(model, SIDE, SIDE)), for_int8=True)
    found = activation_ranges(graph, pictures, clipped=False)
    gates = [limits for name, limits in found.items() if name.endswith("/relu6")]
    assert gates == [pytest.approx(GATE)]
    for name in expected:
        own = [limits for tensor, limits in found.items() if f"/{name}_1/" in tensor or f"/{name}/" in tensor]
        assert pytest.approx(expected[name], rel=1e-4) in own, (name, own)
    clipped = activation_ranges(graph, pictures, clipped=True)
    pairs = zip(found.values(), clipped.values(), strict=True)
    assert all(low <= own_low <= 0 <= own_high <= high for (low, high), (own_low, own_high) in pairs)


def test_the_file_has_them(network: Any, pictures: list[np.ndarray]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    model, expected = network
    interpreter = Interpreter(model_content=tflite.convert(freeze(model, SIDE, SIDE), "int8", pictures))
    interpreter.allocate_tensors()
    scales = [float(tensor["quantization"][0]) for tensor in interpreter.get_tensor_details()]
    for low, high in (GATE, expected["branch"]):
        assert any(scale == pytest.approx((high - low) / 255, rel=0.01) for scale in scales), (low, high)
    assert interpreter.get_input_details()[0]["quantization"] == (1.0, 0)


def test_a_map_without_values_gets_a_range(pictures: list[np.ndarray]) -> None:
    """The quantizer would abort the process."""
    import keras
    from keras import layers

    inputs = keras.Input((SIDE, SIDE, 3))
    dead = layers.Conv2D(4, 3, activation="relu", bias_initializer=keras.initializers.Constant(-1e4))(inputs)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(dead)))
    graph = tflite.convert(freeze(model, SIDE, SIDE), "int8", pictures)
    assert tflite.load(graph, 1, PIXELS).run(pictures[0]) == pytest.approx(np.full(3, 1 / 3), abs=0.01)


def test_no_two_pixel_values_become_one() -> None:
    """Though they are shifted by 127.5, and the pictures that calibrate are neither black nor white anywhere."""
    import keras
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
    from keras import layers

    keras.utils.set_random_seed(2)
    inputs = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = layers.Conv2D(4, 3, strides=2, padding="same", bias_initializer="ones")(x)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x)))
    every = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, 2)
    greys = [np.clip(every, 60, 190)] * 4
    graph = tflite.convert(freeze(model, 16, 16), "int8", greys)
    interpreter = Interpreter(
        model_content=graph,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], every[np.newaxis])
    interpreter.invoke()
    convolution = next(each for each in interpreter._get_ops_details() if each["op_name"] == "CONV_2D")
    assert len(np.unique(interpreter.get_tensor(convolution["inputs"][0]))) == 256
    # And as the delegate computes it, what comes of them is what Keras says.
    expected = model.predict(every[np.newaxis].astype(np.float32), verbose=0)[0]
    assert tflite.load(graph, 1, PIXELS).run(every) == pytest.approx(expected, abs=0.01)
