"""The cost of a network, counted on its layers: what the static figures of the backbones are checked against."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def count_macs(model: keras.Model) -> int:
    """Multiply-accumulates of all convolutions and dense layers of a built functional model, for one picture.

    A convolution needs one per weight of its kernel and output position, a dense layer one per weight.
    Batch normalisation, activations and pooling are left out, as is usual.
    """
    from keras import layers

    total = 0
    for layer in model.layers:
        if isinstance(layer, layers.SeparableConv2D):
            kernels = [layer.depthwise_kernel, layer.pointwise_kernel]
        elif isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D | layers.Dense):
            kernels = [layer.kernel]
        else:
            continue
        positions = math.prod(layer.output.shape[1:-1])
        total += positions * sum(math.prod(kernel.shape) for kernel in kernels)
    return total
