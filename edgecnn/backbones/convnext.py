"""ConvNeXt Tiny and Small (https://arxiv.org/abs/2201.03545), written with layers that every converter knows.

Keras' own network holds a grouped convolution where a depthwise one is meant, dense layers where 1x1 convolutions are,
and a custom layer for the per-channel scale. Here that scale is folded into the 1x1 convolution in front of it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from edgecnn.backbones import Backbone
from edgecnn.backbones._keras_weights import KerasWeights, weighted_layers

if TYPE_CHECKING:
    import keras

_CHANNELS = (96, 192, 384, 768)


def _norm(x: Any, name: str) -> Any:
    from keras import layers

    return layers.LayerNormalization(epsilon=1e-6, name=name)(x)


def _block(x: Any, name: str) -> Any:
    from keras import layers, ops

    channels = x.shape[-1]
    y = layers.DepthwiseConv2D(7, padding="same", name=f"{name}_depthwise")(x)
    y = _norm(y, f"{name}_norm")
    y = layers.Conv2D(4 * channels, 1, name=f"{name}_expand")(y)
    # Exact GELU (https://arxiv.org/abs/1606.08415) by erf: Keras' own uses erfc, which tf2onnx does not know.
    y = 0.5 * y * (1.0 + ops.erf(y * 0.5**0.5))
    y = layers.Conv2D(channels, 1, name=f"{name}_project")(y)
    return layers.Add(name=f"{name}_add")([x, y])


def _network(name: str, depths: tuple[int, ...], height: int, width: int) -> keras.Model:
    import keras
    from keras import layers

    inputs = keras.Input((height, width, 3), name="image")
    std = [0.229 * 255, 0.224 * 255, 0.225 * 255]
    offset = [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    x = layers.Rescaling([1 / value for value in std], offset=offset)(inputs)
    x = _norm(layers.Conv2D(_CHANNELS[0], 4, 4, name="stem_conv")(x), "stem_norm")
    for stage, (depth, channels) in enumerate(zip(depths, _CHANNELS, strict=True)):
        if stage:
            x = _norm(x, f"stage{stage}_down_norm")
            x = layers.Conv2D(channels, 2, 2, name=f"stage{stage}_down_conv")(x)
        for block in range(depth):
            x = _block(x, f"stage{stage}_block{block}")
    return keras.Model(inputs, _norm(x, "head_norm"), name=name)


def _transfer(published: keras.Model, model: keras.Model) -> None:
    """Move the weights of Keras' ConvNeXt.

    Raises:
        ValueError: the layers or their shapes differ.
    """
    from keras import layers

    targets = list(weighted_layers(model))
    done = 0
    for source in weighted_layers(published):
        weights = source.get_weights()
        if len(weights) == 1:  # the per-channel scale: gamma * (x W + b) = x (gamma W) + gamma b
            projection = targets[done - 1]
            projection.set_weights([array * weights[0] for array in projection.get_weights()])
            continue
        target = targets[done]
        if isinstance(target, layers.DepthwiseConv2D):
            weights[0] = weights[0].transpose(0, 1, 3, 2)
        elif isinstance(source, layers.Dense):
            weights[0] = weights[0][None, None]
        target.set_weights(weights)
        done += 1
    if done != len(targets):
        raise ValueError(f"{len(targets) - done} layers got no weights")


def _variant(size: str, depths: tuple[int, ...], parameters: int, macs: int, published_top1: float) -> Backbone:
    name = f"convnext_{size}"
    return Backbone(
        name=name,
        size_px=224,
        min_size_px=32,
        crop_fraction=0.875,
        parameters=parameters,
        macs=macs,
        imagenet=KerasWeights(f"ConvNeXt{size.capitalize()}", f"{name}_notop.h5", transfer=_transfer),
        published_top1=published_top1,
        network=functools.partial(_network, name, depths),
    )


# Top-1: keras.io/api/applications.
BACKBONES = (
    _variant("tiny", (3, 3, 9, 3), 27_813_504, 4_454_763_264, 81.3),
    _variant("small", (3, 3, 27, 3), 49_441_152, 8_682_944_256, 82.3),
)
