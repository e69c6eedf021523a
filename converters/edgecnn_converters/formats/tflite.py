"""TFLite by TensorFlow's converter."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgecnn_converters.formats import Pixels
from edgecnn_runtime.errors import EdgecnnError
from edgecnn_runtime.quiet import quiet

PRECISIONS = ("float32", "float16", "dynamic", "int8")


def convert(function: Any, precision: str, calibration: Sequence[Pixels]) -> bytes:
    """See `edgecnn_converters.formats.FormatModule.convert`. int8 takes uint8 pixels, the others float32 ones."""
    import tensorflow as tf

    try:
        with quiet():
            if precision == "float32":
                return _float32(function)
            converter = _converter(function)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if precision == "float16":
                converter.target_spec.supported_types = [tf.float16]
            if precision == "int8":
                return _int8(converter, calibration, _last_operator(function))
            return bytes(converter.convert())
    except Exception as error:  # its exceptions share no base class
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EdgecnnError(f"TFLite {precision}: the converter failed: {reason[:300]}") from error


def _converter(function: Any) -> Any:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # devices lack Flex operators
    return converter


@functools.lru_cache(maxsize=1)  # ONNX begins where this ends
def _float32(function: Any) -> bytes:
    return bytes(_converter(function).convert())


def _last_operator(function: Any) -> str:
    operator = function.outputs[0].op
    while operator.type == "Identity":
        operator = operator.inputs[0].op
    return {"Softmax": "SOFTMAX", "Sigmoid": "LOGISTIC"}.get(operator.type, "")


def _int8(converter: Any, calibration: Sequence[Pixels], last: str) -> bytes:
    """Integers everywhere but in the softmax or sigmoid at the end, which costs microseconds: with 8 bits every
    probability below 1/512 would be 0, top classes would tie, and over 1,000 classes the sum fell to 0.87 once."""
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    converter.representative_dataset = lambda: ([pixels[np.newaxis].astype(np.float32)] for pixels in calibration)
    converter._experimental_calibrate_only = True  # the public call cannot leave an operator in float
    calibrated = _with_pixel_range(converter.convert())
    return bytes(
        mlir_quantize(
            calibrated, input_data_type=tf.uint8, output_data_type=tf.float32, denylisted_ops=[last] if last else None
        )
    )


def _with_pixel_range(calibrated: bytes) -> bytes:
    """States that the input runs from 0 to 255, so that its scale is 1 and its zero point 0: where no calibration
    picture has white in it, brighter pixels than it has would be clipped."""
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(calibrated)
    graph = model.subgraphs[0]
    limits = graph.tensors[graph.inputs[0]].quantization
    limits.min, limits.max = [0.0], [255.0]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
