"""TFLite by TensorFlow's converter."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgecnn_converters.formats import RANKING_PICTURES, Pixels, answers
from edgecnn_converters.formats._tflite_metadata import tflite_metadata
from edgecnn_converters.quantization._graph import Graph, run
from edgecnn_converters.quantization.ranges import PICTURES, Histogram
from edgecnn_converters.quantization.repair import NONE, Repair, prepare
from edgecnn_converters.quantization.rewrites import rewrite
from edgecnn_converters.quantization.tail import nodes
from edgecnn_converters.quantization.weights import shorten_weights
from edgecnn_runtime.backends import PIXELS, Backend
from edgecnn_runtime.backends.tflite import check_structure, load
from edgecnn_runtime.contract import Contract
from edgecnn_runtime.errors import EdgecnnError, first_line
from edgecnn_runtime.quiet import quiet

PRECISIONS = ("float32", "float16", "dynamic", "int8")


def convert(function: Any, precision: str, calibration: Sequence[Pixels], repair: Repair = NONE) -> bytes:
    """See `edgecnn_converters.formats.FormatModule.convert`. int8 takes uint8 pixels, the others float32 ones."""
    import tensorflow as tf

    try:
        with quiet():
            if precision == "float32":
                return rewrite(_float32(function), for_int8=False)
            if precision == "dynamic":
                return shorten_weights(rewrite(_float32(function), for_int8=False))
            if precision == "int8":
                return _int8(_float32(function), calibration, repair)
            converter = _converter(function)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
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


def _int8(graph: bytes, calibration: Sequence[Pixels], repair: Repair) -> bytes:
    """Integers everywhere but in the tail. Of a softmax in 8 bits every probability below 1/512 would be 0, top classes
    would tie, and over 1,000 classes the sum fell to 0.87 once.

    In steps, since the one public call can neither take a rewritten graph nor leave an operator in float.
    """
    prepared, in_float = prepare(graph, calibration, repair)
    return _quantize(_calibrate(prepared, calibration, repair.least_error), in_float)


def _calibrate(graph: bytes, calibration: Sequence[Pixels], least_error: bool) -> bytes:
    """A float graph that states the range of every tensor."""
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    calibrated = Calibrator(graph).calibrate(
        lambda: ([pixels[np.newaxis].astype(np.float32)] for pixels in calibration)
    )
    return _with_ranges(calibrated, calibration if least_error else ())


def _quantize(calibrated: bytes, in_float: Sequence[str]) -> bytes:
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    return bytes(
        mlir_quantize(
            calibrated, input_data_type=tf.uint8, output_data_type=tf.float32, denylisted_nodes=list(in_float)
        )
    )


def _load(graph: bytes) -> Backend:
    check_structure(graph)
    return load(graph, 1, PIXELS)


def rank_layers(function: Any, calibration: Sequence[Pixels], repair: Repair) -> list[str]:
    """See `edgecnn_converters.formats.FormatModule.rank_layers`."""
    with quiet():
        prepared, in_float = prepare(_float32(function), calibration, repair)
        calibrated = _calibrate(prepared, calibration, repair.least_error)
        every = nodes(prepared)
        chosen = calibration[:RANKING_PICTURES]
        exact = answers(_load(prepared), chosen)

        def error(name: str) -> float:
            """Of the probabilities where this layer alone has 8 bits."""
            alone = _quantize(calibrated, [node.name for node in every if node.name != name])
            return float(np.abs(answers(_load(alone), chosen) - exact).mean())

        layers = [node.name for node in every if node.weight_bytes and node.name not in in_float]
        return sorted(layers, key=error, reverse=True)


def _with_ranges(calibrated: bytes, pictures: Sequence[Pixels]) -> bytes:
    """With the input's range from 0 to 255, so that its scale is 1 and its zero point 0: where no calibration picture
    has white in it, brighter pixels than it has would be clipped. With pictures, the other ranges become those of the
    least error on them."""
    own = Graph(calibrated)
    limits = own.graph.tensors[own.graph.inputs[0]].quantization
    limits.min, limits.max = [0.0], [255.0]
    known = {
        int(tensor): stated
        for operator in own.graph.operators
        for tensor in operator.outputs
        if (stated := own.graph.tensors[tensor].quantization) is not None and stated.min is not None and len(stated.min)
    }
    histograms = {tensor: Histogram(float(stated.min[0]), float(stated.max[0])) for tensor, stated in known.items()}
    for values in run(calibrated, pictures[:PICTURES]):
        for tensor, histogram in histograms.items():
            histogram.see(values(tensor))
    for tensor, histogram in histograms.items() if pictures else ():
        low, high = histogram.least_error_range()
        known[tensor].min, known[tensor].max = [low], [high]
    return own.to_bytes()
