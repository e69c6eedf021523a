"""Weights of Keras applications: our networks give the features that the application gives after its preprocessing."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from edgecnn import backbones
from edgecnn_runtime.errors import EdgecnnError, ModelError


def _plain(*values: str):
    """A family whose weights are copied as they are: one test of that way is enough for `make test`."""
    return pytest.param(*values, marks=pytest.mark.all)


# backbone, function, module with its preprocess_input, file suffix
_APPLICATIONS = [
    ("mobilenet_v3_small", "MobileNetV3Small", "mobilenet_v3", ".keras"),
    ("efficientnet_b0", "EfficientNetB0", "efficientnet", ".h5"),
    ("vgg16", "VGG16", "vgg16", ".h5"),
    ("vgg16", "VGG16", "vgg16", ".weights.h5"),
    ("resnet50", "ResNet50", "resnet50", ".keras"),
    ("convnext_tiny", "ConvNeXtTiny", "convnext", ".weights.h5"),
    _plain("mobilenet", "MobileNet", "mobilenet", ".keras"),
    _plain("mobilenet_v2", "MobileNetV2", "mobilenet_v2", ".weights.h5"),
    _plain("efficientnet_v2_b0", "EfficientNetV2B0", "efficientnet_v2", ".h5"),
    _plain("resnet50_v2", "ResNet50V2", "resnet_v2", ".h5"),
    _plain("inception_v3", "InceptionV3", "inception_v3", ".h5"),
    _plain("xception", "Xception", "xception", ".weights.h5"),
]


def _randomize(model) -> None:
    """Random values where Keras starts with a constant, so that a swapped or skipped array shows."""
    import keras

    rng = np.random.default_rng(5)
    for layer in model.layers:
        if isinstance(layer, keras.Sequential):
            _randomize(layer)
        elif isinstance(layer, keras.layers.Normalization):
            if layer.weights:  # the published file's constants, as Keras corrects them with weights="imagenet"
                layer.adapt_mean.assign([0.485, 0.456, 0.406])
                layer.adapt_variance.assign(np.square([0.229, 0.224, 0.225]))
                layer.finalize_state()
        else:
            weights = layer.get_weights()
            layer.set_weights([rng.uniform(0.5, 1, w.shape) if w.ndim == 1 else w for w in weights])


@pytest.mark.parametrize(("name", "function", "module", "suffix"), _APPLICATIONS)
def test_published_weights_give_the_published_features(name, function, module, suffix, tmp_path):
    import keras

    size = 96
    application = getattr(keras.applications, function)(weights=None, include_top=False, input_shape=(size, size, 3))
    _randomize(application)
    path = tmp_path / f"weights{suffix}"
    application.save_weights(path) if suffix == ".weights.h5" else application.save(path)

    pictures = np.random.default_rng(7).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    preprocess = getattr(keras.applications, module).preprocess_input
    expected = application(preprocess(pictures.copy()), training=False).numpy()
    features = backbones.get(name).build(size, size, str(path))(pictures, training=False).numpy()
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(features, expected, atol=1e-4 * max(1, np.abs(expected).max()))


def _one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras"])
def test_wrong_and_damaged_files_are_one_line_errors(suffix, tmp_path):
    saved = backbones.get("lenet5").build(32, 32, "none")
    path = tmp_path / f"file{suffix}"
    saved.save_weights(path) if suffix == ".weights.h5" else saved.save(path)
    whole = path.read_bytes()
    for name, content in [
        ("vgg16", whole),
        ("efficientnet_lite0", whole),
        ("basic_cnn", whole),
        *(
            (name, damaged)
            for name in ("lenet5", "vgg16")
            for damaged in (whole[: len(whole) // 2], whole[:99], b"", b"no")
        ),
    ]:
        path.write_bytes(content)
        with pytest.raises(ModelError) as caught:
            backbones.get(name).build(32, 32, str(path))
        assert str(path) in _one_line(caught.value)


def test_an_application_of_another_size_or_with_top_is_refused(tmp_path):
    import keras

    for published in (
        keras.applications.VGG19(weights=None, include_top=False, input_shape=(32, 32, 3)),
        keras.applications.VGG16(weights=None, input_shape=(32, 32, 3), classes=2),
    ):
        for path in (tmp_path / "file.h5", tmp_path / "file.weights.h5"):
            published.save(path) if path.name == "file.h5" else published.save_weights(path)
            with pytest.raises(ModelError, match="not the weights of vgg16 without top") as caught:
                backbones.get("vgg16").build(32, 32, str(path))
            _one_line(caught.value)


def test_absent_file_and_foreign_kind(tmp_path):
    with pytest.raises(ModelError, match="no such weights file"):
        backbones.get("vgg16").build(32, 32, str(tmp_path / "absent.h5"))
    (tmp_path / "weights.pt").write_bytes(b"x")
    for name in ("vgg16", "lenet5", "efficientnet_lite0"):
        with pytest.raises(ModelError, match=r"weights\.pt: not a kind of weights file"):
            backbones.get(name).build(32, 32, str(tmp_path / "weights.pt"))


def test_without_a_connection_one_line_names_the_way_out(monkeypatch, capsys):
    backbone = backbones.get("mobilenet_v3_large")
    if backbone.weights_at_hand():
        pytest.skip("the weights are in Keras' cache, so nothing would be fetched")

    def refuse(*_args, **_kwargs):
        raise socket.gaierror("no connection in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(EdgecnnError, match="--weights FILE or --weights none") as caught:
        backbone.build(64, 64)
    _one_line(caught.value)
    assert capsys.readouterr().out == ""
