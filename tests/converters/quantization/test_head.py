"""What a head must change is found where there is something to find, and left alone where there is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgecnn_converters import formats
from edgecnn_converters.formats import onnx, tflite
from edgecnn_converters.freeze import freeze
from edgecnn_converters.quantization._graph import Graph
from edgecnn_converters.quantization.head import fit_head
from edgecnn_converters.quantization.repair import NONE, Repair
from edgecnn_runtime.backends import PIXELS, module_for

HEAD = Repair(head=True)


def drawn(count: int, inputs: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, inputs)) + 3.0).astype(np.float32)


@pytest.mark.parametrize(("count", "inputs"), [(100, 8), (40, 200)])
def test_an_error_that_goes_along_with_the_features_is_found(count: int, inputs: int) -> None:
    seen, unseen = drawn(count, inputs, 1), drawn(500, inputs, 2)
    weights, bias = np.random.default_rng(3).normal(size=(2, inputs)), np.array([0.5, -2.0])
    change = fit_head(seen, (seen @ weights.T + bias).astype(np.float32))
    assert change is not None
    assert (change[0].shape, change[0].dtype, change[1].shape) == ((2, inputs), np.float32, (2,))
    wanted = unseen @ weights.T + bias
    left = np.square(wanted - unseen @ change[0].T - change[1]).mean() / np.square(wanted).mean()
    assert left < (1e-4 if count > inputs else 0.9)  # 40 pictures say little of 200 weights


def test_a_constant_error_changes_the_bias_alone() -> None:
    change = fit_head(drawn(30, 5, 1), np.full((30, 3), 0.7, np.float32))
    assert change is not None
    np.testing.assert_allclose(change[0], 0.0, atol=1e-6)
    np.testing.assert_allclose(change[1], 0.7, rtol=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_noise_is_not_learnt(seed: int) -> None:
    error = np.random.default_rng(seed).normal(size=(50, 3)).astype(np.float32)
    change = fit_head(drawn(50, 400, seed), error)
    if change is not None:
        unseen = drawn(500, 400, seed + 100)
        assert np.square(unseen @ change[0].T + change[1]).mean() < 0.2  # of the 1.0 that is there


@pytest.mark.parametrize("error", [np.zeros((20, 3), np.float32), np.ones((1, 3), np.float32)])
def test_nothing_is_changed_where_nothing_lacks_or_a_single_picture_says_so(error: np.ndarray) -> None:
    assert fit_head(drawn(len(error), 4, 1), error) is None


def test_pictures_that_are_all_alike_are_no_matter() -> None:
    change = fit_head(np.ones((20, 4), np.float32), np.ones((20, 3), np.float32))
    assert change is not None
    assert np.isfinite(change[0]).all()


def answers(graph: bytes, format: str, pictures: Any) -> np.ndarray:
    module = module_for(f"model.{format}")
    module.check_structure(graph)
    engine = module.load(graph, 1, PIXELS)
    return np.stack([engine.run(picture) for picture in pictures])


def assert_unchanged(function: Any, format: str, pictures: list[np.ndarray]) -> None:
    found = [formats.get(format).convert(function, "int8", pictures, repair) for repair in (HEAD, NONE)]
    np.testing.assert_array_equal(*(answers(graph, format, pictures) for graph in found))


@pytest.mark.parametrize("source", ["tflite", "onnx", "onnx already", "onnx from PyTorch", "onnx with a sum"])
def test_an_int8_file_comes_nearer_to_its_float_model_in_pictures_it_was_not_fitted_to(
    dense_at_the_end: Any, source: str
) -> None:
    pictures, expected = list(dense_at_the_end.pictures), dense_at_the_end.expected
    function, format = freeze(dense_at_the_end.model, *pictures[0].shape[:2]), source.partition(" ")[0]
    if " " in source:
        function = onnx.convert(function, "float32", ())
    if "PyTorch" in source or "sum" in source:
        function = _with_other_head(function, transposed="PyTorch" in source)

    def error(repair: Repair) -> float:
        made = formats.get(format).convert(function, "int8", pictures[:100], repair)
        return float(np.abs(answers(made, format, pictures[100:]) - expected[100:]).mean())

    assert error(HEAD) < error(NONE) / 2


def _with_other_head(graph: bytes, transposed: bool) -> bytes:
    """The dense layer at the end with its weights the other way round, or as a product and a sum."""
    import onnx

    model = onnx.load_from_string(graph)
    (layer,) = [node for node in model.graph.node if node.op_type == "Gemm"]
    features, weights, bias = layer.input
    if transposed:
        (constant,) = [tensor for tensor in model.graph.initializer if tensor.name == weights]
        constant.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(constant).T, weights))
        others = [onnx.helper.make_node("Gemm", layer.input, layer.output, name="head", transB=1, alpha=1.0)]
    else:
        others = [
            onnx.helper.make_node("MatMul", [features, weights], ["product"], name="product"),
            onnx.helper.make_node("Add", [bias, "product"], layer.output, name="sum"),
        ]
    at = list(model.graph.node).index(layer)
    nodes = [*model.graph.node[:at], *others, *model.graph.node[at + 1 :]]
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_a_network_without_a_dense_layer_at_its_end_stays_as_it_is(unbalanced: Any, format: str) -> None:
    function, pictures = freeze(unbalanced.model, *unbalanced.pictures.shape[1:3]), list(unbalanced.pictures[:30])
    assert_unchanged(function, format, pictures)


def test_a_head_in_8_bits_stays_as_it_is(dense_at_the_end: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgecnn_converters.quantization import tail

    monkeypatch.setattr(tail, "MOST_BYTES", 0)
    function = freeze(dense_at_the_end.model, *dense_at_the_end.pictures.shape[1:3])
    pictures = list(dense_at_the_end.pictures[:30])
    for format in formats.names():
        assert_unchanged(function, format, pictures)


def test_only_a_last_dense_layer_of_one_place_is_a_head() -> None:
    import keras
    from keras import layers

    def head(tail: Any) -> Any:
        inputs = keras.Input((8, 8, 3))
        model = keras.Model(inputs, tail(layers.Conv2D(4, 3, activation="relu")(inputs)))
        return Graph(tflite.convert(freeze(model, 8, 8), "float32", ())).head()

    found = head(lambda x: layers.Softmax()(layers.Dense(3)(layers.Flatten()(x))))
    assert found is not None
    assert (found[1].shape, found[2].shape) == ((3, 144), (3,))
    assert head(lambda x: layers.Activation("sigmoid")(layers.Dense(1)(layers.GlobalMaxPooling2D()(x)))) is not None
    assert head(lambda x: layers.Softmax()(layers.Dense(3, activation="relu")(layers.Flatten()(x)))) is None
    assert head(lambda x: layers.Softmax()(layers.Reshape((108,))(layers.Dense(3)(x)))) is None
    assert head(lambda x: layers.Softmax()(layers.GlobalAveragePooling2D()(layers.Conv2D(3, 1)(x)))) is None
