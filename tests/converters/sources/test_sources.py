"""What every kind of source shares: normalisation, sizes, outputs, and which kind a path is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgecnn_converters import sources
from edgecnn_converters.sources import Normalization, Stated, check_integer_input, count_outputs, picture_size
from edgecnn_runtime.errors import ModelError, UsageError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.float32)


def applied(normalization: Normalization, channels: int) -> np.ndarray:
    kernel, bias = normalization.layer(channels)
    return PIXELS @ kernel + bias


def test_a_range_is_what_black_and_white_become() -> None:
    np.testing.assert_allclose(applied(Normalization.from_range(-1, 1), 3), PIXELS / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(applied(Normalization.from_range(1, 0), 3), 1 - PIXELS / 255, atol=1e-6)
    assert Normalization.from_range(0, 255).is_identity(3)
    assert not Normalization.from_range(0, 255).is_identity(1)
    assert not Normalization.from_range(0, 1).is_identity(3)


def test_mean_and_deviation_are_those_of_torchvision() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (PIXELS / 255 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(applied(Normalization.from_statistics(mean, std), 3), expected, atol=1e-5)


def test_one_channel_is_grey_as_opencv_has_it() -> None:
    import cv2

    grey = cv2.cvtColor(PIXELS / 255, cv2.COLOR_RGB2GRAY)[..., np.newaxis]
    found = applied(Normalization.from_statistics((0.25,) * 3, (0.5,) * 3), 1)
    np.testing.assert_allclose(found, (grey - 0.25) / 0.5, atol=1e-5)


def test_the_size_is_the_models_own_or_the_one_stated() -> None:
    path = Path("net.onnx")
    assert picture_size(path, (20, 24), None) == (20, 24)
    assert picture_size(path, (20, None), (20, 24)) == (20, 24)
    assert picture_size(path, (None, "width"), (20, 24)) == (20, 24)
    with pytest.raises(UsageError, match="any size: state one with --size"):
        picture_size(path, (20, None), None)
    with pytest.raises(UsageError, match="input is 20x24 px, --size says 24x20"):
        picture_size(path, (20, 24), (24, 20))
    for shape, size in (((100_000, 24), None), ((None, 24), (9999, 24)), ((None, 24), (0, 24))):
        with pytest.raises(UsageError, match="a picture has 1 to 4096 px a side"):
            picture_size(path, shape, size)


@pytest.mark.parametrize(
    ("outputs", "logits", "message"),
    [
        ([[0.2, 0.8]], False, None),
        ([[3.0, -2.0]], True, None),
        ([[0.7]], False, None),
        ([[0.7]], True, None),
        ([[3.0, -2.0]], False, "for logits state --logits"),
        ([[0.9, 0.9]], False, "several labels at once"),
        ([[0.9, 0.9]], True, None),
        ([[0.9, 0.1, 0.9]], True, "several labels at once"),
        ([[1.7]], False, "for logits state --logits"),
        ([[0.2, 0.8]], True, "probabilities already; leave out --logits"),
        ([[np.nan, 0.0]], True, "not finite"),
    ],
)
def test_outputs_are_what_is_said_of_them(outputs: list[list[float]], logits: bool, message: str | None) -> None:
    stated = Stated(None, Normalization.from_range(0, 1), logits)

    def run(pixels: object) -> np.ndarray:
        return np.array(outputs, np.float32)

    if message is None:
        assert count_outputs(Path("net.onnx"), run, stated, (4, 5)) == len(outputs[0])
    else:
        with pytest.raises(ModelError, match=message):
            count_outputs(Path("net.onnx"), run, stated, (4, 5))


def test_a_network_of_whole_numbers_wants_the_pixels_as_they_are() -> None:
    check_integer_input(Path("net.onnx"), Stated(None, Normalization.from_range(0, 255)))
    with pytest.raises(UsageError, match=r"takes whole numbers, .* state --range 0:255"):
        check_integer_input(Path("net.onnx"), Stated(None, Normalization.from_range(0, 1)))


def test_a_path_says_of_which_kind_it_is(tmp_path: Path) -> None:
    saved = tmp_path / "net.keras"
    saved.mkdir()
    assert sources.kind(saved) is None
    (saved / "saved_model.pb").touch()
    assert sources.kind(saved) == "saved_model"
    assert sources.kind(Path("missing.ONNX")) == "onnx"
    assert sources.kind(Path("runs/mine")) is None
    with pytest.raises(UsageError, match="not a model"):
        sources.read(Path("runs/mine"), Stated(None, Normalization.from_range(0, 1)))


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("net.h5", "save the model as .keras"),
        ("net.PT", "torch.onnx.export"),
        ("a.tflite", "'edgecnn classify' runs it"),
    ],
)
def test_other_kinds_are_refused_with_the_way_on(name: str, remedy: str) -> None:
    with pytest.raises(UsageError, match=remedy):
        sources.kind(Path(name))
