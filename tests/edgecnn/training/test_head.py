"""The head: what it reads of the backbone, and that folding the standardisation changes no answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgecnn import backbones
from edgecnn.training.head import (
    MAX_LEVEL_FEATURES,
    add_pooling,
    at_size,
    build,
    build_head,
    fold,
    join,
    last_maps,
    standardization,
)
from edgecnn.training.options import HeadOptions
from edgecnn.training.run import Config
from edgecnn_runtime.errors import UsageError

SIZE = 64


@pytest.mark.parametrize(
    ("name", "features", "maps"),
    [
        ("efficientnet_lite0", 7648, 11),  # 672 + 4 x (192 + 1152) + 320 + 1280
        ("mobilenet_v2", 5536, 9),  # 576 + 3 x (160 + 960) + 320 + 1280
        ("basic_cnn", None, 1),
    ],
)
def test_levels_are_the_maps_of_the_last_size(name, features, maps):
    network = backbones.get(name).build(SIZE, SIZE, "none")
    found = last_maps(network)
    assert len(found) == maps
    assert {tuple(each.shape[1:3]) for each in found} == {network.output_shape[1:3]}
    assert found[-1] is network.output
    pooled = add_pooling(network, "levels").output_shape[1]
    assert pooled == sum(each.shape[-1] for each in found) <= MAX_LEVEL_FEATURES
    assert features is None or pooled == features


def test_levels_hold_the_average_of_the_last_map():
    network = backbones.get("efficientnet_lite0").build(SIZE, SIZE, "none")
    pixels = np.random.default_rng(0).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    average = np.asarray(add_pooling(network, "average")(pixels))
    levels = np.asarray(add_pooling(network, "levels")(pixels))
    np.testing.assert_allclose(levels[:, -average.shape[1] :], average, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        HeadOptions(),
        HeadOptions(hidden=8),
        HeadOptions(hidden=8, normalization="batch"),
        HeadOptions(output="sigmoid"),
    ],
)
def test_folded_head_answers_for_raw_features_as_the_other_for_standardised_ones(options):
    rng = np.random.default_rng(0)
    features = (rng.uniform(0, 5, 40) + rng.uniform(0, 2, 40) * rng.normal(size=(64, 40))).astype(np.float32)
    features[:, 0] = 3.0  # a dead channel
    mean, scale = standardization(features)
    head, folded = (build_head(40, 2, options) for _ in range(2))
    folded.set_weights(fold(head.get_weights(), mean, scale))
    wanted = np.asarray(head((features - mean) / scale))
    np.testing.assert_allclose(np.asarray(folded(features)), wanted, atol=1e-5)
    np.testing.assert_allclose(((features - mean) / scale).mean(0), 0.0, atol=1e-5)
    assert ((features - mean) / scale).std(0).max() < 1.0


@pytest.mark.parametrize("hidden", [0, 8])
@pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
def test_a_head_knows_whether_it_begins_dense(hidden, normalization):
    options = HeadOptions(hidden=hidden, normalization=normalization)
    first = next(layer for layer in build_head(5, 2, options).layers if layer.weights)
    assert options.begins_dense == (type(first).__name__ == "Dense")


@pytest.mark.parametrize("pooling", ["max", "levels"])
def test_joined_model_is_pooling_and_head(pooling):
    network = backbones.get("mobilenet_v2").build(SIZE, SIZE, "none")
    pooled = add_pooling(network, pooling)
    head = build_head(pooled.output_shape[1], 3, HeadOptions(pooling=pooling))
    pixels = np.random.default_rng(0).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    whole = np.asarray(join(network, head, pooling)(pixels))
    np.testing.assert_allclose(whole, np.asarray(head(pooled(pixels))), atol=1e-6)
    np.testing.assert_allclose(whole.sum(1), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "efficientnet_lite0",
        "mobilenet_v2",
        pytest.param("convnext_tiny", marks=pytest.mark.all),
        pytest.param("resnet50_v2", marks=pytest.mark.all),
    ],
)
def test_at_another_size_the_layers_are_the_same_and_answer_as_a_network_built_there(name):
    config = Config("photos", name, SIZE, SIZE, weights="none", recipe="best")
    model = build(config, 3, "none")[2]
    small = at_size(model, SIZE // 2)
    assert small.input_shape == (None, SIZE // 2, SIZE // 2, 3)
    assert all(one is other for one, other in zip(small.variables, model.variables, strict=True)), "dropout's seed too"
    other = build(replace(config, height=SIZE // 2, width=SIZE // 2), 3, "none")[2]
    other.set_weights(model.get_weights())
    pixels = np.random.default_rng(0).uniform(0, 255, (2, SIZE // 2, SIZE // 2, 3)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(small(pixels)), np.asarray(other(pixels)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "pooling"), [("basic_cnn", "levels"), ("mobilenet_v2", "flatten")])
def test_weights_that_depend_on_the_size_are_refused_at_another(name, pooling):
    config = Config("photos", name, SIZE, SIZE, weights="none", recipe="best", head=HeadOptions(pooling=pooling))
    with pytest.raises(
        UsageError, match=f"--train-size 32: {name} with this head has weights for 64 px alone"
    ) as raised:
        at_size(build(config, 3, "none")[2], 32)
    assert "\n" not in str(raised.value)
