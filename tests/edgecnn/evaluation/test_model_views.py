"""Grad-CAM, layers and feature maps of small real networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgecnn import backbones
from edgecnn.evaluation.gradcam import heatmaps, overlay
from edgecnn.evaluation.layers import first_feature_maps, layer_rows
from edgecnn.training.head import HeadOptions, add_pooling, build_head, join, last_maps

SIDE = 32
PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


def joined(name: str, classes: int = 3, activation: str = "softmax") -> Any:
    import keras

    keras.utils.set_random_seed(0)
    network = backbones.get(name).build(SIDE, SIDE, "none")
    features = int(np.prod(add_pooling(network).output_shape[1:]))
    return join(network, build_head(features, classes, HeadOptions(activation)))


def red_and_green() -> Any:
    """A network whose feature map is how red and how green each quarter is, and whose head names the class by it."""
    import keras

    image = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(2, 1, use_bias=False, name="colours")(image)
    network = keras.Model(image, keras.layers.AveragePooling2D(SIDE // 2)(x), name="colours")
    network.get_layer("colours").set_weights([np.array([[[[1, 0], [0, 1], [0, 0]]]], np.float32) / 255])
    model = join(network, build_head(2, 2, HeadOptions()))
    model.layers[-1].set_weights([np.array([[4, -4], [-4, 4]], np.float32), np.zeros(2, np.float32)])
    return model


@pytest.mark.parametrize("asked", [0, 1])
def test_the_map_is_bright_where_the_class_is(asked: int) -> None:
    """Red in the upper left quarter, green in the lower right one."""
    picture = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    picture[0, : SIDE // 2, : SIDE // 2, 0] = 255
    picture[0, SIDE // 2 :, SIDE // 2 :, 1] = 255
    (heat,) = heatmaps(red_and_green(), picture, np.array([asked]))
    corners = heat[4, 4], heat[-5, -5]
    assert corners[asked] == pytest.approx(1.0)
    assert corners[1 - asked] == heat[4, -5] == 0.0


def test_grad_cam_of_a_known_network_is_its_class_activation_map() -> None:
    """For average pooling and one dense layer Grad-CAM is the dense layer's weights times the feature map."""
    import keras

    model = joined("mobilenet_v2")
    found = heatmaps(model, PIXELS, np.array([0, 1, 2]))
    *_, features, pooling, head = model.layers
    maps = np.asarray(keras.Model(model.input, features.output)(PIXELS.astype(np.float32)))
    kernel = np.asarray(head.layers[-1].kernel)
    expected = np.maximum(np.einsum("nhwc,cn->nhw", maps, kernel), 0)
    assert expected.shape == (3, 1, 1)
    assert pooling.name == "average"
    np.testing.assert_allclose(found[:, 0, 0], (expected > 0)[:, 0, 0], atol=1e-4)
    assert found.shape == (3, SIDE, SIDE)
    assert found.dtype == np.float32


def test_grad_cam_of_several_levels_adds_up_what_each_of_them_says() -> None:
    import keras

    keras.utils.set_random_seed(0)
    side = 64
    pixels = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    network = backbones.get("efficientnet_lite0").build(side, side, "none")
    features = add_pooling(network, "levels").output_shape[1]
    model = join(network, build_head(features, 3, HeadOptions()), "levels")
    maps = keras.Model(network.input, last_maps(network))(pixels.astype(np.float32))
    kernel = np.asarray(model.layers[-1].layers[-1].kernel)
    expected = np.maximum(np.einsum("nhwc,cn->nhw", np.concatenate([np.asarray(each) for each in maps], -1), kernel), 0)
    assert expected.shape == (3, 2, 2)
    expected /= np.maximum(expected.max((1, 2), keepdims=True), 1e-30)
    corners = heatmaps(model, pixels, np.arange(3))[:, :: side - 1, :: side - 1]  # enlarging keeps the corners
    np.testing.assert_allclose(corners, expected, atol=1e-4)


def test_a_frozen_network_gets_the_same_map() -> None:
    model = joined("basic_cnn")
    free = heatmaps(model, PIXELS, np.arange(3))
    model.trainable = False
    np.testing.assert_allclose(heatmaps(model, PIXELS, np.arange(3)), free)


def test_one_output_speaks_for_both_classes() -> None:
    model = joined("mobilenet_v2", 2, "sigmoid")
    pair = np.stack([PIXELS[0], PIXELS[0]])
    first, second = heatmaps(model, pair, np.array([0, 1]))
    # On a map of one cell exactly one of the two classes is spoken for.
    assert {first.max(), second.max()} == {0.0, 1.0}


@pytest.mark.parametrize("name", ["basic_cnn", "lenet5"])
def test_a_network_that_ends_in_dense_layers_gets_a_map_of_its_last_feature_map(name: str) -> None:
    found = heatmaps(joined(name), PIXELS, np.arange(3))
    assert found.shape == (3, SIDE, SIDE)
    assert 0.0 <= found.min() < found.max() <= 1.0


def test_mixed_precision_gets_the_same_maps() -> None:
    import keras

    model = joined("basic_cnn")
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        mixed = joined("basic_cnn")
    finally:
        keras.mixed_precision.set_global_policy("float32")
    mixed.set_weights(model.get_weights())
    whole, half = (heatmaps(each, PIXELS, np.arange(3)) for each in (model, mixed))
    assert np.corrcoef(whole.ravel(), half.ravel())[0, 1] > 0.95


def test_overlay_keeps_shape_and_colours_the_hot_part() -> None:
    heat = np.zeros((SIDE, SIDE), np.float32)
    heat[:, SIDE // 2 :] = 1.0
    grey = np.full((SIDE, SIDE, 3), 128, np.uint8)
    seen = overlay(grey, heat).astype(int)
    assert seen.shape == (SIDE, SIDE, 3)
    assert seen[0, 0].max() < 70 < 150 < seen[0, -1, 0]
    assert seen[0, -1, 0] > seen[0, -1, 2], "yellow: more red than blue"


@pytest.mark.parametrize(("name", "first"), [("mobilenet_v2", "Conv1"), ("basic_cnn", "conv1")])
def test_every_layer_is_listed_with_its_parameters(name: str, first: str) -> None:
    model = joined(name)
    rows = layer_rows(model)
    assert sum(row.parameters for row in rows) == model.count_params()
    assert rows[0].shape == (SIDE, SIDE, 3)
    assert (rows[-1].name, rows[-1].type, rows[-1].shape) == ("predictions", "Dense", (3,))
    assert next(row.name for row in rows if row.type == "Conv2D") == first
    assert [row.type for row in rows].count("InputLayer") == 1


def test_first_feature_maps_are_the_first_convolution() -> None:
    model = red_and_green()
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture[: SIDE // 2, ..., 0] = 200
    maps = first_feature_maps(model, picture)
    assert maps is not None
    assert (maps.layer, maps.channels, maps.maps.shape) == ("colours", 2, (2, SIDE, SIDE))
    assert (maps.maps[0, 0, 0], maps.maps[0, -1, -1]) == (255, 0)
    assert (maps.maps[1] == 0).all(), "an even channel is black, not noise"
    assert first_feature_maps(joined("mobilenet_v2"), PIXELS[0]).maps.shape == (32, SIDE // 2, SIDE // 2)


def test_a_network_without_a_convolution_has_no_maps() -> None:
    import keras

    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image)))
    assert first_feature_maps(model, np.zeros((8, 8, 3), np.uint8)) is None
    assert heatmaps(model, np.zeros((1, 8, 8, 3), np.uint8), np.array([0])) is None
