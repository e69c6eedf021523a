"""Bias correction: rounded weights shift the mean of what they compute, and a bias can shift it back.

A depthwise kernel of nine weights may be large and nearly cancel; the mean input times the sum of nine roundings is
then no noise, but the same error in every picture: in EfficientNet-Lite0 the first such layer alone made half of what
int8 cost. See Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2,
with means that are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecnn_converters.quantization._graph import Graph

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

PICTURES = 16  # the mean over these and over all places is exact enough
_STEPS = 127  # of a weight's absolute value


def correct_bias(graph: bytes, calibration: Sequence[Pixels]) -> bytes:
    """The float graph with biases that make up for 8-bit weights with a scale for each output channel.

    Args:
        graph: a float32 TFLite file.
        calibration: preprocessed training pictures, of which the first `PICTURES` are looked at.
    """
    own = Graph(graph)
    weighted = [(operator, _weights(own, operator)) for operator in own.graph.operators]
    found = [(operator, weights) for operator, weights in weighted if weights is not None]
    for (operator, weights), inputs in zip(found, _mean_inputs(own, graph, found, calibration), strict=True):
        depthwise = own.kind(operator) == "DEPTHWISE_CONV_2D"
        error = weights - rounded(weights, depthwise)
        if depthwise:
            shift = (error[0] * np.repeat(inputs, weights.shape[-1] // inputs.shape[-1], -1)).sum((0, 1))
        else:
            shift = error.reshape(len(error), -1) @ inputs.ravel()
        bias = operator.inputs[2] if len(operator.inputs) > 2 and operator.inputs[2] >= 0 else None
        old = None if bias is None else own.array(bias)
        corrected = own.constant(shift if old is None else old + shift, own.name(operator.outputs[0]) + "/bias")
        operator.inputs = [*operator.inputs[:2], corrected]
    return own.to_bytes()


def rounded(weights: Floats, depthwise: bool) -> Floats:
    """Weights as 8 bits hold them: ``(out, height, width, in)``, ``(out, in)``, or ``(1, height, width, out)`` of a
    depthwise convolution."""
    others = tuple(range(weights.ndim - 1)) if depthwise else tuple(range(1, weights.ndim))
    scale = np.maximum(np.abs(weights).max(others, keepdims=True) / _STEPS, np.finfo(np.float32).tiny)
    return np.asarray(np.rint(weights / scale) * scale, np.float32)


def _weights(graph: Graph, operator: Any) -> Floats | None:
    if graph.kind(operator) not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return None
    return graph.array(operator.inputs[1])


def _mean_inputs(
    graph: Graph, content: bytes, found: Sequence[tuple[Any, Floats]], calibration: Sequence[Pixels]
) -> list[Floats]:
    """What each weight of each operator meets on average: ``(height, width, in)``, or ``(in,)`` of a dense layer."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content,
        num_threads=2,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    sums: list[Any] = [0.0] * len(found)
    chosen = calibration[:PICTURES]
    for pixels in chosen:
        interpreter.set_tensor(source, pixels[np.newaxis].astype(np.float32))
        interpreter.invoke()
        for number, (operator, weights) in enumerate(found):
            sums[number] += _mean_input(interpreter.get_tensor(operator.inputs[0]), operator, weights)
    return [np.asarray(total / len(chosen), np.float32) for total in sums]


def _mean_input(x: Floats, operator: Any, weights: Floats) -> Floats:
    if weights.ndim == 2:
        return np.asarray(x.reshape(-1, weights.shape[1]).mean(0))
    options = operator.builtinOptions
    rows, columns = weights.shape[1:3]
    strides, dilations = (options.strideH, options.strideW), (options.dilationHFactor, options.dilationWFactor)
    reach = [(size - 1) * dilation + 1 for size, dilation in zip((rows, columns), dilations, strict=True)]
    places = [-(-side // stride) for side, stride in zip(x.shape[1:3], strides, strict=True)]
    if options.padding == 0:  # SAME, as TensorFlow has it: the odd row and column at the end
        gaps = [
            max((count - 1) * stride + size - side, 0)
            for count, stride, size, side in zip(places, strides, reach, x.shape[1:3], strict=True)
        ]
        x = np.pad(x, ((0, 0), *((gap // 2, gap - gap // 2) for gap in gaps), (0, 0)))
    ends = [side - size + 1 for side, size in zip(x.shape[1:3], reach, strict=True)]
    means = [
        x[0, row : row + ends[0] : strides[0], column : column + ends[1] : strides[1]].mean((0, 1))
        for row in range(0, reach[0], dilations[0])
        for column in range(0, reach[1], dilations[1])
    ]
    return np.stack(means).reshape(rows, columns, -1)
