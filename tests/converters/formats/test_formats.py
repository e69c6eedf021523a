"""Every format and precision converts, passes the structure check, and runs in the device's engine as Keras does."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn_converters import formats
from edgecnn_converters.freeze import freeze
from edgecnn_runtime import Classifier
from edgecnn_runtime.backends import PIXELS, module_for
from edgecnn_runtime.errors import EdgecnnError, UsageError

VARIANTS = [(name, precision) for name in formats.names() for precision in formats.get(name).PRECISIONS]
TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "dynamic": 0.05, "int8": 0.08}


def test_formats_are_listed_with_tflite_first():
    assert formats.names() == ("tflite", "onnx")
    assert formats.get("tflite").PRECISIONS == ("float32", "float16", "dynamic", "int8")
    assert formats.get("onnx").PRECISIONS == ("float32", "float16", "int8")
    with pytest.raises(UsageError, match=r"no such format: coreml \(known: tflite, onnx\)"):
        formats.get("coreml")


@pytest.mark.parametrize(("name", "precision"), VARIANTS)
def test_converts_silently_and_agrees_with_keras(small, name, precision, capfd):
    graph = formats.get(name).convert(small.function, precision, small.pictures)
    assert capfd.readouterr() == ("", "")
    module = module_for(f"model.{name}")
    module.check_structure(graph)
    classifier = Classifier(graph, small.contract, module)
    answers = np.stack([classifier.infer(picture) for picture in small.pictures])
    assert np.ptp(small.expected, axis=0).max() > 0.3, "the pictures must not all look alike to the network"
    assert np.abs(answers - small.expected).max() <= TOLERANCE[precision]


def _interpreter(graph: bytes):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=graph)
    interpreter.allocate_tensors()
    return interpreter


@pytest.mark.parametrize("precision", formats.get("tflite").PRECISIONS)
def test_tflite_has_builtin_operators_only(small, precision):
    graph = formats.get("tflite").convert(small.function, precision, small.pictures)
    operators = {operator["op_name"] for operator in _interpreter(graph)._get_ops_details()}
    assert {"CONV_2D", "DEPTHWISE_CONV_2D"} <= operators
    assert not [name for name in operators if "CUSTOM" in name or "Flex" in name]


@pytest.mark.parametrize("brightest", [256, 90])
def test_int8_tflite_takes_raw_pixels_whatever_the_calibration_saw(small, brightest):
    calibration = [np.minimum(picture, brightest - 1) for picture in small.pictures]
    interpreter = _interpreter(formats.get("tflite").convert(small.function, "int8", calibration))
    (source,), (sink,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (source["dtype"], source["quantization"]) == (np.uint8, (1.0, 0))
    assert sink["dtype"] is np.float32
    interpreter.set_tensor(source["index"], small.pictures[0][np.newaxis])
    interpreter.invoke()
    outputs = interpreter.get_tensor(sink["index"])
    if small.contract.activation == "softmax":
        assert outputs.sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", formats.names())
def test_precisions_make_smaller_files(small, name):
    def size(precision):
        return len(formats.get(name).convert(small.function, precision, small.pictures))

    assert size("float16") < size("float32")
    assert name != "tflite" or size("int8") < size("float32")  # in ONNX, a network as small as this grows by its scales


@pytest.mark.parametrize(("name", "precision"), VARIANTS)
def test_failing_conversion_is_one_line(small, name, precision, capfd):
    import tensorflow as tf

    def network(image, training):
        return tf.nn.softmax(tf.math.digamma(tf.reduce_mean(image, [1, 2])))

    function = freeze(network, small.contract.height, small.contract.width)
    with pytest.raises(EdgecnnError, match="the converter failed: ") as raised:
        formats.get(name).convert(function, precision, small.pictures)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400
    assert capfd.readouterr() == ("", "")


def test_converter_error_without_words_is_named_by_its_type(small, monkeypatch):
    def fail(*_arguments, **_options):
        raise AssertionError

    monkeypatch.setattr("tf2onnx.convert.from_tflite", fail)
    function = freeze(small.model, small.contract.height, small.contract.width)
    with pytest.raises(EdgecnnError, match="ONNX float32: the converter failed: AssertionError"):
        formats.get("onnx").convert(function, "float32", ())


def test_onnx_writes_gelu_by_erf_and_refuses_operators_that_it_does_not_know(small, monkeypatch):
    import tensorflow as tf
    import tf2onnx

    def network(image, training):
        x = tf.reduce_mean(image, [1, 2]) / 64.0 - 2.0
        return tf.nn.softmax(0.5 * x * (1.0 + tf.math.erf(x * 0.5**0.5)))

    height, width = small.contract.height, small.contract.width
    graph = formats.get("onnx").convert(freeze(network, height, width), "float32", ())
    backend = module_for("model.onnx").load(graph, 1, PIXELS)
    for picture in small.pictures[:4]:
        expected = network(picture[np.newaxis].astype(np.float32), training=False)[0]
        np.testing.assert_allclose(backend.run(picture), expected, atol=1e-6)

    own = tf2onnx.convert.from_tflite
    monkeypatch.setattr(tf2onnx.convert, "from_tflite", lambda path, opset, custom_op_handlers: own(path, opset=opset))
    with pytest.raises(EdgecnnError, match="ONNX float32: the converter failed: No Op registered for TFL_GELU"):
        formats.get("onnx").convert(freeze(network, height, width), "float32", ())


@pytest.mark.parametrize("activations", [("hard_silu",), ("hard_silu", "elu")])
def test_onnx_keeps_hard_swish_and_only_an_elu_beside_it_costs_transpositions(activations):
    import keras
    import onnx
    from keras import layers

    keras.utils.set_random_seed(5)
    x = inputs = keras.Input((16, 16, 3))
    for activation in activations:
        x = layers.Conv2D(8, 3, activation=activation)(layers.Rescaling(1 / 127.5, -1.0)(x))
    gate = layers.Conv2D(8, 1, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    outputs = layers.Softmax()(layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.Conv2D(8, 1)(x * gate))))
    model = keras.Model(inputs, outputs)
    graph = formats.get("onnx").convert(freeze(model, 16, 16), "float32", ())
    operators = [node.op_type for node in onnx.load_from_string(graph).graph.node]
    assert (operators.count("HardSwish"), operators.count("Elu")) == (1, len(activations) - 1)
    assert (operators.count("Transpose") == 1) == (len(activations) == 1)
    backend = module_for("model.onnx").load(graph, 1, PIXELS)
    for picture in np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8):
        expected = model(picture[np.newaxis].astype(np.float32), training=False)[0]
        np.testing.assert_allclose(backend.run(picture), expected, atol=1e-5)


@pytest.mark.parametrize("readers", [1, 2])
@pytest.mark.parametrize("bias", ["zeros", "ones"])  # without one there is a MatMul, with one a Gemm
def test_a_flattened_map_is_not_turned_about_in_onnx(readers, bias):
    import keras
    import onnx
    from keras import layers

    keras.utils.set_random_seed(6)
    inputs = keras.Input((12, 16, 3))
    flat = layers.Flatten()(layers.Conv2D(5, 3, activation="relu")(layers.Rescaling(1 / 255)(inputs)))
    x = layers.Dense(7, activation="tanh", bias_initializer=bias)(flat)
    if readers == 2:
        x = layers.Concatenate()([x, layers.Dense(4, bias_initializer=bias)(flat)])
    model = keras.Model(inputs, layers.Softmax()(layers.Dense(3)(x)))
    function = freeze(model, 12, 16)
    pictures = list(np.random.default_rng(0).integers(0, 256, (4, 12, 16, 3), dtype=np.uint8))
    expected = np.asarray(model(np.stack(pictures).astype(np.float32), training=False))
    for precision, tolerance in (("float32", 1e-6), ("float16", 1e-2), ("int8", 0.05)):
        graph = formats.get("onnx").convert(function, precision, pictures)
        backend = module_for("model.onnx").load(graph, 1, PIXELS)
        answers = np.stack([backend.run(picture) for picture in pictures])
        np.testing.assert_allclose(answers, expected, atol=tolerance)
        operators = [node.op_type for node in onnx.load_from_string(graph).graph.node]
        assert operators.count("Transpose") == 1, "of the input alone"


def test_frozen_function_has_a_batch_of_one_and_no_variables(small):
    (source,) = small.function.inputs
    assert source.shape.as_list() == [1, small.contract.height, small.contract.width, 3]
    assert not small.function.variables
    assert not [node.name for node in small.function.graph.as_graph_def().node if "Variable" in node.op]
