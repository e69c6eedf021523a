"""LeNet-5 (Gradient-based learning applied to document recognition, 1998), from scratch, on RGB instead of grey."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecnn.backbones import Backbone

if TYPE_CHECKING:
    import keras


def _network(height: int, width: int) -> keras.Model:
    import keras
    from keras import layers

    inputs = keras.Input((height, width, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    x = layers.Conv2D(6, 5, activation="tanh", name="c1")(x)
    x = layers.AveragePooling2D(2, name="s2")(x)
    x = layers.Conv2D(16, 5, activation="tanh", name="c3")(x)
    x = layers.AveragePooling2D(2, name="s4")(x)
    x = layers.Conv2D(120, 5, activation="tanh", name="c5")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(84, activation="tanh", name="f6")(x)
    return keras.Model(inputs, x, name="lenet5")


BACKBONES = (
    Backbone(
        name="lenet5",
        size_px=32,
        min_size_px=32,
        crop_fraction=1.0,
        parameters=61_156,
        macs=650_880,
        imagenet=None,
        published_top1=None,
        network=_network,
    ),
)
