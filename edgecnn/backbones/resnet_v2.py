"""ResNet-50 V2 (https://arxiv.org/abs/1603.05027)."""

from __future__ import annotations

import functools

from edgecnn.backbones import Backbone
from edgecnn.backbones._keras_weights import TO_PLUS_MINUS_ONE, KerasWeights, keras_network

BACKBONES = (
    Backbone(
        name="resnet50_v2",
        size_px=224,
        min_size_px=32,
        crop_fraction=0.875,
        parameters=23_564_800,
        macs=3_480_207_360,
        imagenet=KerasWeights("ResNet50V2", "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5"),
        published_top1=76.0,  # keras.io/api/applications
        network=functools.partial(keras_network, "resnet50_v2", "ResNet50V2", rescale=TO_PLUS_MINUS_ONE),
    ),
)
