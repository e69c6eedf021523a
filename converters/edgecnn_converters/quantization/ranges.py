"""Ranges of activations in 8 bits: the extremes that calibration saw, or the range with the least error.

A single far value spreads all others over few steps. Where the range is cut off, that value errs by the distance and
everything else by less; the mean squared error of both together decides, on what calibration saw.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgecnn_converters.quantization._graph import Graph, run

Floats = npt.NDArray[np.float32]
Limits = tuple[float, float]

_CLIPPING_PICTURES = 32
_WHITE = 255.0
_BINS = 2048
_LEVELS = 255
_SHARES = np.linspace(1.0, 0.1, 46)  # of an extreme, which are tried


class Histogram:
    """How often an activation has which value.

    Attributes:
        low, high: the extremes that calibration saw, 0 included.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self._counts = np.zeros(_BINS)

    def see(self, values: Floats) -> None:
        self._counts += np.histogram(values, _BINS, (self.low, self.high))[0]

    def least_error_range(self) -> tuple[float, float]:
        """Within the extremes, the (low, high) with the least mean squared error."""
        low, high = self.low, self.high
        for _ in range(2):  # each end anew for the other one
            high = min((share * self.high for share in _SHARES), key=lambda end: self._error(low, end))
            low = min((share * self.low for share in _SHARES), key=lambda end: self._error(end, high))
        return low, high

    def _error(self, low: float, high: float) -> float:
        width = (self.high - self.low) / _BINS
        centres = self.low + width * (np.arange(_BINS) + 0.5)
        beyond = centres - np.clip(centres, low, high)
        within = self._counts[beyond == 0].sum() * ((high - low) / _LEVELS) ** 2 / 12.0
        return float((self._counts * beyond**2).sum() + within)


def activation_ranges(graph: bytes, pictures: Sequence[npt.NDArray[np.uint8]], clipped: bool) -> dict[str, Limits]:
    """From which value to which one the activations go, 0 included, which every range of 8 bits has.

    Not by TensorFlow's calibrator: it reads a tensor after the engine has put the sum or the product that it went into
    in its place, so that branches and gates get the range of those.

    Args:
        graph: a float32 TFLite file.
        pictures: preprocessed, ``(H, W, 3)`` uint8 RGB each.
        clipped: the range of the least error on some of them instead.

    Returns:
        (low, high) by the tensor's name. Of the input they are 0 and 255, whatever the pictures hold, and of the sum
        of the input and a constant what follows: with a whole number the scale is 1 there too, and no pixel is rounded.
    """
    own = Graph(graph)
    made = [int(tensor) for operator in own.graph.operators for tensor in operator.outputs]
    seen: dict[int, Limits] = dict.fromkeys(made, (0.0, 0.0))
    for values in run(graph, pictures):
        for tensor, (low, high) in seen.items():
            found = values(tensor)
            seen[tensor] = min(low, float(found.min())), max(high, float(found.max()))
    if clipped:
        histograms = {tensor: Histogram(*limits) for tensor, limits in seen.items()}
        for values in run(graph, pictures[:_CLIPPING_PICTURES]):
            for tensor, histogram in histograms.items():
                histogram.see(values(tensor))
        seen = {tensor: histogram.least_error_range() for tensor, histogram in histograms.items()}
    # A map that is nothing but 0 on all of these pictures tells no scale; the quantizer would end the process.
    seen = {tensor: limits if limits[0] < limits[1] else (0.0, 1.0) for tensor, limits in seen.items()}
    pixels = own.graph.inputs[0]
    seen[pixels] = 0.0, _WHITE
    for operator in own.graph.operators:
        if own.kind(operator) == "ADD" and operator.inputs[0] == pixels and own.activation(operator) == "NONE":
            shift = own.array(operator.inputs[1])
            if shift is not None:
                seen[int(operator.outputs[0])] = min(float(shift.min()), 0.0), max(_WHITE + float(shift.max()), 0.0)
    return {own.name(tensor): limits for tensor, limits in seen.items()}
