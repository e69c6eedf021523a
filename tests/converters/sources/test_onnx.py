"""ONNX models made elsewhere: forms of input and output, files of weights, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecnn_converters import formats
from edgecnn_converters.sources import Normalization, Source, Stated
from edgecnn_converters.sources.onnx import read
from edgecnn_runtime.backends import PIXELS, module_for
from edgecnn_runtime.errors import ModelError

GOLDEN = Path(__file__).parents[1] / "golden"
HEIGHT, WIDTH = 12, 10
PICTURES = list(np.random.default_rng(5).integers(0, 256, (6, HEIGHT, WIDTH, 3), dtype=np.uint8))


def logits(**changes: Any) -> Any:
    """A network of one dense layer on averages, by default ``(1, 3, 12, 10)`` float32 to ``(1, 2)`` logits."""
    first: bool = changes.get("channels_first", True)
    channels: int = changes.get("channels", 3)
    outputs: int = changes.get("outputs", 2)
    kind: int = changes.get("kind", TensorProto.FLOAT)
    number = TensorProto.FLOAT16 if kind == TensorProto.FLOAT16 else TensorProto.FLOAT
    batch, height, width = changes.get("free", (1, HEIGHT, WIDTH))
    shape = [batch, channels, height, width] if first else [batch, height, width, channels]
    weights = np.random.default_rng(1).normal(size=(channels, outputs)) * 3
    constants = {"dense": weights, **changes.get("constants", {})}
    nodes = [
        helper.make_node("Cast", ["pixels"], ["numbers"], to=number),
        helper.make_node("ReduceMean", ["numbers"], ["means"], axes=[2, 3] if first else [1, 2], keepdims=0),
        helper.make_node("MatMul", ["means", "dense"], ["flat"]),
        helper.make_node(*changes.get("last", ("Identity", ["flat"], ["out"]))),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("pixels", kind, shape)],
        [helper.make_tensor_value_info("out", number, changes.get("out_shape", [batch, outputs]))],
        [
            numpy_helper.from_array(
                v.astype(np.int64 if v.dtype.kind == "i" else helper.tensor_dtype_to_np_dtype(number)), n
            )
            for n, v in constants.items()
        ],
    )
    opset = helper.make_opsetid("", changes.get("opset", 13))
    return helper.make_model(graph, opset_imports=[opset], ir_version=changes.get("ir", 8))


def save(folder: Path, model: Any) -> Path:
    path = folder / "net.onnx"
    onnx.save(model, path)
    return path


def stated(low: float = 0.0, high: float = 1.0, size: tuple[int, int] | None = None) -> Stated:
    return Stated(size, Normalization.from_range(low, high), True)


def artifact(source: Source) -> np.ndarray:
    """What the runtime's own engine gives for the pictures with the graph that is exported."""
    graph = formats.get("onnx").convert(source.function, "float32", ())
    module = module_for("net.onnx")
    module.check_structure(graph)
    backend = module.load(graph, 1, PIXELS)
    assert (backend.height, backend.width, backend.outputs) == (source.height, source.width, source.outputs)
    return np.stack([backend.run(picture) for picture in PICTURES])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"channels_first": False},
        {"free": ("batch", HEIGHT, WIDTH)},
        {"free": ("batch", "height", "width"), "channels_first": False},
        {"channels": 1},
        {"channels": 1, "channels_first": False},
        {"outputs": 1},
        {"opset": 11, "ir": 3},
        {"kind": TensorProto.FLOAT16},
        {
            "last": ("Reshape", ["flat", "form"], ["out"]),
            "constants": {"form": np.array([1, 2, 1, 1])},
            "out_shape": [1, 2, 1, 1],
        },
    ],
    ids=str,
)
def test_every_form_gives_what_the_network_says(tmp_path: Path, changes: dict[str, Any]) -> None:
    size = (HEIGHT, WIDTH) if "free" in changes else None
    model = logits(**changes)
    if changes.get("ir") == 3:  # weights had to be inputs then
        model.graph.input.append(helper.make_tensor_value_info("dense", TensorProto.FLOAT, [3, 2]))
    source = read(save(tmp_path, model), stated(-1, 1, size))
    expected, found = source.ask(PICTURES), artifact(source)
    if source.outputs == 1:
        found = np.concatenate([1 - found, found], 1)
    assert expected.std() > 0.01
    np.testing.assert_allclose(found, expected, atol=5e-3 if "kind" in changes else 1e-5)


@pytest.mark.parametrize("first", [True, False])
def test_pixels_go_in_as_they_are_where_the_network_normalizes(tmp_path: Path, first: bool) -> None:
    model = logits(kind=TensorProto.UINT8, channels_first=first)
    source = read(save(tmp_path, model), stated(0, 255))
    np.testing.assert_allclose(artifact(source), source.ask(PICTURES), atol=1e-5)
    assert "Conv" not in [node.op_type for node in onnx.load_from_string(source.function).graph.node]


