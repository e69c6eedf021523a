"""ONNX by tf2onnx, from the float TFLite graph, whose batch normalization is folded already; int8 by ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn_converters.formats import Pixels, tflite
from edgecnn_runtime.errors import EdgecnnError
from edgecnn_runtime.quiet import quiet

PRECISIONS = ("float32", "int8")
OPSET = 17  # the oldest that has every operator used here, so that older ONNX Runtimes load the file too


def convert(function: Any, precision: str, calibration: Sequence[Pixels]) -> bytes:
    """See `edgecnn_converters.formats.FormatModule.convert`. Every precision takes float32 pixels."""
    graph = tflite.convert(function, "float32", ())
    try:
        with quiet():
            model = _from_tflite(graph)
            return bytes((_int8(model, calibration) if precision == "int8" else model).SerializeToString())
    except Exception as error:  # tf2onnx and the quantizer raise what they like
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EdgecnnError(f"ONNX {precision}: the converter failed: {reason[:300]}") from error


def _from_tflite(graph: bytes) -> Any:
    import tf2onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tflite")
        path.write_bytes(graph)
        model, _ = tf2onnx.convert.from_tflite(str(path), opset=OPSET)
    return model


def _int8(model: Any, calibration: Sequence[Pixels]) -> Any:
    """QDQ with uint8 activations: with int8 ones ONNX Runtime is several times slower on x86-64.
    The softmax stays in float; see `tflite`.
    """
    import onnx
    from onnxruntime import quantization

    name = model.graph.input[0].name

    class Pictures(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._inputs = ({name: pixels[np.newaxis].astype(np.float32)} for pixels in calibration)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._inputs, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared, quantized = Path(folder, "prepared.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, prepared)
        quantization.quant_pre_process(str(prepared), str(prepared), skip_symbolic_shape=True)
        floating = [node.name for node in onnx.load(prepared).graph.node if node.op_type in ("Softmax", "Sigmoid")][-1:]
        quantization.quantize_static(
            str(prepared),
            str(quantized),
            Pictures(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=floating,
            # The input's range is known; see `tflite`.
            extra_options={"TensorQuantOverrides": {name: [{"rmin": np.float32(0), "rmax": np.float32(255)}]}},
        )
        return onnx.load(quantized)
