"""The TFLite reader: containers, every rule of the structure check, and the engine's input and output types."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn_runtime.backends import PIXELS, Scaling, formats, tflite
from edgecnn_runtime.backends.tflite import _pixel_table
from edgecnn_runtime.errors import ModelError

GOLDEN = Path(__file__).parents[1] / "golden"
ADD, CONV, DEQUANTIZE, SPLIT = 0, 3, 6, 49


def test_the_formats() -> None:
    assert formats() == ("onnx", "tflite")


def test_split_and_join_are_inverse(tiny_graph: bytes) -> None:
    data = tflite.join(tiny_graph, '{"a": "é"}', ("x", "寿司"))
    assert data == tflite.join(tiny_graph, '{"a": "é"}', ("x", "寿司"))
    assert tflite.split(data) == (tiny_graph, '{"a": "é"}')
    assert tflite.split(tiny_graph) == (tiny_graph, None)


def test_a_foreign_zip_of_labels_is_no_contract(tiny_graph: bytes) -> None:
    file = io.BytesIO(tiny_graph)
    with zipfile.ZipFile(file, "a") as files:
        files.writestr("labels.txt", "a\nb\n")
    assert tflite.split(file.getvalue()) == (tiny_graph, None)


@pytest.mark.parametrize("size", [100, 8_000_000])
def test_a_zip_bomb_is_refused(tiny_graph: bytes, size: int) -> None:
    file = io.BytesIO(tiny_graph)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as files:
        files.writestr("edgecnn.json", " " * size)
    with pytest.raises(ModelError, match="damaged"):
        tflite.split(file.getvalue())


def changed(name: str, change: Callable[[Any, Any], None]) -> bytes:
    """A golden graph, changed through the object interface of the public schema."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel((GOLDEN / f"{name}.tflite").read_bytes(), 0))
    change(model, model.subgraphs[0])
    builder = flatbuffers.Builder(16384)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def operator(model: Any, code: int) -> Any:
    graph = model.subgraphs[0]
    number = next(i for i, c in enumerate(model.operatorCodes) if max(c.builtinCode, c.deprecatedBuiltinCode) == code)
    return next(o for o in graph.operators if o.opcodeIndex == number)


def code(model: Any, number: int) -> None:
    model.operatorCodes[0].builtinCode = number
    model.operatorCodes[0].deprecatedBuiltinCode = min(number, 127)


def output_of(model: Any, number: int) -> Any:
    return model.subgraphs[0].tensors[operator(model, number).outputs[0]]


RULES: dict[str, tuple[str, Callable[[Any, Any], object]]] = {
    "schema version": ("unknown schema version", lambda m, g: setattr(m, "version", 2)),
    "custom": ("custom or Flex operator", lambda m, g: code(m, 32)),
    "stateful": ("operator number 142, which is not among", lambda m, g: code(m, 142)),
    "two graphs": ("one graph", lambda m, g: m.subgraphs.append(g)),
    "two outputs": ("one input and one output", lambda m, g: setattr(g, "outputs", [1, 2])),
    "no input": ("one input and one output", lambda m, g: setattr(g, "inputs", [])),
    "input index": ("does not exist", lambda m, g: setattr(g, "inputs", [99])),
    "tensor index": ("does not exist", lambda m, g: setattr(operator(m, ADD), "inputs", [0, 99])),
    "code index": ("no code", lambda m, g: setattr(operator(m, ADD), "opcodeIndex", 99)),
    "missing weights": ("lacks inputs", lambda m, g: setattr(operator(m, CONV), "inputs", [8, -1, 6])),
    "missing input": ("lacks inputs", lambda m, g: setattr(operator(m, ADD), "inputs", [9])),
    "no outputs": ("overwrite", lambda m, g: setattr(operator(m, ADD), "outputs", [])),
    "in place": ("overwrite", lambda m, g: setattr(operator(m, ADD), "outputs", operator(m, ADD).inputs[:1])),
    "into a constant": ("overwrite", lambda m, g: setattr(operator(m, CONV), "outputs", [4])),
    "options of another": ("lacks its options", lambda m, g: setattr(operator(m, ADD), "builtinOptionsType", 1)),
    "no options": ("lacks its options", lambda m, g: setattr(operator(m, CONV), "builtinOptions", None)),
    "no stride": ("no stride", lambda m, g: setattr(operator(m, CONV).builtinOptions, "strideW", 0)),
    "weights elsewhere": ("outside the flatbuffer", lambda m, g: setattr(m.buffers[1], "offset", 5000)),
    "metadata index": ("metadata names no buffer", lambda m, g: setattr(m.metadata[-1], "buffer", 999)),
    "buffer index": ("without buffer", lambda m, g: setattr(g.tensors[0], "buffer", 999)),
    "negative size": ("impossible shape", lambda m, g: setattr(g.tensors[0], "shape", [1, -1, 32, 3])),
    "nine dimensions": ("impossible shape", lambda m, g: setattr(g.tensors[8], "shape", [1] * 9)),
    "huge": ("differs from its data", lambda m, g: setattr(g.tensors[8], "shape", [1, 65536, 65536, 3])),
    "shape and data": ("differs from its data", lambda m, g: setattr(g.tensors[2], "shape", [300, 3])),
    "strings": ("type that is not supported", lambda m, g: setattr(g.tensors[0], "type", 5)),
    "mixed types": ("another type", lambda m, g: setattr(output_of(m, ADD), "type", 0)),
    "another size": ("another size", lambda m, g: setattr(output_of(m, DEQUANTIZE), "shape", [2, 3])),
    "zero point": ("impossible", lambda m, g: setattr(output_of(m, ADD).quantization, "zeroPoint", [300])),
    "scale 0": ("impossible", lambda m, g: setattr(output_of(m, ADD).quantization, "scale", [0.0])),
    "scale nan": ("impossible", lambda m, g: setattr(output_of(m, ADD).quantization, "scale", [float("nan")])),
    "scale tiny": ("impossible", lambda m, g: setattr(output_of(m, ADD).quantization, "scale", [1e-40])),
    "scale misfit": ("do not fit each other", lambda m, g: setattr(output_of(m, ADD).quantization, "scale", [1e-9])),
    "two scales": ("does not fit its shape", lambda m, g: setattr(output_of(m, ADD).quantization, "scale", [1.0] * 2)),
    "no scale": ("lacks a scale", lambda m, g: setattr(output_of(m, ADD), "quantization", None)),
}


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_of_the_structure(rule: str) -> None:
    message, change = RULES[rule]
    with pytest.raises(ModelError, match=message):
        tflite.check_structure(changed("tiny-int8", lambda model, graph: change(model, graph) and None))


