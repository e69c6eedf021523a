"""TFLite by TensorFlow's converter."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgecnn_converters.formats import Pixels
from edgecnn_converters.formats._tflite_metadata import tflite_metadata
from edgecnn_converters.quantization.bias import correct_bias
from edgecnn_converters.quantization.rewrites import rewrite
from edgecnn_converters.quantization.tail import Node, float_tail
from edgecnn_runtime.contract import Contract
from edgecnn_runtime.errors import EdgecnnError, first_line
from edgecnn_runtime.quiet import quiet

PRECISIONS = ("float32", "float16", "dynamic", "int8")


def convert(function: Any, precision: str, calibration: Sequence[Pixels]) -> bytes:
    """See `edgecnn_converters.formats.FormatModule.convert`. int8 takes uint8 pixels, the others float32 ones."""
    import tensorflow as tf

    try:
        with quiet():
            if precision == "float32":
                return rewrite(_float32(function), for_int8=False)
            if precision == "int8":
                return _int8(_float32(function), calibration)
            converter = _converter(function)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if precision == "float16":
                converter.target_spec.supported_types = [tf.float16]
            return bytes(converter.convert())
    except Exception as error:  # its exceptions share no base class
        raise EdgecnnError(f"TFLite {precision}: the converter failed: {first_line(error)}") from error


def add_metadata(graph: bytes, contract: Contract) -> bytes:
    """See `edgecnn_converters.formats.FormatModule.add_metadata`."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(graph)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(tflite_metadata(contract), np.uint8)
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _converter(function: Any) -> Any:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # devices lack Flex operators
    return converter


@functools.lru_cache(maxsize=1)  # where int8 and ONNX begin
def _float32(function: Any) -> bytes:
    return bytes(_converter(function).convert())


def _int8(graph: bytes, calibration: Sequence[Pixels]) -> bytes:
    """Integers everywhere but in the tail. Of a softmax in 8 bits every probability below 1/512 would be 0, top classes
    would tie, and over 1,000 classes the sum fell to 0.87 once.

    In steps, since the one public call can neither take a rewritten graph nor leave an operator in float.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    rewritten = rewrite(graph, for_int8=True)
    in_float = float_tail(_nodes(rewritten))
    rewritten = correct_bias(rewritten, calibration, in_float)
    calibrated = Calibrator(rewritten).calibrate(
        lambda: ([pixels[np.newaxis].astype(np.float32)] for pixels in calibration)
    )
    return bytes(
        mlir_quantize(
            _with_pixel_range(calibrated),
            input_data_type=tf.uint8,
            output_data_type=tf.float32,
            denylisted_nodes=in_float,
        )
    )


def _nodes(graph: bytes) -> list[Node]:
    """The quantizer calls an operator by the name of what it puts out."""
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(graph)
    tensors = model.subgraphs[0].tensors
    sizes = [0 if (data := model.buffers[tensor.buffer].data) is None else len(data) for tensor in tensors]
    return [
        Node(
            name=tensors[operator.outputs[0]].name.decode(),
            inputs=[str(tensor) for tensor in operator.inputs if tensor >= 0],
            outputs=[str(tensor) for tensor in operator.outputs],
            shape=tensors[operator.outputs[0]].shape,
            weight_bytes=sum(sizes[tensor] for tensor in operator.inputs if tensor >= 0),
        )
        for operator in model.subgraphs[0].operators
    ]


def _with_pixel_range(calibrated: bytes) -> bytes:
    """States that the input runs from 0 to 255, so that its scale is 1 and its zero point 0: where no calibration
    picture has white in it, brighter pixels than it has would be clipped."""
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(calibrated)
    graph = model.subgraphs[0]
    limits = graph.tensors[graph.inputs[0]].quantization
    limits.min, limits.max = [0.0], [255.0]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
