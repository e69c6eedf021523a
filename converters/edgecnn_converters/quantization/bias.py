"""Rounding of weights, and biases that make up for it.

A depthwise kernel of nine weights may be large and nearly cancel; the mean input times the sum of nine roundings is
then no noise, but the same error in every picture: in EfficientNet-Lite0 the first such layer alone made half of what
int8 cost. See Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2,
with means that are measured.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecnn_converters.quantization._graph import WEIGHTED, Graph, Values, run

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

PICTURES = 16  # the mean over these and over all places is exact enough
_STEPS = 127  # of a weight's absolute value
_PLACES = 512  # of a picture, which are enough to know how a layer's inputs go together
_DAMPING = 0.01  # of the mean of a Hessian's diagonal, as in the paper


def correct_bias(
    graph: bytes, calibration: Sequence[Pixels], in_float: Collection[str] = (), jointly: bool = False
) -> bytes:
    """The float graph with biases that make up for 8-bit weights with a scale for each output channel.

    Args:
        graph: a float32 TFLite file.
        calibration: preprocessed training pictures, of which the first `PICTURES` are looked at.
        in_float: names of the outputs of layers that are not rounded.
        jointly: also put rounded weights into the graph, see `round_jointly`; otherwise each is left as it is and
            expected to be rounded by itself.
    """
    own = Graph(graph)
    weighted = [_Layer(own, operator) for operator in own.graph.operators if own.kind(operator) in WEIGHTED]
    found = [
        layer for layer in weighted if layer.weights is not None and own.name(layer.operator.outputs[0]) not in in_float
    ]
    chosen = calibration[:PICTURES]
    rng = np.random.default_rng(0)
    for values in run(graph, chosen):
        for layer in found:
            layer.see(values, rng if jointly else None)
    for layer in found:
        operator, weights = layer.operator, layer.rows
        new = round_jointly(weights, layer.hessian) if jointly else rounded(weights)
        # (groups, out, taps) by (groups, taps): for every output channel, what it loses on average
        shift = ((weights - new) @ (layer.total / len(chosen))[..., np.newaxis])[..., 0].ravel()
        bias = operator.inputs[2] if len(operator.inputs) > 2 and operator.inputs[2] >= 0 else None
        old = None if bias is None else own.array(bias)
        corrected = own.constant(shift if old is None else old + shift, own.name(operator.outputs[0]) + "/bias")
        kernel = own.constant(layer.shaped(new), own.name(operator.inputs[1])) if jointly else operator.inputs[1]
        operator.inputs = [operator.inputs[0], kernel, corrected]
    return own.to_bytes()


def rounded(rows: Floats) -> Floats:
    """Weights ``(..., out, taps)`` as 8 bits hold them, each rounded by itself."""
    scale = _scale(rows)
    return np.asarray(np.rint(rows / scale) * scale, np.float32)


def round_jointly(rows: Floats, hessian: Floats) -> Floats:
    """Weights rounded one after the other, each time letting those still to come make up for the error: GPTQ (Frantar
    et al. 2023, https://arxiv.org/abs/2210.17323), after Optimal Brain Surgeon.

    Args:
        rows: ``(groups, out, taps)``.
        hessian: ``(groups, taps, taps)``, sums over places of the products of what the taps meet, less its mean, for
            which the bias makes up.

    Returns:
        Weights on the grid on which `rounded` puts them; the largest of a channel, which makes its scale, stays.
    """
    taps = rows.shape[-1]
    diagonal = np.einsum("gtt->gt", hessian)
    damped = hessian + (_DAMPING * diagonal.mean(-1)[:, np.newaxis, np.newaxis] + 1e-6) * np.eye(taps)
    factor = np.linalg.cholesky(np.linalg.inv(damped.astype(np.float64))).swapaxes(-1, -2)  # upper triangular
    scale = _scale(rows)[..., 0].astype(np.float64)
    largest = np.abs(rows).argmax(-1)
    left = rows.astype(np.float64)
    found = np.empty_like(left)
    for tap in range(taps):
        wanted = np.where(largest == tap, rows[..., tap], left[..., tap])
        found[..., tap] = np.clip(np.rint(wanted / scale), -_STEPS, _STEPS) * scale
        error = (left[..., tap] - found[..., tap]) / factor[:, tap, tap, np.newaxis]
        left[..., tap + 1 :] -= error[..., np.newaxis] * factor[:, np.newaxis, tap, tap + 1 :]
    return found.astype(np.float32)


def _scale(rows: Floats) -> Floats:
    scale = np.maximum(np.abs(rows).max(-1, keepdims=True) / _STEPS, np.finfo(np.float32).tiny)
    return np.asarray(scale, np.float32)


class _Layer:
    """A layer with weights, and what its weights meet.

    Attributes:
        weights: as the graph has them: ``(out, height, width, in / groups)``, ``(out, in)`` of a dense layer, or
            ``(1, height, width, in * multiplier)`` of a depthwise one. None where they are computed.
        total: ``(groups, taps)``, sums over pictures of the mean input that a tap meets; a depthwise layer has a group
            for each channel.
    """

    def __init__(self, graph: Graph, operator: Any) -> None:
        self.operator, self.weights = operator, graph.array(operator.inputs[1])
        self.depthwise = graph.kind(operator) == "DEPTHWISE_CONV_2D"
        together = 1 if self.depthwise else graph.shape(operator.inputs[1])[-1]
        self.groups = (
            1 if graph.kind(operator) == "FULLY_CONNECTED" else graph.shape(operator.inputs[0])[-1] // together
        )
        self.total: Any = 0.0
        self._products: Any = 0.0
        self._sums: Any = 0.0
        self._places = 0

    @property
    def hessian(self) -> Floats:
        """``(groups, taps, taps)``, see `round_jointly`."""
        return np.asarray(self._products - self._sums @ self._sums.swapaxes(1, 2) / self._places)

    @property
    def rows(self) -> Floats:
        """The weights, ``(groups, out, taps)``."""
        assert self.weights is not None
        if not self.depthwise:
            return self.weights.reshape(self.groups, len(self.weights) // self.groups, -1)
        taps = self.weights.reshape(-1, self.groups, self.weights.shape[-1] // self.groups)
        return np.ascontiguousarray(taps.transpose(1, 2, 0))

    def shaped(self, rows: Floats) -> Floats:
        """The inverse of `rows`."""
        assert self.weights is not None
        return np.asarray((rows.transpose(2, 0, 1) if self.depthwise else rows).reshape(self.weights.shape))

    def see(self, values: Values, rng: np.random.Generator | None) -> None:
        """Takes in what the layer meets in a picture; with `rng` also how it goes together, at some places."""
        met = list(self._taps(values(self.operator.inputs[0])))
        means = np.stack([tap.mean(0) for tap in met])  # (taps, in)
        self.total = self.total + self._in_groups(means[np.newaxis])[..., 0]
        if rng is None:
            return
        places = rng.permutation(len(met[0]))[:_PLACES]
        inputs = np.stack([tap[places] for tap in met], 1)  # (places, taps, in)
        inputs = self._in_groups(inputs)
        self._products = self._products + inputs @ inputs.swapaxes(1, 2)
        self._sums, self._places = self._sums + inputs.sum(-1, keepdims=True), self._places + len(places)

    def _in_groups(self, inputs: Floats) -> Floats:
        """Of ``(places, taps, in)`` what each group's weights meet, in their order: ``(groups, taps, places)``."""
        parts = inputs.reshape(*inputs.shape[:2], self.groups, -1)
        return parts.transpose(2, 1, 3, 0).reshape(self.groups, -1, len(inputs))

    def _taps(self, x: Floats) -> Iterator[Floats]:
        """For every place of the kernel, the inputs ``(places, in)`` that it meets."""
        assert self.weights is not None
        if self.weights.ndim == 2:
            yield x.reshape(-1, self.weights.shape[1])
            return
        options = self.operator.builtinOptions
        rows, columns = self.weights.shape[1:3]
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
        for row in range(0, reach[0], dilations[0]):
            for column in range(0, reach[1], dilations[1]):
                part = x[0, row : row + ends[0] : strides[0], column : column + ends[1] : strides[1]]
                yield part.reshape(-1, x.shape[-1])