def test_what_pytorch_exports_says_what_pytorch_said() -> None:
    normalization = Normalization.from_statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    source = read(GOLDEN / "small_cnn.onnx", Stated(None, normalization, True))
    rows, columns, channels = np.mgrid[:20, :24, :3]
    picture = (127.5 + 127.5 * np.sin(rows / 5 + columns / (3 + channels) + channels)).astype(np.uint8)
    expected = json.loads((GOLDEN / "small_cnn.json").read_text("utf-8"))["probabilities"]
    np.testing.assert_allclose(source.ask([picture])[0], expected, atol=1e-5)
    backend = module_for("net.onnx").load(source.function, 1, PIXELS)
    np.testing.assert_allclose(backend.run(picture), expected, atol=1e-4)
    assert b"/home/somebody" in (GOLDEN / "small_cnn.onnx").read_bytes()
    assert b"/home/somebody" not in source.function


def external(folder: Path, location: str) -> Path:
    """The network with its weights in another file, which lies at `location`."""
    model = logits()
    tensor = model.graph.initializer[0]
    data, tensor.data_location = tensor.raw_data, TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(data)))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    (folder / "weights.bin").write_bytes(data)
    return save(folder, model)


def test_weights_beside_the_model_are_taken_in(tmp_path: Path) -> None:
    alone = read(save(tmp_path, logits()), stated()).ask(PICTURES)
    source = read(external(tmp_path, "weights.bin"), stated())
    np.testing.assert_array_equal(source.ask(PICTURES), alone)
    np.testing.assert_allclose(artifact(source), alone, atol=1e-6)


def test_weights_anywhere_else_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    external(tmp_path, "weights.bin")
    for location in ("../weights.bin", str(tmp_path / "weights.bin"), "/etc/passwd", "x/../../weights.bin", ""):
        with pytest.raises(ModelError, match="keeps weights outside its folder"):
            read(external(folder, location), stated())
    path = external(folder, "weights.bin")
    (folder / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"weights lie in 'weights.bin', which is missing: put it beside"):
        read(path, stated())
    (folder / "weights.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(ModelError, match="keeps weights outside its folder"):
        read(path, stated())
    (folder / "weights.bin").unlink()
    (folder / "weights.bin").write_bytes(b"few")
    with pytest.raises(ModelError):
        read(path, stated())


def test_weights_outside_are_found_in_inner_graphs_too(tmp_path: Path) -> None:
    model = logits()
    tensor = onnx.load(external(tmp_path, "../weights.bin"), load_external_data=False).graph.initializer[0]
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["yes"], ["x"], then_branch=inner, else_branch=inner))
    with pytest.raises(ModelError, match="keeps weights outside its folder"):
        read(save(tmp_path, model), stated())


def broken(name: str) -> Any:
    model = logits()
    if name == "domain":
        model.graph.node[0].domain = "evil.corp"
    elif name == "functions":
        model.functions.append(helper.make_function("d", "f", [], [], [], [helper.make_opsetid("", 13)]))
    elif name == "quantized":
        model.graph.node.append(helper.make_node("QuantizeLinear", ["a", "b", "c"], ["d"]))
    elif name == "two outputs":
        model.graph.output.append(helper.make_tensor_value_info("means", TensorProto.FLOAT, [1, 3]))
    elif name == "batch":
        model = logits(free=(8, HEIGHT, WIDTH))
    elif name == "channels":
        model = logits(channels=4)
    elif name == "type":
        model = logits(kind=TensorProto.DOUBLE)
    elif name == "operator":
        model.graph.node[0].op_type = "NoSuchThing"
    elif name == "empty":
        model.ClearField("graph")
    return model


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("domain", "only built-in ones are run"),
        ("functions", "functions of its own"),
        ("quantized", "is quantized already; export its float version"),
        ("two outputs", r"one input and one output \(received: 1 and 2\)"),
        ("batch", r"takes one picture, .*received: \(8, 3, 12, 10\)"),
        ("channels", r"takes one picture, .*received: \(1, 4, 12, 10\)"),
        ("type", "another type than float32, float16 and uint8"),
        ("operator", "the ONNX engine refuses the model"),
        ("empty", "not an ONNX model: it has no graph"),
    ],
)
def test_what_is_no_classifier_is_refused(tmp_path: Path, name: str, message: str) -> None:
    path = save(tmp_path, broken(name))
    with pytest.raises(ModelError, match=message) as refusal:
        read(path, stated())
    assert str(refusal.value).startswith(f"{path}: ")
    assert str(refusal.value).count(str(path)) == 1


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = (GOLDEN / "small_cnn.onnx").read_bytes()
    rng = np.random.default_rng(2)
    path = tmp_path / "net.onnx"
    for length in rng.integers(0, len(whole), 20):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError):
            read(path, stated())
    path.write_bytes(whole.replace(b"node_", b"nod\xff_"))  # a name that is no UTF-8
    with pytest.raises(ModelError, match="damaged"):
        read(path, stated())


def test_an_artifact_of_ours_is_no_source(tiny_onnx: Path) -> None:
    with pytest.raises(ModelError, match="is a file of edgecnn's already"):
        read(tiny_onnx, stated())
