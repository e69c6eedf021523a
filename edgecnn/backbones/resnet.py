"""ResNet-50 from Keras and ResNet-34 from scratch (https://arxiv.org/abs/1512.03385)."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from edgecnn.backbones import Backbone
from edgecnn.backbones._keras_weights import MINUS_MEAN, KerasWeights, copy_bgr_weights, keras_network

if TYPE_CHECKING:
    import keras


def _conv_bn(x: Any, name: str, filters: int, kernel: int, stride: int) -> Any:
    from keras import layers

    x = layers.Conv2D(
        filters, kernel, stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    return layers.BatchNormalization(name=f"{name}_bn")(x)


def _block(x: Any, name: str, filters: int, stride: int) -> Any:
    from keras import layers

    shortcut = x
    if stride != 1 or x.shape[-1] != filters:
        shortcut = _conv_bn(x, f"{name}_shortcut", filters, 1, stride)
    x = layers.ReLU(name=f"{name}_1_relu")(_conv_bn(x, f"{name}_1", filters, 3, stride))
    x = layers.Add(name=f"{name}_add")([shortcut, _conv_bn(x, f"{name}_2", filters, 3, 1)])
    return layers.ReLU(name=f"{name}_relu")(x)


def _resnet34(height: int, width: int) -> keras.Model:
    import keras

    inputs = keras.Input((height, width, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    x = keras.layers.ReLU(name="stem_relu")(_conv_bn(x, "stem", 64, 7, 2))
    x = keras.layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    for stage, (filters, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            x = _block(x, f"stage{stage}_block{block}", filters, stride)
    return keras.Model(inputs, x, name="resnet34")


BACKBONES = (
    Backbone(
        name="resnet50",
        size_px=224,
        min_size_px=32,
        crop_fraction=0.875,
        parameters=23_587_712,
        macs=3_855_925_248,
        imagenet=KerasWeights(
            "ResNet50", "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", transfer=copy_bgr_weights
        ),
        published_top1=74.9,  # keras.io/api/applications
        network=functools.partial(keras_network, "resnet50", "ResNet50", rescale=MINUS_MEAN),
    ),
    Backbone(
        name="resnet34",
        size_px=224,
        min_size_px=32,
        crop_fraction=1.0,
        parameters=21_301_696,
        macs=3_663_249_408,
        imagenet=None,
        published_top1=None,
        network=_resnet34,
    ),
)
