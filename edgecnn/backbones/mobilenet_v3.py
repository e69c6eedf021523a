"""MobileNetV3 Small and Large (https://arxiv.org/abs/1905.02244)."""

from __future__ import annotations

import functools

from edgecnn.backbones import Backbone
from edgecnn.backbones._keras_weights import KerasWeights, keras_network


def _variant(size: str, parameters: int, macs: int, published_top1: float) -> Backbone:
    name, application = f"mobilenet_v3_{size}", f"MobileNetV3{size.capitalize()}"
    return Backbone(
        name=name,
        size_px=224,
        min_size_px=32,
        crop_fraction=0.875,
        parameters=parameters,
        macs=macs,
        imagenet=KerasWeights(application, f"weights_mobilenet_v3_{size}_224_1.0_float_no_top_v2.h5"),
        published_top1=published_top1,
        network=functools.partial(keras_network, name, application),
    )


# Top-1: the table in the documentation of keras.applications.MobileNetV3Small and -Large.
BACKBONES = (
    _variant("small", 939_120, 54_896_576, 68.1),
    _variant("large", 2_996_352, 214_080_960, 75.6),
)
