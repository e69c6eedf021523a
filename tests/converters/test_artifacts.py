"""An artifact carries its own figures and everything else that a device needs, in one file."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import datetime

import cv2
import numpy as np
import pytest

from edgecnn_converters import artifacts, formats
from edgecnn_converters.artifacts import make_artifact, versions
from edgecnn_converters.freeze import freeze
from edgecnn_runtime import Classifier
from edgecnn_runtime.errors import EdgecnnError, ModelError
from edgecnn_runtime.metrics import wilson_interval

VARIANTS = [(name, precision) for name in formats.names() for precision in formats.get(name).PRECISIONS]


def _test_set(small, truth, reference=None):
    return artifacts.Labelled(small.pictures, truth, small.expected if reference is None else reference)


def _truth(small):
    """What the model says, but for every fifth picture."""
    truth = small.expected.argmax(1).astype(np.int64)
    truth[::5] = (truth[::5] + 1) % len(small.contract.labels)
    return truth


@pytest.mark.parametrize(("name", "precision"), VARIANTS)
def test_figures_are_those_of_the_file_alone(small, name, precision, tmp_path):
    truth = _truth(small)
    made = make_artifact(
        small.function, small.contract, name, precision, small.pictures, None, _test_set(small, truth), tmp_path, 2
    )
    assert made.path == tmp_path / f"small-{precision}.{name}"
    assert [path.name for path in tmp_path.iterdir()] == [made.path.name]

    elsewhere = tmp_path / "anderer Ordner é"
    elsewhere.mkdir()
    copy = shutil.copy(made.path, elsewhere / f"Kopie {precision}.{name}")
    made.path.unlink()
    classifier = Classifier.load(copy)
    assert classifier.selftest() <= 0.01
    answers = np.stack([classifier.infer(picture) for picture in small.pictures])

    right = int((answers.argmax(1) == truth).sum())
    test = classifier.contract.provenance.test
    assert test == made.test
    assert (test.accuracy, test.pictures) == (right / len(truth), len(truth))
    assert test.interval == wilson_interval(right, len(truth))
    assert test.agreement == (answers.argmax(1) == small.expected.argmax(1)).mean()
    float_right = int((small.expected.argmax(1) == truth).sum())
    assert made.drop_points == pytest.approx(100 * (float_right - right) / len(truth))
    assert made.max_difference == pytest.approx(np.abs(answers - small.expected).max())
    assert made.latency_ms > 0
    assert made.size_mb == pytest.approx(copy.stat().st_size / 1e6)

    source = classifier.contract.provenance
    assert (source.backbone, source.precision, source.versions) == ("small", precision, versions())
    assert datetime.fromisoformat(source.created).tzinfo is not None
    assert classifier.contract == replace(
        small.contract,
        provenance=source,
        goldens=classifier.contract.goldens,
        graph_sha256=classifier.contract.graph_sha256,
    )


@pytest.mark.parametrize(("sign", "drop"), [(1, 100.0), (-1, -100.0)])
def test_drop_is_positive_where_the_artifact_is_worse(small, sign, drop, tmp_path):
    own = small.expected.argmax(1).astype(np.int64)
    other = (own + 1) % len(small.contract.labels)
    truth, reference = (other, other) if sign > 0 else (own, other)
    test = _test_set(small, truth, np.eye(len(small.contract.labels), dtype=np.float32)[reference])
    made = make_artifact(small.function, small.contract, "tflite", "float32", (), None, test, tmp_path, 1)
    assert made.drop_points == drop
    assert made.test.agreement == 0.0


FAULTS = {
    "red and blue swapped": lambda x: x[..., ::-1],
    "scaled twice": lambda x: x / 255.0,
    "another mean": lambda x: x + 60.0,
    "zoomed": lambda x: x[:, 10:-10, 10:-10],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_gate_refuses_what_sees_other_pictures(small, fault, tmp_path):
    import keras

    inputs = keras.Input(small.model.input_shape[1:])
    x = keras.layers.Resizing(*small.model.input_shape[1:3])(FAULTS[fault](inputs))
    broken = freeze(keras.Model(inputs, small.model(x)), small.contract.height, small.contract.width)
    # What the float model says is right: of pictures whose answers are not close, as a trained network's are.
    sure = np.flatnonzero(np.sort(small.expected, axis=1)[:, -1] > 0.6)
    own = artifacts.Labelled([small.pictures[i] for i in sure], small.expected[sure].argmax(1), small.expected[sure])
    made = make_artifact(broken, small.contract, "tflite", "float32", (), own, None, tmp_path, 1)
    assert made.rejected, made.verdict
    assert [path.name for path in tmp_path.iterdir()] == ["small-float32.tflite.rejected"]
    renamed = made.path.rename(tmp_path / "small-float32.tflite")
    assert Classifier.load(renamed).contract.provenance.gate.outcome == "fail", "it says so itself"


@pytest.fixture(scope="module")
def many(small):
    """Enough pictures for the gate to decide, of answers that are not close, as a trained network's are not."""
    coarse = np.random.default_rng(6).integers(0, 256, (1500, 4, 4, 3), dtype=np.uint8)
    pictures = [cv2.resize(picture, small.pictures[0].shape[1::-1]) for picture in coarse]
    outputs = np.asarray(small.model(np.stack(pictures).astype(np.float32), training=False))
    expected = outputs if outputs.shape[1] > 1 else np.concatenate([1 - outputs, outputs], 1)
    sure = np.flatnonzero(expected.max(1) > 0.7)
    return artifacts.Labelled([pictures[i] for i in sure], expected[sure].argmax(1), expected[sure])


