"""AlexNet (ImageNet classification with deep convolutional neural networks, 2012), from scratch.

Batch normalisation stands where the original has local response normalisation; no convolution is split in two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgecnn.backbones import Backbone

if TYPE_CHECKING:
    import keras


def _conv(x: Any, name: str, filters: int, kernel: int, stride: int = 1, *, pool: bool = False) -> Any:
    from keras import layers

    padding = "valid" if stride > 1 else "same"
    x = layers.Conv2D(filters, kernel, stride, padding=padding, use_bias=False, name=name)(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    x = layers.ReLU(name=f"{name}_relu")(x)
    return layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x) if pool else x


def _network(height: int, width: int) -> keras.Model:
    import keras
    from keras import layers

    inputs = keras.Input((height, width, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    x = _conv(x, "conv1", 96, 11, 4, pool=True)
    x = _conv(x, "conv2", 256, 5, pool=True)
    x = _conv(x, "conv3", 384, 3)
    x = _conv(x, "conv4", 384, 3)
    x = _conv(x, "conv5", 256, 3, pool=True)
    x = layers.Flatten(name="flatten")(x)
    for name in ("fc6", "fc7"):
        x = layers.Dense(4096, activation="relu", name=name)(x)
        x = layers.Dropout(0.5, name=f"{name}_dropout")(x)
    return keras.Model(inputs, x, name="alexnet")


BACKBONES = (
    Backbone(
        name="alexnet",
        size_px=227,
        min_size_px=67,
        crop_fraction=1.0,
        parameters=58_285_472,
        macs=1_131_160_096,
        imagenet=None,
        published_top1=None,
        network=_network,
    ),
)
