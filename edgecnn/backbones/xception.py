"""Xception (https://arxiv.org/abs/1610.02357)."""

from __future__ import annotations

import functools

from edgecnn.backbones import Backbone
from edgecnn.backbones._keras_weights import TO_PLUS_MINUS_ONE, KerasWeights, keras_network

BACKBONES = (
    Backbone(
        name="xception",
        size_px=299,
        min_size_px=71,
        crop_fraction=0.875,
        parameters=20_861_480,
        macs=8_355_355_496,
        imagenet=KerasWeights("Xception", "xception_weights_tf_dim_ordering_tf_kernels_notop.h5", 299),
        published_top1=79.0,  # keras.io/api/applications
        network=functools.partial(keras_network, "xception", "Xception", rescale=TO_PLUS_MINUS_ONE),
    ),
)
