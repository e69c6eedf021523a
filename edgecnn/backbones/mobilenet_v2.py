"""MobileNetV2 (https://arxiv.org/abs/1801.04381)."""

from __future__ import annotations

import functools

from edgecnn.backbones import Backbone
from edgecnn.backbones._keras_weights import TO_PLUS_MINUS_ONE, KerasWeights, keras_network

BACKBONES = (
    Backbone(
        name="mobilenet_v2",
        size_px=224,
        min_size_px=32,
        crop_fraction=0.875,
        parameters=2_257_984,
        macs=299_494_272,
        imagenet=KerasWeights("MobileNetV2", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"),
        published_top1=71.3,  # keras.io/api/applications
        network=functools.partial(keras_network, "mobilenet_v2", "MobileNetV2", rescale=TO_PLUS_MINUS_ONE),
    ),
)
