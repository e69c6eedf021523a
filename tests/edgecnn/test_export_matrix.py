"""Every backbone converts to every format and runs in the device's engine."""

from __future__ import annotations

import numpy as np
import pytest

from bench._networks import CLASSES, MOBILE, living_model, soft_pictures
from edgecnn import backbones
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
MOST_DIFFERENCE = {"float32": 1e-4, "float16": 0.01, "dynamic": 0.1}  # of a probability
# Baselines, not for devices, and up to a minute each.
LARGE = ("alexnet", "convnext_tiny", "inception_v3", "resnet34", "resnet50", "resnet50_v2", "vgg16", "xception")
VARIANTS = (("tflite", "float32"), ("tflite", "int8"), ("onnx", "float32"), ("onnx", "int8"))
SHORTER = (("tflite", "float16"), ("tflite", "dynamic"), ("onnx", "float16"))
SIZES_PX = {"inception_v3": 107}  # at its smallest, its last maps are one pixel, which blows up rounding errors


@pytest.mark.parametrize(
    ("name", "variants"),
    [
        *[pytest.param(name, VARIANTS, marks=pytest.mark.slow) for name in FAMILIES if name not in LARGE],
        *[pytest.param(name, VARIANTS[:1], marks=pytest.mark.slow) for name in LARGE if name != "convnext_tiny"],
        *[pytest.param(name, SHORTER, marks=pytest.mark.slow) for name in ("efficientnet_lite0", "mobilenet_v3_small")],
        pytest.param("convnext_tiny", VARIANTS[::2], marks=pytest.mark.long),
        *[
            pytest.param(n, (*VARIANTS, *SHORTER), marks=pytest.mark.all)
            for n in backbones.names()
            if n in LARGE or n not in FAMILIES
        ],
        *[pytest.param(n, SHORTER, marks=pytest.mark.all) for n in FAMILIES if n not in LARGE],
    ],
)
def test_backbone_exports_to_every_format_and_runs(name, variants):
    size_px = SIZES_PX.get(name, max(backbones.get(name).min_size_px, 64))
    many = soft_pictures(32, size_px)
    model, pictures = living_model(name, size_px, many), many[:8]
    expected = np.asarray(model(np.stack(pictures).astype(np.float32), training=False))
    assert np.ptp(expected, axis=0).max() > 1e-3, "the pictures must not all look alike to the network"

    function = freeze(model, size_px, size_px)
    contract = Contract(
        size_px, size_px, tuple("abcdefghij"[:CLASSES]), Provenance(backbone=name, precision="", weights="none")
    )
    for format, precision in variants:
        graph = formats.get(format).convert(function, precision, pictures)
        module = module_for(f"model.{format}")
        module.check_structure(graph)
        classifier = Classifier(graph, contract, module)
        probabilities = np.stack([classifier.infer(picture) for picture in pictures])
        assert probabilities.shape == expected.shape
        assert np.isfinite(probabilities).all()
        if name in MOBILE and (format, precision) == ("tflite", "int8"):
            assert module.describe(graph)[0] == "1 partition for the delegate"
        if precision in MOST_DIFFERENCE:
            assert np.abs(probabilities - expected).max() <= MOST_DIFFERENCE[precision], format
        else:
            assert np.ptp(probabilities, axis=0).max() > 0, f"{format} int8 says the same of every picture"
