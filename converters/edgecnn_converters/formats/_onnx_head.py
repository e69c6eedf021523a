"""The dense layer at the end of an ONNX network, and how it is trained again on what it gets in 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecnn_converters.formats import Pixels
from edgecnn_converters.quantization.head import fit_head

_GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0}  # of one that is a dense layer and nothing else


def with_new_head(int8: bytes, exact: bytes, calibration: Sequence[Pixels]) -> bytes:
    """As `edgecnn_converters.formats.tflite._with_new_head`."""
    import onnx

    model, wanted = onnx.load_from_string(int8), onnx.load_from_string(exact)
    head, should = _head(model), _head(wanted)
    if head is None or should is None:
        return int8
    features, logits = _values(model, (head.features, head.logits), calibration)
    sizes = [features.shape[1], logits.shape[1]]
    if list(head.weights.dims) != (sizes[::-1] if head.outputs_first else sizes):  # it is no layer of a single place
        return int8
    change = fit_head(features, _values(wanted, (should.logits,), calibration)[0] - logits)
    if change is None:
        return int8
    for tensor, new in ((head.weights, change[0] if head.outputs_first else change[0].T), (head.bias, change[1])):
        old = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array((old + new).astype(old.dtype), tensor.name))
    return bytes(model.SerializeToString())


@dataclass(frozen=True)
class _Head:
    """The dense layer that the probabilities come from.

    Attributes:
        features, logits: names of what it takes and gives.
        weights, bias: its constants, TensorProto; weights ``(inputs, outputs)``, or the other way with `outputs_first`.
    """

    features: str
    logits: str
    weights: Any
    bias: Any
    outputs_first: bool = False


def _head(model: Any) -> _Head | None:
    """None unless its weights and bias are constants in float."""
    import onnx

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    made_by = {node.output[0]: node for node in model.graph.node}
    last = made_by.get(model.graph.output[0].name)
    while last is not None and last.op_type in ("Softmax", "Sigmoid", "Reshape", "Squeeze", "Flatten", "Identity"):
        last = made_by.get(last.input[0])
    if last is None:
        return None
    product, biases = last, list[str]()
    if last.op_type == "Add":
        product = next((made_by[name] for name in last.input if name in made_by), last)
        biases = [name for name in last.input if name in constants]
    stated = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in product.attribute}
    names = [*product.input[1:], *biases]
    if product.op_type not in ("Gemm", "MatMul") or len(names) != 2 or not {*names} <= constants.keys():
        return None
    if any(stated.get(name, usual) != usual for name, usual in _GEMM.items()):
        return None
    weights, bias = (constants[name] for name in names)
    return _Head(product.input[0], last.output[0], weights, bias, bool(stated.get("transB", 0)))


def _values(model: Any, names: Sequence[str], pictures: Sequence[Pixels]) -> list[npt.NDArray[np.float32]]:
    """Of tensors of a model what they hold, each ``(N, size)``."""
    import onnx
    import onnxruntime

    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    seen.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(seen.SerializeToString(), providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0].name
    found = [session.run(list(names), {source: pixels[np.newaxis].astype(np.float32)}) for pixels in pictures]
    return [np.stack([value.ravel() for value in values]) for values in zip(*found, strict=True)]
