"""Every backbone converts to every format and runs in the device's engine."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgecnn import backbones
from edgecnn.training.head import add_pooling, build_head, join
from edgecnn.training.options import HeadOptions
from edgecnn_converters import formats
from edgecnn_converters.freeze import freeze
from edgecnn_runtime import Classifier
from edgecnn_runtime.backends import module_for
from edgecnn_runtime.contract import Contract, Provenance

FAMILIES = (
    "alexnet",
    "basic_cnn",
    "convnext_tiny",
    "efficientnet_b0",
    "efficientnet_lite0",
    "efficientnet_v2_b0",
    "inception_v3",
    "lenet5",
    "mobilenet",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "resnet34",
    "resnet50",
    "resnet50_v2",
    "vgg16",
    "xception",
)
# Baselines, not for devices, and up to a minute each.
LARGE = ("alexnet", "convnext_tiny", "inception_v3", "resnet34", "resnet50", "resnet50_v2", "vgg16", "xception")
# For devices: in int8 the delegate must run them in one piece.
MOBILE = (
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "mobilenet",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "efficientnet_v2_b0",
)
VARIANTS = (("tflite", "float32"), ("tflite", "int8"), ("onnx", "float32"), ("onnx", "int8"))
CLASSES = 4
SIZES_PX = {"inception_v3": 107}  # at its smallest, its last maps are one pixel, which blows up rounding errors


def _pictures(count: int, size_px: int) -> np.ndarray:
    """Soft coloured pictures, ``(count, size_px, size_px, 3)`` uint8."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
    return np.stack([cv2.resize(picture, (size_px, size_px), interpolation=cv2.INTER_LINEAR) for picture in coarse])


def _living_model(name: str, size_px: int, pictures: np.ndarray):
    """An untrained classifier whose batch normalization has the statistics of `pictures`, so that nothing dies out."""
    import keras

    keras.utils.set_random_seed(1)
    network = backbones.get(name).build(size_px, size_px, "none")
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    network(pictures.astype(np.float32), training=True)
    features = int(np.prod(add_pooling(network).output_shape[1:]))
    return join(network, build_head(features, CLASSES, HeadOptions()))


@pytest.mark.parametrize(
    ("name", "variants"),
    [
        *[pytest.param(name, VARIANTS, marks=pytest.mark.slow) for name in FAMILIES if name not in LARGE],
        *[pytest.param(name, VARIANTS[:1], marks=pytest.mark.slow) for name in LARGE],
        *[pytest.param(name, VARIANTS[2:3], marks=pytest.mark.long) for name in LARGE],
        *[
            pytest.param(n, VARIANTS, marks=pytest.mark.all)
            for n in backbones.names()
            if n in LARGE or n not in FAMILIES
        ],
    ],
)
def test_backbone_exports_to_every_format_and_runs(name, variants):
    size_px = SIZES_PX.get(name, max(backbones.get(name).min_size_px, 64))
    many = _pictures(32, size_px)
    model, pictures = _living_model(name, size_px, many), many[:8]
    expected = np.asarray(model(pictures.astype(np.float32), training=False))
    assert np.ptp(expected, axis=0).max() > 1e-3, "the pictures must not all look alike to the network"

    function = freeze(model, size_px, size_px)
    contract = Contract(size_px, size_px, tuple("abcd"), Provenance(backbone=name, precision="", weights="none"))
    for format, precision in variants:
        graph = formats.get(format).convert(function, precision, list(pictures))
        module = module_for(f"model.{format}")
        module.check_structure(graph)
        classifier = Classifier(graph, contract, module)
        probabilities = np.stack([classifier.infer(picture) for picture in pictures])
        assert probabilities.shape == expected.shape
        assert np.isfinite(probabilities).all()
        if name in MOBILE and (format, precision) == ("tflite", "int8"):
            assert module.describe(graph)[0] == "1 partition for the delegate"
        if precision == "float32":
            assert np.abs(probabilities - expected).max() <= 1e-4, format
        else:
            assert np.ptp(probabilities, axis=0).max() > 0, f"{format} int8 says the same of every picture"
