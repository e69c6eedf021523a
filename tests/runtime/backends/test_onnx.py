"""The ONNX reader: the contract's record, the structure check, and the layouts and types of inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn_runtime.backends import PIXELS, Scaling, onnx
from edgecnn_runtime.backends._trial import trial
from edgecnn_runtime.errors import ModelError


def model(**changes: Any) -> Any:
    """A model that averages each channel: ``(1, 3, 8, 6)`` float32 by default."""
    from onnx import TensorProto, helper

    kind, shape = changes.get("kind", TensorProto.FLOAT), changes.get("shape", [1, 3, 8, 6])
    axes = [1, 2] if shape[-1] == 3 else [2, 3]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers"], ["means"], axes=axes, keepdims=0),
        helper.make_node("Softmax", ["means"], ["out"], axis=-1),
    ]
    source = helper.make_tensor_value_info("pixels", kind, shape)
    sink = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3])
    graph = helper.make_graph(nodes, "means", [source], [sink])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_split_and_join_are_inverse(tiny_onnx_graph: bytes) -> None:
    data = onnx.join(tiny_onnx_graph, '{"a": "é"}', ("x",))
    assert onnx.split(data) == (tiny_onnx_graph, '{"a": "é"}')
    assert onnx.split(tiny_onnx_graph) == (tiny_onnx_graph, None)


def test_other_tools_find_the_contract_and_other_metadata_stay() -> None:
    from onnx import helper, load_from_string

    own = model()
    helper.set_model_props(own, {"author": "someone"})
    graph = own.SerializeToString()
    data = onnx.join(graph, "x" * 1000, ())
    found = {entry.key: entry.value for entry in load_from_string(data).metadata_props}
    assert found == {"author": "someone", "edgecnn.contract": "x" * 1000}
    assert onnx.split(data) == (graph, "x" * 1000)


def test_two_contracts_are_refused(tiny_onnx_graph: bytes) -> None:
    with pytest.raises(ModelError, match="two contracts"):
        onnx.split(onnx.join(onnx.join(tiny_onnx_graph, "a", ()), "b", ()))


def damage(name: str) -> bytes:
    from onnx import TensorProto, helper

    own = model()
    graph = own.graph
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    if name == "external":
        tensor.ClearField("float_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "/etc/passwd"
        graph.initializer.append(tensor)
    elif name == "external constant":
        tensor.data_location = TensorProto.EXTERNAL
        graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))
    elif name == "domain":
        graph.node[0].domain = "evil.corp"
    elif name == "functions":
        own.functions.append(helper.make_function("d", "f", [], [], [], [helper.make_opsetid("", 13)]))
    elif name == "sparse":
        graph.sparse_initializer.add()
    elif name == "nested":
        inner = helper.make_graph([], "g", [], [])
        for _ in range(12):
            inner = helper.make_graph([helper.make_node("If", ["c"], [], then_branch=inner)], "g", [], [])
        graph.node.append(inner.node[0])
    return bytes(own.SerializeToString())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("external", "weights in another file"),
        ("external constant", "weights in another file"),
        ("domain", "operators of b'evil.corp'"),
        ("functions", "functions of its own"),
        ("sparse", "sparse weights"),
        ("nested", "too deeply"),
    ],
)
def test_every_rule_of_the_structure(name: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        onnx.check_structure(damage(name))


def test_damaged_records() -> None:
    graph = model().SerializeToString()
    for data in (graph[:-1], b"\x0f", b"\x80" * 20, b"\x3a\xff\xff\xff\xff\x7f", b"\x00\x00"):
        with pytest.raises(ModelError, match="damaged"):
            onnx.check_structure(data)
    with pytest.raises(ModelError, match="no graph"):
        onnx.check_structure(graph + graph)


def test_channels_first_bytes_and_ranges() -> None:
    from onnx import TensorProto

    picture = np.zeros((8, 6, 3), np.uint8)
    picture[..., 1] = 255
    for graph in (model(), model(shape=[1, 8, 6, 3]), model(kind=TensorProto.UINT8)):
        data = graph.SerializeToString()
        onnx.check_structure(data)
        backend = onnx.load(data, 1, PIXELS)
        assert (backend.height, backend.width, backend.outputs) == (8, 6, 3)
        assert backend.run(picture).argmax() == 1
    unit = onnx.load(model().SerializeToString(), 1, Scaling(0.0, 1.0)).run(picture)
    assert unit == pytest.approx(np.exp([0, 1, 0]) / (np.e + 2), abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": [1, 3, "h", "w"]}, "does not say its input size"),
        ({"shape": [1, 4, 8, 8]}, "takes one picture"),
        ({"shape": [1, 3, 8, 6], "kind": 7}, "type tensor\\(int64\\)"),
    ],
)
def test_inputs_that_are_no_picture(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        onnx.load(model(**changes).SerializeToString(), 1, PIXELS)


def test_what_the_engine_refuses_is_one_line_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    own = model()
    own.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ModelError, match="ONNX engine refuses the model") as caught:
        onnx.load(own.SerializeToString(), 1, PIXELS)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_trial_says_when_the_engine_dies(tiny_graph: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trial(tiny_graph, ".tflite")
    trial(b"what the engine refuses in words is not the trial's business", ".onnx")
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\nkill -SEGV $$\n")
    dying.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(dying))
    with pytest.raises(ModelError, match="crashed its engine in a trial run"):
        trial(tiny_graph, ".tflite")


def test_threads_do_not_spin_between_inferences(tiny_onnx_graph: bytes) -> None:
    options = onnx.load(tiny_onnx_graph, 2, PIXELS)._session.get_session_options()
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    assert options.intra_op_num_threads == 2
