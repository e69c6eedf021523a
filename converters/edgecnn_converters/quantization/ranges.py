"""Ranges of activations in 8 bits: not the extremes that calibration saw, but those with the least error.

A single far value spreads all others over few steps. Where the range is cut off, that value errs by the distance and
everything else by less; the mean squared error of both together decides, on what calibration saw.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

PICTURES = 32
_BINS = 2048
_LEVELS = 255
_SHARES = np.linspace(1.0, 0.1, 46)  # of an extreme, which are tried


class Histogram:
    """How often an activation has which value.

    Attributes:
        low, high: the extremes that calibration saw, 0 included, which every range of 8 bits has.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = min(low, 0.0), max(high, 0.0)
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
