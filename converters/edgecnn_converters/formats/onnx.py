"""ONNX by tf2onnx, from the float TFLite graph, whose batch normalization is folded already; int8 by ONNX Runtime."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn_converters.formats import Pixels, converting, summary, tflite
from edgecnn_converters.formats._onnx_head import with_new_head
from edgecnn_converters.quantization._graph import Graph
from edgecnn_converters.quantization.repair import NONE, Prepared, Repair, prepare
from edgecnn_converters.quantization.tail import Node, float_tail
from edgecnn_runtime.contract import Contract

PRECISIONS = ("float32", "float16", "int8")
OPSET = 17  # the oldest that has every operator used here, so that older ONNX Runtimes load the file too
_FEWEST_SHORTENED = 64  # values of a constant; a cast costs as much room as it saves in smaller ones


def convert(function: Any, precision: str, calibration: Sequence[Pixels], repair: Repair = NONE) -> bytes:
    """See `edgecnn_converters.formats.FormatModule.convert`. Every precision takes float32 pixels.

    Args:
        function: or a float model that is ONNX already, its bytes: `edgecnn_converters.sources.onnx`.
    """
    with converting(f"ONNX {precision}"):
        if precision != "int8":
            graph = function if isinstance(function, bytes) else _float32(tflite.convert(function, "float32", ()))
            return _float16(graph) if precision == "float16" else graph
        if isinstance(function, bytes):
            made, exact = _int8(function, calibration, repair, {}), function
        else:
            prepared = _prepared(function, calibration, repair)
            made = _int8(_float32(prepared.graph), calibration, repair, prepared.ranges)
            exact = _float32(prepared.exact) if repair.head else b""
        return with_new_head(made, exact, calibration) if repair.head else made


def _prepared(function: Any, calibration: Sequence[Pixels], repair: Repair) -> Prepared:
    if isinstance(function, Prepared):
        return function
    if repair.clipped:
        return tflite.prepare_with_ranges(function, calibration, repair)
    return prepare(tflite.convert(function, "float32", ()), calibration, repair)


def rank_layers(function: Any, calibration: Sequence[Pixels], repair: Repair) -> list[str]:
    """None: ONNX Runtime (1.31) rounds the weights of a convolution that stands in float between others in 8 bits when
    it loads the file, with one scale for all of them (its WeightBiasQuantization), which is worse than before."""
    return []


def add_metadata(graph: bytes, contract: Contract) -> bytes:
    """See `edgecnn_converters.formats.FormatModule.add_metadata`. The keys are those that ONNX defines
    (https://onnx.ai/onnx/repo-docs/IR.html and MetadataProps.html) and, where it defines none, similar ones: name,
    version, and labels, one a line."""
    import onnx

    stated = contract.provenance.publication
    properties = {
        "Image.BitmapPixelFormat": "Rgb8",
        "Image.ColorSpaceGamma": "SRGB",
        "Image.NominalPixelRange": "NominalRange_0_255",
        "model_author": stated.author,
        "model_license": stated.license,
        "model_name": contract.provenance.backbone,
        "model_version": stated.version,
        "labels": "\n".join(contract.labels),
    }
    model = onnx.load_from_string(graph)
    model.doc_string = summary(contract)
    for key, value in properties.items():
        if value:
            model.metadata_props.add(key=key, value=value)
    return bytes(model.SerializeToString())


def _float32(graph: bytes) -> bytes:
    """A float TFLite file as ONNX."""
    import onnx
    import tf2onnx

    # tf2onnx moves transpositions out of the way through an ELU, but not through a hard-swish.
    own = Graph(graph)
    stands_in = not own.has("ELU")
    if stands_in:
        own.rename("HARD_SWISH", "ELU")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tflite")
        path.write_bytes(own.to_bytes())
        model, _ = tf2onnx.convert.from_tflite(str(path), opset=OPSET, custom_op_handlers={"TFL_GELU": (_gelu, [])})
        for node in model.graph.node:
            if stands_in and node.op_type == "Elu":
                node.op_type = "HardSwish"
                del node.attribute[:]
        _turn_weights(model)
        onnx.checker.check_model(model)  # tf2onnx keeps operators that it does not know as they are
    return bytes(model.SerializeToString())


def _turn_weights(model: Any) -> None:
    """Dense layers that read a flattened map take it as it lies, channels first: their weights are turned about, once,
    instead of the map in every inference."""
    import onnx

    graph = model.graph
    known = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }

    def readers(node: Any) -> list[Any]:
        return [other for other in graph.node if node.output[0] in other.input]

    for turn in [node for node in graph.node if node.op_type == "Transpose"]:
        flats, shape = readers(turn), shapes.get(turn.input[0], [])
        layers = readers(flats[0]) if [flat.op_type for flat in flats] == ["Reshape"] else []
        dense = [
            layer
            for layer in layers
            if layer.op_type in ("Gemm", "MatMul")
            and layer.input[1] in known
            and not any(stated.name == "transB" and stated.i for stated in layer.attribute)
        ]
        weights = [known[layer.input[1]] for layer in dense]
        if (
            not layers
            or dense != layers
            or list(turn.attribute[0].ints) != [0, 2, 3, 1]
            or any(tensor.dims[0] != math.prod(shape) for tensor in weights)
        ):
            continue
        channels, height, width = shape[1:]
        for layer, tensor in zip(dense, weights, strict=True):
            old = onnx.numpy_helper.to_array(tensor).reshape(height, width, channels, -1)
            new = np.ascontiguousarray(old.transpose(2, 0, 1, 3).reshape(*tensor.dims))
            layer.input[1] = f"{layer.output[0]}/weights"
            graph.initializer.append(onnx.numpy_helper.from_array(new, layer.input[1]))
        flats[0].input[0] = turn.input[0]
        graph.node.remove(turn)
    read = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)


def _float16(graph: bytes) -> bytes:
    """Weights in 16 bits, which the engine turns into 32 once, when it loads the file: half the size, the same speed,
    as processors for small boards have few operators that compute in 16 bits. As TFLite's float16 is."""
    import onnx

    model = onnx.load_from_string(graph)
    limits = np.finfo(np.float16)
    casts = []
    for weights in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype != np.float32 or values.size < _FEWEST_SHORTENED or np.abs(values).max() > limits.max:
            continue
        name, short = weights.name, f"{weights.name}/float16"
        weights.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), short))
        casts.append(onnx.helper.make_node("Cast", [short], [name], name=f"{name}/float32", to=onnx.TensorProto.FLOAT))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _gelu(graph: Any, node: Any, name: str, arguments: Any) -> None:
    """x / 2 * (1 + erf(x / sqrt(2))), https://arxiv.org/abs/1606.08415: TFLite has one operator for it, ONNX has one
    only from opset 20 on."""
    if node.get_attr_value("approximate"):
        raise ValueError("GELU by tanh is not supported; use the exact one")
    (x,) = node.input

    def constant(value: float) -> str:
        return str(graph.make_const(f"{name}_{value:.1f}", np.array(value, np.float32)).output[0])

    scaled = graph.make_node("Mul", [x, constant(0.5**0.5)]).output[0]
    error = graph.make_node("Erf", [scaled]).output[0]
    factor = graph.make_node("Add", [error, constant(1.0)]).output[0]
    half = graph.make_node("Mul", [x, constant(0.5)]).output[0]
    shape, kind = graph.get_shape(node.output[0]), graph.get_dtype(node.output[0])
    graph.remove_node(node.name)
    graph.make_node("Mul", [half, factor], name=name, outputs=node.output, shapes=[shape], dtypes=[kind])


