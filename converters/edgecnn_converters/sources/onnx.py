"""ONNX models: nodes are put before and behind the graph; the graph itself stays as it is.

Whatever the model takes, the outcome takes ``(1, height, width, 3)`` float32, as every ONNX artifact of edgecnn does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn_converters.sources import Floats, Pixels, Source, Stated, check_integer_input, count_outputs, picture_size
from edgecnn_runtime.backends import module_for
from edgecnn_runtime.backends._trial import trial
from edgecnn_runtime.errors import ModelError, first_line

_OPSET, _IR_VERSION = 17, 8  # what older models are brought to
_LEAST_OPSET = 13  # from which on weights can be quantized by the channel
_UINT8 = 2  # onnx.TensorProto.UINT8, by a module that is imported only where it is used
_MOST_BYTES = 2**31 - 1  # of one protobuf message
_QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger"}


@dataclass(frozen=True)
class _Model:
    """A float model with all of its weights, as it was made.

    Attributes:
        proto: onnx.ModelProto.
        input, output: their value_info; shape: of the input, with None for what is not fixed.
    """

    proto: Any
    input: Any
    output: Any
    shape: tuple[int | None, ...]

    @property
    def channels_first(self) -> bool:
        return self.shape[1] in (1, 3)

    @property
    def channels(self) -> int:
        return (self.shape[1] if self.channels_first else self.shape[3]) or 0


def read(path: Path, stated: Stated) -> Source:
    """See `edgecnn_converters.sources.SourceModule.read`. Weights may lie in files beside the model."""
    try:
        model = _load(path)
        size = picture_size(path, model.shape[2:] if model.channels_first else model.shape[1:3], stated.size)
        if model.input.type.tensor_type.elem_type == _UINT8:
            check_integer_input(path, stated)
        trial(_wrap(model, stated, size, None), ".onnx")
        run = _runner(model, stated)
        outputs = count_outputs(path, run, stated, size)
        return Source(*size, outputs, ("onnx",), _wrap(model, stated, size, outputs), run, stated.logits)
    except ModelError as error:
        raise ModelError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except (ValueError, TypeError) as error:  # protobuf's, of names that are no UTF-8 and of fields of another kind
        raise ModelError(f"{path}: the ONNX model is damaged; copy it again or export it again") from error


def _load(path: Path) -> _Model:
    import onnx

    module = module_for(path)
    try:
        graph, contract = module.split(path.read_bytes())
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}") from error
    if contract is not None:
        raise ModelError("is a file of edgecnn's already, with its contract inside")
    try:
        proto = onnx.load_model_from_string(graph)
    except Exception as error:  # of protobuf's, whose classes differ by version
        raise ModelError("the ONNX model is damaged; copy it again or export it again") from error
    _take_in(proto, path.parent)
    module.check_structure(proto.SerializeToString())
    proto = _renewed(proto)
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in weights]
    outputs = proto.graph.output
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(f"a classifier has one input and one output (received: {len(inputs)} and {len(outputs)})")
    sizes = inputs[0].type.tensor_type.shape.dim
    shape = tuple(size.dim_value if size.dim_value > 0 else None for size in sizes)
    if len(shape) != 4 or shape[0] not in (None, 1) or (shape[1] not in (1, 3) and shape[3] not in (1, 3)):
        raise ModelError(
            "a classifier takes one picture, (1, 3 or 1, height, width) or (1, height, width, 3 or 1) "
            f"(received: {shape})"
        )
    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.UINT8)
    if inputs[0].type.tensor_type.elem_type not in kinds:
        raise ModelError("its input is of another type than float32, float16 and uint8")
    if any(node.op_type in _QUANTIZED for node in proto.graph.node):
        raise ModelError("is quantized already; export its float version")
    return _Model(proto, inputs[0], outputs[0], shape)


def _take_in(proto: Any, folder: Path) -> None:
    """Reads weights that lie in files beside the model, as PyTorch writes them; in its folder alone."""
    from onnx import TensorProto, external_data_helper

    total = 0
    for tensor in _tensors(proto.graph):
        if not external_data_helper.uses_external_data(tensor):
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        file = Path(folder, location).resolve()
        if not location or not file.is_relative_to(folder.resolve()):
            raise ModelError(f"keeps weights outside its folder ({location!a:.100}), where they are not read")
        if not file.is_file():
            raise ModelError(f"its weights lie in {location!a:.100}, which is missing: put it beside the model")
        try:
            external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        except Exception as error:  # OSError, ValueError, and what onnx has of its own
            raise ModelError(f"its weights in {location!a:.100} cannot be read: {first_line(error)}") from error
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]
        total += len(tensor.raw_data)
        if total > _MOST_BYTES:
            raise ModelError("its weights have more than 2 GB, which one file cannot hold")


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            yield from _tensors(inner)


def _renewed(proto: Any) -> Any:
    """The model in an opset that can be quantized."""
    from onnx import version_converter

    version = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if version < _LEAST_OPSET:
        try:
            proto = version_converter.convert_version(proto, _OPSET)
        except Exception as error:  # RuntimeError, and what onnx has of its own
            raise ModelError(f"opset {version} is too old; export it again with opset {_OPSET} or newer") from error
    proto.ir_version = max(proto.ir_version, _IR_VERSION)
    return proto


def _wrap(model: _Model, stated: Stated, size: tuple[int, int], outputs: int | None) -> bytes:
    """The model from RGB 0-255 to probabilities, ``(1, outputs)``; without `outputs`, to what it gives itself."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    graph = proto.graph
    constants: list[Any] = []
    kind = model.input.type.tensor_type.elem_type

    front: list[tuple[str, list[str], dict[str, Any]]] = []
    if not stated.normalization.is_identity(model.channels):
        kernel, bias = stated.normalization.layer(model.channels)
        values = {"edgecnn_kernel": np.ascontiguousarray(kernel.T)[..., np.newaxis, np.newaxis], "edgecnn_bias": bias}
        constants += [numpy_helper.from_array(value, name) for name, value in values.items()]
        front += [("Transpose", [], {"perm": [0, 3, 1, 2]}), ("Conv", list(values), {})]
    if bool(front) != model.channels_first:
        front.append(("Transpose", [], {"perm": [0, 3, 1, 2] if model.channels_first else [0, 2, 3, 1]}))
    if kind != TensorProto.FLOAT:
        front.append(("Cast", [], {"to": kind}))
    front = front or [("Identity", [], {})]

    back: list[tuple[str, list[str], dict[str, Any]]] = []
    if outputs is not None:
        if model.output.type.tensor_type.elem_type != TensorProto.FLOAT:
            back.append(("Cast", [], {"to": TensorProto.FLOAT}))
        if len(model.output.type.tensor_type.shape.dim) != 2:
            constants.append(numpy_helper.from_array(np.array([1, outputs], np.int64), "edgecnn_shape"))
            back.append(("Reshape", ["edgecnn_shape"], {}))
        if stated.logits:
            back.append(("Sigmoid", [], {}) if outputs == 1 else ("Softmax", [], {"axis": 1}))

    def chain(steps: list[tuple[str, list[str], dict[str, Any]]], names: list[str]) -> list[Any]:
        return [
            helper.make_node(operator, [source, *others], [sink], name=f"edgecnn_{sink}", **attributes)
            for (operator, others, attributes), source, sink in zip(steps, names, names[1:], strict=False)
        ]

    before = [*(f"edgecnn_image{number or ''}" for number in range(len(front))), model.input.name]
    behind = [model.output.name, *(f"edgecnn_output{number or ''}" for number in range(len(back)))]
    body = list(graph.node)
    for number, node in enumerate(body):
        node.name = node.name or f"edgecnn_node{number}"
        node.ClearField("doc_string")
        node.ClearField("metadata_props")  # PyTorch writes the folders of the machine into it
    nodes = [*chain(front, before), *body, *chain(back, behind)]
    for field in ("node", "input", "output", "value_info", "metadata_props", "doc_string"):
        graph.ClearField(field)
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    graph.input.append(helper.make_tensor_value_info(before[0], TensorProto.FLOAT, (1, *size, 3)))
    if outputs is None:
        graph.output.append(model.output)
    else:
        graph.output.append(helper.make_tensor_value_info(behind[-1], TensorProto.FLOAT, (1, outputs)))
    return bytes(proto.SerializeToString())


def _runner(model: _Model, stated: Stated) -> Callable[[Sequence[Pixels]], Floats]:
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            model.proto.SerializeToString(), options, providers=["CPUExecutionProvider"], enable_fallback=False
        )
    except Exception as error:  # its exceptions share no base class of their own
        raise ModelError(f"the ONNX engine refuses the model: {first_line(error)}") from error
    kernel, bias = stated.normalization.layer(model.channels)
    kind = onnx.helper.tensor_dtype_to_np_dtype(model.input.type.tensor_type.elem_type)

    def one(picture: Pixels) -> Floats:
        values = (picture.astype(np.float32) @ kernel + bias).astype(kind)
        values = values.transpose(2, 0, 1) if model.channels_first else values
        (outputs,) = session.run(None, {model.input.name: values[np.newaxis]})
        return np.asarray(outputs, np.float32).reshape(-1)

    def run(pixels: Sequence[Pixels]) -> Floats:
        try:
            return np.stack([one(picture) for picture in pixels])
        except Exception as error:
            raise ModelError(f"the ONNX engine failed: {first_line(error)}") from error

    return run
