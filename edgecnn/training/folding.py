"""Batch normalisation with frozen statistics as what it is: part of the convolution before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras


def fold_normalization(network: keras.Model) -> keras.Model:
    """The same function by a network whose convolutions have taken in the batch normalisation behind them.

    That is what every converter does with a network that is done. Done before the network is tuned, the shift of the
    normalisation is a bias, which can learn where statistics cannot.

    Args:
        network: a functional model of single layers. What it computes in inference is kept, up to rounding.

    Returns:
        A new model with weights of its own; normalisation that does not directly follow a convolution stays.
    """
    import keras

    convolutions = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
    behind = {}  # name of a convolution -> its normalisation
    for layer in network.layers:
        readers = [node.operation for node in layer._outbound_nodes]
        alone = len(readers) == 1 and isinstance(readers[0], keras.layers.BatchNormalization)
        if isinstance(layer, convolutions) and alone and layer.activation is keras.activations.linear:
            behind[layer.name] = readers[0]
    folded = {normalization.name for normalization in behind.values()}

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        settings = layer.get_config()
        return type(layer).from_config({**settings, "use_bias": True} if layer.name in behind else settings)

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        return args[0] if layer.name in folded else layer(*args, **kwargs)

    found = keras.models.clone_model(network, clone_function=clone, call_function=call)
    for layer in found.layers:
        original = network.get_layer(layer.name)
        weights = original.get_weights()
        if layer.name in behind:
            bias = weights.pop() if original.use_bias else 0.0
            *before, kernel = weights
            scale, shift = _affine(behind[layer.name])
            # A depthwise kernel is (height, width, channels, multiplier), any other ends with its output channels.
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            factor = scale.reshape(kernel.shape[2:]) if depthwise else scale
            weights = [*before, kernel * factor, bias * scale + shift]
        layer.set_weights(weights)
    return found


def _affine(normalization: keras.layers.BatchNormalization) -> tuple[Any, Any]:
    """Scale and shift ``(C,)`` of a batch normalisation with the statistics it has."""
    gamma = np.asarray(normalization.gamma) if normalization.scale else 1.0
    beta = np.asarray(normalization.beta) if normalization.center else 0.0
    scale = gamma / np.sqrt(np.asarray(normalization.moving_variance) + normalization.epsilon)
    return scale, beta - np.asarray(normalization.moving_mean) * scale
