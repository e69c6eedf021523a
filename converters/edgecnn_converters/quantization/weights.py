"""Weights in 16 or 8 bits, activations in float: half or about a quarter of the size, without calibration.

The delegate computes 8-bit convolutions and dense layers in 8 bits too, with a scale for each input as it comes, which
is faster than float. Not so depthwise ones: TensorFlow's converter shortens their weights as well, and each then cuts
the graph in two and runs outside the delegate, where EfficientNet-Lite0 took twice as long as in float. They have few
weights and stay as they are; so does the tail, as in int8.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgecnn_converters.quantization._graph import Graph
from edgecnn_converters.quantization.tail import float_tail, nodes

# Of the operators with 8-bit weights: convolutions have a scale for each output channel, dense layers one for all,
# since tflite-runtime 2.14 knows no others. The delegate is as fast with either.
_VERSIONS = {"CONV_2D": 5, "FULLY_CONNECTED": 9}
_FEWEST = 1024  # weights of a layer, as TensorFlow's converter has it
_STEPS = 127  # of a weight's absolute value
_FEWEST_HALVED = 64  # values
_FLOAT16_VERSION = 3  # of the operator that makes 32 bits of 16


def shorten_weights(graph: bytes) -> bytes:
    """A float32 TFLite file with the weights of its convolutions and dense layers in 8 bits."""
    own, tail = Graph(graph), set(float_tail(nodes(graph)))
    for operator in own.graph.operators:
        kind, weights = own.kind(operator), None
        if kind in _VERSIONS and own.name(operator.outputs[0]) not in tail:
            weights = own.array(operator.inputs[1])
        if weights is None or weights.size < _FEWEST:
            continue
        rows = weights.reshape(len(weights), -1)
        most = np.abs(rows).max(1) if kind == "CONV_2D" else np.abs(rows).max().reshape(1)
        scale = np.maximum(most / _STEPS, np.finfo(np.float32).tiny).astype(np.float32)
        short = np.rint(rows / scale[:, np.newaxis]).astype(np.int8).reshape(weights.shape)
        operator.inputs = [
            operator.inputs[0],
            own.int8_constant(short, scale, own.name(operator.inputs[1])),
            *operator.inputs[2:],
        ]
        own.model.operatorCodes[operator.opcodeIndex].version = _VERSIONS[kind]
        if kind == "FULLY_CONNECTED":
            operator.builtinOptions.asymmetricQuantizeInputs = True
    return own.to_bytes()


def halve_weights(graph: bytes) -> bytes:
    """A float32 TFLite file with its constants in 16 bits, which the engine turns into 32 when it loads the file."""
    own = Graph(graph)
    operators = own.graph.operators
    halved: dict[int, int] = {}  # a constant of the old file -> the same in 32 bits
    made = []
    for operator in operators:
        for tensor in operator.inputs:
            values = own.array(tensor)
            if tensor not in halved and values is not None and _fits(values):
                half = own.float16_constant(values.astype(np.float16), own.name(tensor))
                halved[tensor] = own.tensor_like(tensor, "/float32")
                made.append(own.make_operator("DEQUANTIZE", [half], halved[tensor]))
                own.model.operatorCodes[made[-1].opcodeIndex].version = _FLOAT16_VERSION
        operator.inputs = [halved.get(tensor, tensor) for tensor in operator.inputs]
    own.graph.operators = [*made, *operators]
    return own.to_bytes()


def _fits(values: npt.NDArray[np.generic]) -> bool:
    """Whether a constant is worth an operator more, and no value of it is beyond what 16 bits hold."""
    few = values.dtype != np.float32 or values.size < _FEWEST_HALVED
    return not few and bool(np.abs(values).max() <= np.finfo(np.float16).max)
