"""A baseline of two convolutions, from scratch: what a first tutorial builds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecnn.backbones import Backbone

if TYPE_CHECKING:
    import keras


def _network(height: int, width: int) -> keras.Model:
    import keras
    from keras import layers

    inputs = keras.Input((height, width, 3), name="image")
    x = layers.Rescaling(1 / 255)(inputs)
    for number, filters in enumerate((32, 64), start=1):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv{number}")(x)
        x = layers.MaxPooling2D(name=f"pool{number}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(64, activation="relu", name="dense")(x)
    return keras.Model(inputs, x, name="basic_cnn")


BACKBONES = (
    Backbone(
        name="basic_cnn",
        size_px=64,
        min_size_px=8,
        crop_fraction=1.0,
        parameters=1_068_032,
        macs=23_461_888,
        imagenet=None,
        published_top1=None,
        network=_network,
    ),
)
