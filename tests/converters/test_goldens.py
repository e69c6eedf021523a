"""Goldens accept the artifact that they were made of, and refuse one that computes something else."""

from __future__ import annotations

import base64
import struct
from dataclasses import replace

import numpy as np
import pytest

from edgecnn_converters import formats
from edgecnn_converters.freeze import freeze
from edgecnn_converters.goldens import GOLDENS, _draw, _size_px, make_goldens
from edgecnn_runtime import Classifier
from edgecnn_runtime.backends import module_for
from edgecnn_runtime.contract import Contract, Preprocessing, Provenance
from edgecnn_runtime.errors import ModelError
from edgecnn_runtime.preprocess import preprocess

VARIANTS = [("tflite", "float32"), ("tflite", "int8"), ("onnx", "float32"), ("onnx", "int8")]


def _classifier(small, variant, network=None, goldens=()) -> Classifier:
    name, precision = variant
    function = small.function if network is None else freeze(network, small.contract.height, small.contract.width)
    graph = formats.get(name).convert(function, precision, small.pictures)
    return Classifier(graph, replace(small.contract, goldens=goldens), module_for(f"model.{name}"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_goldens_hold_for_their_own_artifact(small, variant):
    classifier = _classifier(small, variant)
    goldens = make_goldens(classifier)
    assert len(goldens) == GOLDENS
    assert len({golden.png for golden in goldens}) == GOLDENS
    for golden in goldens:
        assert (0.002 if variant[1] == "float32" else 0.01) <= golden.tolerance <= 0.5
        header = base64.b64decode(golden.png)[16:24]
        assert struct.unpack(">II", header) == (4 * 48, 3 * 40)
        answer = classifier.classify(golden.picture()).probabilities
        np.testing.assert_allclose(golden.probabilities, answer, atol=1e-5)
    checked = Classifier(*_with(classifier, goldens))
    assert checked.selftest() <= 0.01


def _with(classifier, goldens):
    graph, contract, module = classifier._rebuild[:3]
    return graph, replace(contract, goldens=goldens), module


def test_goldens_are_the_same_every_time(small):
    classifier = _classifier(small, VARIANTS[0])
    assert make_goldens(classifier) == make_goldens(classifier)


def _swap_red_and_blue(model):
    return lambda image, training: model(image[..., ::-1], training=training)


def _range_of_one(model):
    return lambda image, training: model(image / 255.0, training=training)


def _minus_one_to_one(model):
    return lambda image, training: model(image / 127.5 - 1.0, training=training)


@pytest.mark.parametrize("fault", [_swap_red_and_blue, _range_of_one, _minus_one_to_one])
@pytest.mark.parametrize("variant", VARIANTS)
def test_selftest_refuses_a_planted_fault(small, variant, fault):
    # What they say of the numbers alone: by their hash they would refuse every other graph.
    goldens = tuple(replace(golden, subject_sha256="") for golden in make_goldens(_classifier(small, variant)))
    wrong = _classifier(small, variant, fault(small.model), goldens)
    with pytest.raises(ModelError, match="self-test failed"):
        wrong.selftest()


def test_selftest_refuses_another_fit(small):
    classifier = _classifier(small, VARIANTS[0])
    graph, contract, module = _with(classifier, make_goldens(classifier))
    cropped = replace(contract, preprocessing=replace(contract.preprocessing, fit="crop", crop_fraction=0.7))
    with pytest.raises(ModelError, match="self-test failed"):
        Classifier(graph, cropped, module).selftest()


PREPROCESSINGS = [
    Preprocessing(),
    Preprocessing(crop_fraction=0.875),
    Preprocessing(fit="squash"),
    Preprocessing(crop_fraction=0.875, resampling="area"),
    Preprocessing(crop_fraction=0.875, resampling="linear"),
]


def _contract(side: int, preprocessing: Preprocessing) -> Contract:
    return Contract(side, side, ("a", "b"), Provenance(backbone="any", precision="int8"), preprocessing)


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS, ids=str)
@pytest.mark.parametrize("side", [32, 64, 96, 224, 240, 384, 600])
def test_reducing_a_golden_rounds_nothing_that_could_be_rounded_otherwise(side, preprocessing):
    contract = _contract(side, preprocessing)
    picture = _draw(np.random.default_rng(side), *_size_px(contract))
    negative = preprocess(192 - picture, preprocessing, side, side)
    np.testing.assert_array_equal(negative, 192 - preprocess(picture, preprocessing, side, side))


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS, ids=str)
def test_another_resampling_makes_another_picture_of_a_golden(preprocessing):
    contract = _contract(224, preprocessing)
    other = replace(preprocessing, resampling="area" if preprocessing.resampling == "linear" else "linear")
    for seed in range(4):
        picture = _draw(np.random.default_rng(seed), *_size_px(contract))
        own, wrong = (preprocess(picture, one, 224, 224).astype(int) for one in (preprocessing, other))
        assert np.abs(own - wrong).mean() >= 1.0


@pytest.mark.parametrize("side", [32, 224, 300, 384, 600])
@pytest.mark.parametrize("preprocessing", PREPROCESSINGS[1:3], ids=str)
def test_goldens_stay_small(side, preprocessing):
    import cv2

    contract = _contract(side, preprocessing)
    pictures = [_draw(np.random.default_rng(seed), *_size_px(contract)) for seed in range(16)]
    sizes = sorted(4 * cv2.imencode(".png", p, (cv2.IMWRITE_PNG_COMPRESSION, 9))[1].size / 3 for p in pictures)
    of_a_thousand_probabilities = 12_000
    assert sum(sizes[-GOLDENS:]) + GOLDENS * of_a_thousand_probabilities <= 150_000
