"""Inception V3 (https://arxiv.org/abs/1512.00567)."""

from __future__ import annotations

import functools

from edgecnn.backbones import Backbone
from edgecnn.backbones._keras_weights import TO_PLUS_MINUS_ONE, KerasWeights, keras_network

BACKBONES = (
    Backbone(
        name="inception_v3",
        size_px=299,
        min_size_px=75,
        crop_fraction=0.875,
        parameters=21_802_784,
        macs=5_711_168_096,
        imagenet=KerasWeights("InceptionV3", "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5", 299),
        published_top1=77.9,  # keras.io/api/applications
        network=functools.partial(keras_network, "inception_v3", "InceptionV3", rescale=TO_PLUS_MINUS_ONE),
    ),
)
