"""TFLite by TensorFlow's converter."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecnn_converters.formats import Pixels, converting
from edgecnn_converters.formats._tflite_metadata import tflite_metadata
from edgecnn_converters.quantization._graph import Graph, run
from edgecnn_converters.quantization.fine_tuning import Progress, TuningError, fine_tune
from edgecnn_converters.quantization.head import fit_head
from edgecnn_converters.quantization.ranges import activation_ranges
from edgecnn_converters.quantization.repair import NONE, Prepared, Repair, prepare
from edgecnn_converters.quantization.rewrites import rewrite, sign_in_float
from edgecnn_converters.quantization.tail import nodes
from edgecnn_converters.quantization.weights import halve_weights, shorten_weights
from edgecnn_runtime.backends import PIXELS
from edgecnn_runtime.backends.tflite import check_structure, load
from edgecnn_runtime.contract import Contract
from edgecnn_runtime.errors import EdgecnnError, first_line

PRECISIONS = ("float32", "float16", "dynamic", "int8")
_RANKING_PICTURES = 16  # by which layers are ranked
_TUNED_FROM = Repair(clipped=True)


def convert(function: Any, precision: str, calibration: Sequence[Pixels], repair: Repair = NONE) -> bytes:
    """See `edgecnn_converters.formats.FormatModule.convert`. int8 takes uint8 pixels, the others float32 ones."""
    with converting(f"TFLite {precision}"):
        if isinstance(function, Prepared):
            return _int8(function, calibration, repair)
        graph = _float32(function)
        if precision == "int8":
            return _int8(prepare(graph, calibration, repair), calibration, repair)
        graph = rewrite(graph, for_int8=False)
        shorten = {"float16": halve_weights, "dynamic": shorten_weights}.get(precision)
        return graph if shorten is None else shorten(graph)


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


@functools.lru_cache(maxsize=1)  # where everything begins, ONNX too
def _float32(function: Any) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # devices lack Flex operators
    return bytes(converter.convert())


def prepare_with_ranges(function: Any, calibration: Sequence[Pixels], repair: Repair) -> Prepared:
    """The float graph as it is to be quantized, and the ranges that its activations get."""
    prepared = prepare(_float32(function), calibration, repair)
    return replace(prepared, ranges=activation_ranges(prepared.graph, calibration, repair.clipped))


def fine_tuned(
    function: Any, calibration: Sequence[Pixels], training: Sequence[Pixels], progress: Progress
) -> Prepared:
    """A network that every format makes int8 of, see `edgecnn_converters.quantization.fine_tuning`.

    It begins with `_TUNED_FROM`: from ranges up to the farthest values it learnt to do worse, and weights that were
    rounded jointly before gained nothing.

    Args:
        calibration: gives the ranges.
        training: preprocessed training pictures to learn from.

    Raises:
        TuningError: see there; the network is ONNX already; or TensorFlow cannot compute what the file does.
    """
    if isinstance(function, bytes):
        raise TuningError("the network is ONNX already")
    with converting("TFLite int8"):
        prepared = prepare_with_ranges(function, calibration, _TUNED_FROM)
    try:
        return fine_tune(prepared, training, progress)
    except EdgecnnError:
        raise
    except Exception as error:  # TensorFlow's kernels do not know all that the engine's do; the export goes on
        raise TuningError(first_line(error)) from error


def _int8(prepared: Prepared, calibration: Sequence[Pixels], repair: Repair) -> bytes:
    """Integers everywhere but in the tail. Of a softmax in 8 bits every probability below 1/512 would be 0, top classes
    would tie, and over 1,000 classes the sum fell to 0.87 once.

    In steps, since the one public call can neither take a rewritten graph nor leave an operator in float.
    """
    made = _quantize(_calibrate(prepared, calibration, repair.clipped), prepared.in_float)
    return _with_new_head(made, prepared.exact, calibration) if repair.head else made


def _calibrate(prepared: Prepared, calibration: Sequence[Pixels], clipped: bool) -> bytes:
    """The float graph, saying of every tensor the range that its 8 bits are to span."""
    own = Graph(prepared.graph)
    own.state_ranges(prepared.ranges or activation_ranges(prepared.graph, calibration, clipped))
    return own.to_bytes()


def _quantize(calibrated: bytes, in_float: Sequence[str]) -> bytes:
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    return sign_in_float(
        mlir_quantize(
            calibrated, input_data_type=tf.uint8, output_data_type=tf.float32, denylisted_nodes=list(in_float)
        )
    )


def _with_new_head(int8: bytes, exact: bytes, calibration: Sequence[Pixels]) -> bytes:
    """An int8 file whose head gives more nearly what the float file's gives; the same file where it has none in float,
    or none that would be better."""
    own = Graph(int8)
    head, wanted = own.head(), Graph(exact).head()
    if head is None or wanted is None:
        return int8
    layer, *before = head
    features, logits = _around(int8, layer, calibration)
    change = fit_head(features, _around(exact, wanted[0], calibration)[1] - logits)
    if change is None:
        return int8
    name = own.name(layer.outputs[0])
    layer.inputs = [layer.inputs[0], *(own.constant(old + new, name) for old, new in zip(before, change, strict=True))]
    return own.to_bytes()


def _around(graph: bytes, layer: Any, pictures: Sequence[Pixels]) -> list[npt.NDArray[np.float32]]:
    """What a layer takes and what it gives, ``(N, inputs)`` and ``(N, outputs)``."""
    tensors = int(layer.inputs[0]), int(layer.outputs[0])
    found = [[values(tensor).ravel() for tensor in tensors] for values in run(graph, pictures)]
    return [np.stack(rows) for rows in zip(*found, strict=True)]


def rank_layers(function: Any, calibration: Sequence[Pixels], repair: Repair) -> list[str]:
    """See `edgecnn_converters.formats.FormatModule.rank_layers`."""
    with converting("TFLite int8"):
        prepared = prepare(_float32(function), calibration, repair)
        calibrated = _calibrate(prepared, calibration, repair.clipped)
        every = nodes(prepared.graph)

        def outputs(graph: bytes) -> npt.NDArray[np.float32]:
            check_structure(graph)
            backend = load(graph, 1, PIXELS)
            return np.stack([backend.run(pixels) for pixels in calibration[:_RANKING_PICTURES]])

        exact = outputs(prepared.graph)

        def error(name: str) -> float:
            """Of the probabilities where this layer alone has 8 bits."""
            alone = _quantize(calibrated, [node.name for node in every if node.name != name])
            return float(np.abs(outputs(alone) - exact).mean())

        layers = [node.name for node in every if node.weight_bytes and node.name not in prepared.in_float]
        return sorted(layers, key=error, reverse=True)
