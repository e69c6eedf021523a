"""VGG16 and VGG19 (https://arxiv.org/abs/1409.1556)."""

from __future__ import annotations

import functools

from edgecnn.backbones import Backbone
from edgecnn.backbones._keras_weights import MINUS_MEAN, KerasWeights, copy_bgr_weights, keras_network


def _variant(depth: int, parameters: int, macs: int, published_top1: float) -> Backbone:
    name, application = f"vgg{depth}", f"VGG{depth}"
    return Backbone(
        name=name,
        size_px=224,
        min_size_px=32,
        crop_fraction=0.875,
        parameters=parameters,
        macs=macs,
        imagenet=KerasWeights(
            application, f"{name}_weights_tf_dim_ordering_tf_kernels_notop.h5", transfer=copy_bgr_weights
        ),
        published_top1=published_top1,
        network=functools.partial(keras_network, name, application, rescale=MINUS_MEAN),
    )


# Top-1: keras.io/api/applications.
BACKBONES = (
    _variant(16, 14_714_688, 15_346_630_656, 71.3),
    _variant(19, 20_024_384, 19_508_428_800, 71.3),
)
