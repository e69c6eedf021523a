"""MobileNet (https://arxiv.org/abs/1704.04861)."""

from __future__ import annotations

import functools

from edgecnn.backbones import Backbone
from edgecnn.backbones._keras_weights import TO_PLUS_MINUS_ONE, KerasWeights, keras_network

BACKBONES = (
    Backbone(
        name="mobilenet",
        size_px=224,
        min_size_px=32,
        crop_fraction=0.875,
        parameters=3_228_864,
        macs=567_716_352,
        imagenet=KerasWeights("MobileNet", "mobilenet_1_0_224_tf_no_top.h5"),
        published_top1=70.4,  # keras.io/api/applications
        network=functools.partial(keras_network, "mobilenet", "MobileNet", rescale=TO_PLUS_MINUS_ONE),
    ),
)
