"""EfficientNetV2 B0-B3 (https://arxiv.org/abs/2104.00298)."""

from __future__ import annotations

import functools

from edgecnn.backbones import Backbone
from edgecnn.backbones._keras_weights import KerasWeights, keras_network


def _variant(number: int, size_px: int, parameters: int, macs: int, published_top1: float) -> Backbone:
    name, application = f"efficientnet_v2_b{number}", f"EfficientNetV2B{number}"
    return Backbone(
        name=name,
        size_px=size_px,
        min_size_px=32,
        crop_fraction=0.875,
        parameters=parameters,
        macs=macs,
        imagenet=KerasWeights(application, f"efficientnetv2-b{number}_notop.h5", size_px),
        published_top1=published_top1,
        network=functools.partial(keras_network, name, application),
    )


# Top-1: keras.io/api/applications.
BACKBONES = (
    _variant(0, 224, 5_919_312, 716_806_176, 78.7),
    _variant(1, 240, 6_931_124, 1_195_539_360, 79.8),
    _variant(2, 260, 8_769_374, 1_696_134_832, 80.5),
    _variant(3, 300, 12_930_622, 3_009_922_816, 82.0),
)