def _int8(
    graph: bytes, calibration: Sequence[Pixels], repair: Repair, ranges: Mapping[str, tuple[float, float]]
) -> bytes:
    """QDQ with uint8 activations: with int8 ones ONNX Runtime is several times slower on x86-64. The tail stays in
    float. Activations in `ranges` get those, the others what calibration says."""
    import onnx
    from onnxruntime import quantization

    model = onnx.load_from_string(graph)
    name = model.graph.input[0].name
    methods = quantization.CalibrationMethod

    class Pictures(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._inputs = ({name: pixels[np.newaxis].astype(np.float32)} for pixels in calibration)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._inputs, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared, quantized = Path(folder, "prepared.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, prepared)
        quantization.quant_pre_process(str(prepared), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(quantized),
            Pictures(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=float_tail(_nodes(onnx.load(prepared))),
            calibrate_method=methods.Percentile if repair.clipped and not ranges else methods.MinMax,
            extra_options={"TensorQuantOverrides": _overrides(onnx.load(prepared), ranges)},
        )
        return quantized.read_bytes()


def _overrides(model: Any, ranges: Mapping[str, tuple[float, float]]) -> dict[str, list[dict[str, Any]]]:
    """Ranges as ONNX Runtime's quantizer takes them. An activation that TFLite fuses into its layer has its own name
    here."""
    found = {}
    for node in model.graph.node:
        fused = ranges.get(node.input[0]) if node.op_type in ("Relu", "Clip") else None
        low, high = ranges.get(node.output[0]) or fused or (0.0, 0.0)
        if high > low:
            found[node.output[0]] = [{"rmin": np.float32(low), "rmax": np.float32(high)}]
    return found


def _nodes(model: Any) -> list[Node]:
    import onnx

    sizes = {weights.name: int(np.prod(weights.dims)) * 4 for weights in model.graph.initializer}
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*onnx.shape_inference.infer_shapes(model).graph.value_info, *model.graph.output)
    }
    return [
        Node(
            node.name, node.input, node.output, shapes.get(node.output[0], ()),
            sum(sizes.get(name, 0) for name in node.input),
        )
        for node in model.graph.node
    ]  # fmt: skip
