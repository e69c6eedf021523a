"""EfficientNet B0-B3 (https://arxiv.org/abs/1905.11946)."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from edgecnn.backbones import Backbone
from edgecnn.backbones._keras_weights import KerasWeights, keras_network

if TYPE_CHECKING:
    import keras

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def _network(name: str, application: str, height: int, width: int) -> keras.Model:
    """The Keras application with its preprocessing as constants: (x / 255 - mean) / std per channel.

    Keras holds mean and variance as weights of a Normalization layer, takes the published standard deviation for the
    variance, and mends that by one more layer that exists only with weights="imagenet". Constants are the same for all.
    """
    import keras

    def constant(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, keras.layers.Normalization):
            offset = [-mean / std for mean, std in zip(_MEAN, _STD, strict=True)]
            return keras.layers.Rescaling([1 / std for std in _STD], offset=offset, name="normalize")
        return layer.__class__.from_config(layer.get_config())

    network = keras.models.clone_model(keras_network(name, application, height, width), clone_function=constant)
    return keras.Model(network.input, network.output, name=name)


def _variant(number: int, size_px: int, parameters: int, macs: int, published_top1: float) -> Backbone:
    name, application = f"efficientnet_b{number}", f"EfficientNetB{number}"
    return Backbone(
        name=name,
        size_px=size_px,
        min_size_px=32,
        crop_fraction=0.875,
        parameters=parameters,
        macs=macs,
        imagenet=KerasWeights(application, f"efficientnetb{number}_notop.h5", size_px),
        published_top1=published_top1,
        network=functools.partial(_network, name, application),
    )


# Top-1: keras.io/api/applications.
BACKBONES = (
    _variant(0, 224, 4_049_564, 384_534_752, 77.1),
    _variant(1, 240, 6_575_232, 685_522_832, 79.1),
    _variant(2, 260, 7_768_562, 992_153_872, 80.1),
    _variant(3, 300, 10_783_528, 1_825_605_392, 81.6),
)
