"""Equalization across layers: channels of an activation that differ less, so that one scale of 8 bits suits them all.

An output channel of a layer is divided by a factor, and the weights that read it are multiplied by the same. That keeps
the function, since what may stand between them, a ReLU above all, keeps a positive factor. See Nagel et al. 2019,
"Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1; for ranges of activations that
are measured, Xiao et al. 2023, "SmoothQuant", section 4, with half of the difference moved into the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecnn_converters.quantization._graph import WEIGHTED, Graph, run

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

_LEAST = 1e-3  # of the largest factor, and of a row's largest weight


def equalize(graph: bytes, calibration: Sequence[Pixels]) -> bytes:
    """The same function, up to rounding. A layer that a sum, a product or a clipping (ReLU6) reads stays as it is.

    Args:
        graph: a float32 TFLite file.
        calibration: preprocessed training pictures.
    """
    own = Graph(graph)
    found = [(layer, readers) for layer in own.graph.operators if (readers := _readers(own, layer))]
    largest = {int(layer.outputs[0]): np.zeros(1, np.float32) for layer, _ in found}
    for values in run(graph, calibration) if found else ():
        for tensor, before in largest.items():
            absolute = np.abs(values(tensor))
            largest[tensor] = np.maximum(before, absolute.reshape(-1, absolute.shape[-1]).max(0))
    for layer, readers in found:
        factor = _factor(largest[int(layer.outputs[0])], [_share(own, reader) for reader in readers])
        outputs_last = own.kind(layer) == "DEPTHWISE_CONV_2D"
        layer.inputs = [
            layer.inputs[0],
            *(_multiplied(own, one, np.reciprocal(factor), outputs_last) for one in layer.inputs[1:]),
        ]
        for reader in readers:
            times = own.shape(reader.inputs[1])[-1] // len(factor)  # 1, but of a depthwise layer's multiplier
            weights = _multiplied(own, reader.inputs[1], np.repeat(factor, times), True)
            reader.inputs = [reader.inputs[0], weights, *reader.inputs[2:]]
    return own.to_bytes()


def _multiplied(graph: Graph, tensor: int, factor: Floats, last: bool) -> int:
    """A constant whose last axis, or first one, is multiplied by a factor for each place; nothing where there is none
    (of a bias)."""
    values = graph.array(tensor)
    if values is None:
        return tensor
    shaped = factor if last else factor.reshape(-1, *[1] * (values.ndim - 1))
    return graph.constant(values * shaped, graph.name(tensor))


def _readers(graph: Graph, layer: Any) -> list[Any]:
    """The layers that read this one's output, directly or after what keeps a factor; none where anything else does."""
    if not _has_weights(graph, layer) or graph.activation(layer) not in ("NONE", "RELU"):
        return []
    channels, found, tensors = graph.shape(layer.outputs[0])[-1], [], [int(layer.outputs[0])]
    for tensor in tensors:  # which grow
        if tensor in graph.graph.outputs:
            return []
        for operator in graph.graph.operators:
            if tensor not in operator.inputs:
                continue
            if _has_weights(graph, operator) and operator.inputs[0] == tensor and _takes(graph, operator, channels):
                found.append(operator)
            elif _keeps_a_factor(graph, operator):
                tensors.append(int(operator.outputs[0]))
            else:
                return []
    return found


def _has_weights(graph: Graph, operator: Any) -> bool:
    return graph.kind(operator) in WEIGHTED and graph.array(operator.inputs[1]) is not None


def _takes(graph: Graph, reader: Any, channels: int) -> bool:
    """Whether the last axis of its weights is that of the channels: not in groups, nor of a flattened map."""
    inputs = graph.shape(reader.inputs[1])[-1]
    return inputs % channels == 0 if graph.kind(reader) == "DEPTHWISE_CONV_2D" else inputs == channels


def _keeps_a_factor(graph: Graph, operator: Any) -> bool:
    """Of each channel its own."""
    kind = graph.kind(operator)
    if kind == "MEAN":
        axes, rank = graph.array(operator.inputs[1]), len(graph.shape(operator.inputs[0]))
        return axes is not None and not (axes.ravel() % rank == rank - 1).any()
    if kind in ("RESHAPE", "PAD"):
        return graph.shape(operator.inputs[0])[-1:] == graph.shape(operator.outputs[0])[-1:]
    if kind in ("MAX_POOL_2D", "AVERAGE_POOL_2D"):
        return graph.activation(operator) in ("NONE", "RELU")
    return kind == "RELU"


def _share(graph: Graph, reader: Any) -> Floats | None:
    """Of a row's largest weight, the most that a channel has in any row, ``(channels,)``: as much may be lost where
    its weights shrink. None of a depthwise layer, where each channel has a scale of its own."""
    weights = graph.array(reader.inputs[1])
    assert weights is not None
    if graph.kind(reader) == "DEPTHWISE_CONV_2D":
        return None
    rows = np.abs(weights).reshape(len(weights), -1, weights.shape[-1]).max(1)
    return np.asarray((rows / np.maximum(rows.max(1, keepdims=True), np.finfo(np.float32).tiny)).max(0))


def _factor(largest: Floats, shares: Sequence[Floats | None]) -> Floats:
    """Of each channel, at most 1. One that calibration saw nothing of keeps its weights."""
    if not np.isfinite(largest).all():
        return np.ones_like(largest)
    known = [share for share in shares if share is not None]
    factor = np.sqrt(largest / np.maximum(np.stack(known).max(0), _LEAST)) if known else largest
    most = max(float(factor.max()), float(np.finfo(np.float32).tiny))
    return np.asarray(np.where(largest > 0, np.maximum(factor / most, _LEAST), 1.0), np.float32)
