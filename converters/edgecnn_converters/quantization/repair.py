"""What can be done for a network that int8 costs too much, and what of it is done to the float graph beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgecnn_converters.quantization.bias import correct_bias
from edgecnn_converters.quantization.equalization import equalize
from edgecnn_converters.quantization.rewrites import rewrite, round_shift
from edgecnn_converters.quantization.tail import float_tail, nodes

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Repair:
    """What is done besides what every int8 file gets.

    Attributes:
        equalized: channels differ less, see `equalization`; not of a network that was ONNX already.
        jointly: weights are rounded jointly, see `bias.round_jointly`.
        clipped: ranges leave out the farthest values that calibration saw: in TFLite those by which the squared error
            is least, see `ranges`; in ONNX the same, or, where the network
            was ONNX already, by ONNX Runtime's percentile.
        head: the last layer is trained again on what it gets in 8 bits, see `head`; only where it stays in float.
        in_float: names of the outputs of layers that stay in float besides the tail.
        tuned: weights are fine-tuned with 8 bits simulated, see `fine_tuning`; in clipped ranges, and not rounded
            jointly.
    """

    equalized: bool = False
    jointly: bool = False
    clipped: bool = False
    head: bool = False
    in_float: tuple[str, ...] = ()
    tuned: bool = False


NONE = Repair()


@dataclass(frozen=True)
class Prepared:
    """A network that is ready to be quantized.

    Attributes:
        graph: a float32 TFLite file.
        exact: a float32 TFLite file of the network as it should be.
        in_float: names of the outputs of all operators that stay in float.
        ranges: of activations by their names, from low to high, where they are known already.
    """

    graph: bytes
    exact: bytes
    in_float: Sequence[str]
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def prepare(graph: bytes, calibration: Sequence[Pixels], repair: Repair) -> Prepared:
    """The float graph as it is to be quantized.

    Args:
        graph: a float32 TFLite file.
        calibration: preprocessed training pictures.
    """
    graph = exact = rewrite(graph, for_int8=True)
    if repair.equalized:
        graph = equalize(graph, calibration)
    in_float = [*float_tail(nodes(graph)), *repair.in_float]
    return Prepared(round_shift(correct_bias(graph, calibration, in_float, repair.jointly)), exact, in_float)