@pytest.mark.parametrize(("name", "precision"), VARIANTS)
def test_the_gate_passes_good_exports(small, many, name, precision, tmp_path):
    made = make_artifact(small.function, small.contract, name, precision, small.pictures, many, None, tmp_path, 2)
    assert made.verdict.outcome == "pass", made.verdict
    assert not made.rejected


@pytest.mark.parametrize("name", formats.names())
def test_the_gate_refuses_int8_that_was_calibrated_on_a_grey_picture(small, many, name, tmp_path):
    grey = [np.full_like(small.pictures[0], 127)]  # zero everywhere to the network
    made = make_artifact(small.function, small.contract, name, "int8", grey, many, None, tmp_path, 2, repairs=False)
    assert made.verdict.outcome == "fail", made.verdict
    assert made.rejected
    assert not made.attempts


def test_the_gate_refuses_another_order_of_labels(small, many, tmp_path):
    other = replace(many, truth=(many.truth + 1) % len(small.contract.labels))
    swapped = replace(other, reference=np.roll(many.reference, 1, axis=1))
    made = make_artifact(small.function, small.contract, "onnx", "float32", (), swapped, None, tmp_path, 2)
    assert made.rejected, made.verdict


def test_the_gate_looks_at_views_where_pictures_do_not_decide(small, tmp_path):
    own = artifacts.Labelled(small.pictures, small.expected.argmax(1), small.expected)
    made = make_artifact(small.function, small.contract, "tflite", "float32", (), own, None, tmp_path, 1)
    assert (made.verdict.outcome, made.verdict.views, made.verdict.agreement) == ("unproven", 1, 1.0)

    def ask(pictures):
        outputs = np.asarray(small.model(np.stack(pictures).astype(np.float32), training=False))
        return outputs if outputs.shape[1] > 1 else np.concatenate([1 - outputs, outputs], 1)

    seen = replace(own, ask=ask)
    made = make_artifact(small.function, small.contract, "tflite", "float32", (), seen, None, tmp_path, 2)
    assert (made.verdict.views, made.verdict.agreement, made.verdict.drop_points) == (5, 1.0, 0.0)
    assert Classifier.load(made.path).contract.provenance.gate.outcome == "unproven"


def test_without_test_pictures_nothing_is_claimed(small, tmp_path):
    made = make_artifact(small.function, small.contract, "tflite", "float32", (), None, None, tmp_path, 1)
    assert (made.test, made.drop_points, made.max_difference) == (None, None, None)
    assert made.latency_ms > 0
    assert Classifier.load(made.path).contract.provenance.test is None


def test_int8_without_pictures_names_the_option(small, tmp_path):
    with pytest.raises(EdgecnnError, match="--calibrate FOLDER"):
        make_artifact(small.function, small.contract, "tflite", "int8", (), None, None, tmp_path, 1)
    assert not list(tmp_path.iterdir())


def test_contract_that_does_not_fit_the_network_leaves_no_file(small, tmp_path):
    wrong = replace(small.contract, labels=("a", "b", "c", "d"), activation="softmax")
    with pytest.raises(ModelError, match="outputs"):
        make_artifact(small.function, wrong, "tflite", "float32", (), None, None, tmp_path, 1)
    assert not list(tmp_path.iterdir())


def test_artifact_that_fails_its_selftest_leaves_no_file(small, tmp_path, monkeypatch):
    def wrong_goldens(classifier):
        (golden, *_) = artifacts_make_goldens(classifier)
        return (replace(golden, probabilities=golden.probabilities[::-1], tolerance=0.002),)

    artifacts_make_goldens = artifacts.make_goldens
    monkeypatch.setattr(artifacts, "make_goldens", wrong_goldens)
    with pytest.raises(ModelError, match="self-test failed"):
        make_artifact(small.function, small.contract, "tflite", "float32", (), None, None, tmp_path, 1)
    assert not list(tmp_path.iterdir())


def test_versions_name_what_made_the_file():
    found = versions()
    assert {"edgecnn-converters", "edgecnn-runtime", "keras", "numpy", "onnxruntime", "tf2onnx"} <= found.keys()
    assert all(text[0].isdigit() for text in found.values())