def test_a_split_states_its_outputs() -> None:
    def change(model: Any, graph: Any) -> None:
        operator(model, SPLIT).builtinOptions.numSplits = -6

    with pytest.raises(ModelError, match="another number of outputs"):
        tflite.check_structure(changed("operators-int8", change))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.tflite")), ids=lambda path: path.name)
def test_real_graphs_pass_and_run(path: Path) -> None:
    graph = path.read_bytes()
    tflite.check_structure(graph)
    tflite.check_structure(changed(path.stem, lambda model, _: None))
    backend = tflite.load(graph, 2, PIXELS)
    assert (backend.height, backend.width, backend.outputs) == (32, 32, 3)
    for channel, colour in enumerate(np.eye(3, dtype=np.uint8) * 220):
        output = backend.run(np.full((32, 32, 3), colour, np.uint8))
        assert (output.dtype, output.shape, int(output.argmax())) == (np.float32, (3,), channel)


def test_what_the_engine_refuses_is_one_line(tiny_float_graph: bytes) -> None:
    def channels(model: Any, graph: Any) -> None:
        graph.tensors[graph.inputs[0]].shape = [1, 32, 32, 7]

    with pytest.raises(ModelError, match=r"TFLite engine refuses the model|takes one picture of shape") as caught:
        tflite.load(changed("tiny-float32", channels), 1, PIXELS)
    assert "\n" not in str(caught.value)


def test_threads_that_load_the_first_model_together_are_silent() -> None:
    program = (
        "import sys, threading\n"
        "from edgecnn_runtime.backends import PIXELS, tflite\n"
        "from ai_edge_litert.interpreter import Interpreter\n"  # else the import of it keeps them apart
        "graph = open(sys.argv[1], 'rb').read()\n"
        "threads = [threading.Thread(target=tflite.load, args=(graph, 1, PIXELS)) for _ in range(8)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
    )
    command = [sys.executable, "-c", program, str(GOLDEN / "tiny-float32.tflite")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_pixels_become_what_the_input_wants() -> None:
    assert _pixel_table(np.uint8, (1.0, 0), PIXELS) is None
    assert _pixel_table(np.int8, (1.0, -128), PIXELS).tolist() == list(range(-128, 128))
    unit = _pixel_table(np.uint8, (1 / 255, 0), Scaling(0.0, 1.0))
    assert unit is None
    signed = _pixel_table(np.int8, (2 / 255, 0), Scaling(-1.0, 1.0))
    assert (signed.dtype, signed[0], signed[255]) == (np.int8, -128, 127)
    floats = _pixel_table(np.float32, (0.0, 0), Scaling(-1.0, 1.0))
    assert floats[[0, 255]].tolist() == [-1.0, 1.0]
    with pytest.raises(ModelError, match="without a scale"):
        _pixel_table(np.uint8, (0.0, 0), PIXELS)
    with pytest.raises(ModelError, match="type int64"):
        _pixel_table(np.int64, (0.0, 0), PIXELS)


def test_operators_outside_the_delegate_are_those_that_an_output_goes_back_to() -> None:
    def operator(index: int, name: str, inputs: list[int], outputs: list[int]) -> dict[str, Any]:
        return {"index": index, "op_name": name, "inputs": inputs, "outputs": outputs}

    chain = [
        operator(0, "QUANTIZE", [0], [1]),
        operator(1, "CONV_2D", [1], [2]),
        operator(2, "HARD_SWISH", [2], [3]),
        operator(3, "CONV_2D", [3], [4]),
        operator(4, "MEAN", [4], [5]),
    ]
    assert tflite._executed(chain) == (0, ["QUANTIZE", "CONV_2D", "HARD_SWISH", "CONV_2D", "MEAN"])
    cut = [*chain, operator(5, "DELEGATE", [1], [2]), operator(6, "DELEGATE", [3], [5])]
    assert tflite._executed(cut) == (2, ["QUANTIZE", "HARD_SWISH"])
    assert tflite._executed([*chain, operator(5, "DELEGATE", [0], [5])]) == (1, [])
