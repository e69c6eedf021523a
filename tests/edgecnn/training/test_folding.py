"""Folding batch normalisation changes no answer, and leaves what it can't fold."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn import backbones
from edgecnn.training.folding import fold_normalization

SIZES = {"inception_v3": 75, "xception": 71}


# Depthwise, separable and grouped convolutions, normalisation without a scale and before the convolution, none at all.
@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("efficientnet_lite0", 0),
        ("mobilenet_v3_small", 0),
        ("efficientnet_v2_b0", 0),
        ("inception_v3", 0),
        pytest.param("xception", 0, marks=pytest.mark.all),
        pytest.param("resnet50_v2", 17, marks=pytest.mark.all),
        pytest.param("convnext_tiny", 0, marks=pytest.mark.all),
        ("lenet5", 0),
    ],
)
def test_answers_stay(name, left):
    import keras

    network = backbones.get(name).build(*[SIZES.get(name, 64)] * 2, "none")
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for variable in layer.weights:
                near_one = rng.uniform(0.9, 1.1, variable.shape)
                variable.assign(near_one if "gamma" in variable.path or "variance" in variable.path else near_one - 1)
    folded = fold_normalization(network)
    assert sum(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers) == left
    assert folded.output_shape == network.output_shape
    assert folded.name == network.name
    pixels = rng.uniform(0, 255, (2, *network.input_shape[1:])).astype(np.float32)
    wanted = np.asarray(network(pixels, training=False))
    np.testing.assert_allclose(np.asarray(folded(pixels, training=False)), wanted, atol=1e-4 * np.abs(wanted).max())
    before = network.get_weights()
    for variable in folded.trainable_variables:
        variable.assign(variable * 0)
    assert all(np.array_equal(one, other) for one, other in zip(before, network.get_weights(), strict=True))
