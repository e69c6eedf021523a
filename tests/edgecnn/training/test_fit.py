"""Fitting: schedules, balance, what is frozen, what wins; and several devices, as far as a CPU can tell."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from edgecnn import backbones
from edgecnn.training.fit import (
    Stage,
    _schedule,
    class_weights,
    compile_model,
    epoch_order,
    fit,
    keep_winner,
    picture_weights,
    targets,
    unfreeze,
)
from edgecnn.training.options import Machine, Optimization
from edgecnn_runtime.errors import UsageError


def _rates(schedule, warmup=0.0):
    options = Optimization(schedule=schedule, warmup=warmup, learning_rate=0.5, epochs=10)
    return np.array([float(_schedule(options, 20)(step)) for step in range(200)])


@pytest.mark.parametrize("schedule", ["step", "exponential", "cosine"])
def test_schedules_fall_from_the_rate_to_a_hundredth(schedule):
    rates = _rates(schedule)
    assert rates[0] == pytest.approx(0.5)
    assert (np.diff(rates) <= 1e-9).all()
    assert rates[-1] == pytest.approx(0.005, rel=0.05)


def test_warmup_rises_first():
    rates = _rates("cosine", warmup=2.0)
    assert rates.argmax() in (39, 40)
    assert (np.diff(rates[:39]) > 0).all()
    assert rates[0] == pytest.approx(0.5 / 40)
    assert _rates("constant", warmup=1.0)[20:] == pytest.approx(0.5)
    with pytest.raises(UsageError, match="--warmup does not go with --schedule plateau"):
        _schedule(Optimization(schedule="plateau", warmup=1.0), 20)


def test_class_weights_are_one_on_average_and_make_classes_equal():
    truth = np.array([0] * 90 + [1] * 10)
    weights = class_weights(truth, 2, "weights")
    each = picture_weights(targets(truth, 2, "softmax"), weights)
    assert each.mean() == pytest.approx(1.0)
    assert each[truth == 0].sum() == pytest.approx(each[truth == 1].sum())
    np.testing.assert_allclose(picture_weights(targets(truth, 2, "sigmoid"), weights), each)
    assert (class_weights(truth, 2, "none") == 1).all()


def test_sampling_draws_every_class_as_often():
    index, truth = np.arange(1000), np.array([0] * 950 + [1] * 50)
    order = epoch_order(index, truth, "sampling", np.random.default_rng(0))
    assert len(order) == 1000
    assert 0.4 < truth[order].mean() < 0.6
    plain = epoch_order(index, truth, "none", np.random.default_rng(0))
    assert sorted(plain) == list(index)


def _trainable(network):
    return [layer.name for layer in network.layers if layer.trainable and layer.weights]


def test_what_is_unfrozen():
    network = backbones.get("efficientnet_lite0").build(64, 64, "none")
    unfreeze(network, "none", normalization=False)
    assert not network.trainable_weights
    unfreeze(network, "all", normalization=False)
    assert len(_trainable(network)) == sum(name.endswith("conv") for name in (layer.name for layer in network.layers))
    unfreeze(network, "all", normalization=True)
    assert len(network.trainable_weights) == sum(len(layer.trainable_weights) for layer in network.layers) > 140
    unfreeze(network, "block", normalization=False)
    assert {name.split("_")[0] for name in _trainable(network)} == {
        "block11",
        "block12",
        "block13",
        "block14",
        "block15",
        "head",
    }
    unfreeze(network, "top", normalization=False)
    assert _trainable(network)[0] == "block3_depthwise_conv"
    unfreeze(network, "3", normalization=False)
    assert _trainable(network) == ["head_conv"]


@pytest.mark.parametrize("name", ["vgg16", "basic_cnn", "convnext_tiny", "mobilenet_v3_small"])
def test_a_last_block_exists_in_every_kind_of_network(name):
    network = backbones.get(name).build(64, 64, "none")
    unfreeze(network, "block", normalization=False)
    assert 0 < len(_trainable(network)) < len([layer for layer in network.layers if layer.weights])


def test_the_winner_on_validation_is_kept():
    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])

    def weight():
        return float(model.get_weights()[0][0, 0])

    def measure():
        return abs(weight() - 1.0), 0.5  # equal accuracy: the loss decides

    for start, trained, winner in ((1.0, 2.0, "start"), (3.0, 1.5, "trained")):
        candidates = {"trained": [np.array([[trained]], np.float32)], "start": [np.array([[start]], np.float32)]}
        assert keep_winner(model, candidates, measure) == winner
        assert weight() == {"start": start, "trained": trained}[winner]


def _two_pictures(epoch: int, number: int):
    return np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), np.ones(2, np.float32)


@pytest.mark.parametrize("again", [False, True], ids=["at once", "resumed after its last epoch"])
def test_an_average_of_the_weights_does_not_take_the_place_of_those_trained(tmp_path, again):
    """An average that has hardly moved, and weights that have."""
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="softmax")])
    options = Optimization(optimizer="sgd", learning_rate=1.0, epochs=5, averaging=0.9999, patience=0)

    stage = Stage("stage", 4, _two_pictures, lambda: (0.0, 1.0), tmp_path)
    for _ in range(1 + again):
        model.set_weights([np.zeros((2, 2), np.float32), np.zeros(2, np.float32)])
        compile_model(model, options, Machine(), stage.steps)
        fit(model, stage, options, lambda done, total: None, lambda rows: None)
    trained = model.get_weights()[0].copy()
    model.optimizer.finalize_variable_values(model.trainable_variables)
    averaged = model.get_weights()[0]
    assert 0 < 3 * averaged[0, 0] < trained[0, 0]  # Keras' average begins after the first step


@pytest.mark.parametrize(("schedule", "patience"), [("plateau", 0), ("constant", 3)])
def test_a_resumed_training_still_knows_what_counts_as_lower(tmp_path, schedule, patience):
    """A validation loss that sinks, but by less than what counts."""
    import keras

    options = Optimization(schedule=schedule, patience=patience, min_delta=0.001, epochs=6, optimizer="sgd")

    def train(folder, dies_in=None):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="softmax")])
        losses = iter(1.0 - 1e-5 * epoch for epoch in range(options.epochs))

        def measure():
            loss = next(losses)
            if dies_in is not None and loss <= 1.0 - 1e-5 * dies_in:
                raise KeyboardInterrupt
            return loss, 0.5

        folder.mkdir(exist_ok=True)
        stage = Stage("stage", 1, _two_pictures, measure, folder)
        if (folder / "stage.npz").exists():
            next(losses)
        compile_model(model, options, Machine(), stage.steps)
        rows = fit(model, stage, options, lambda done, total: None, lambda rows: None)
        return [row["learning_rate"] for row in rows]

    whole = train(tmp_path / "whole")
    assert len(whole) == (6 if schedule == "plateau" else 4)
    assert len(set(whole)) == (2 if schedule == "plateau" else 1)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "resumed", dies_in=1)
    assert train(tmp_path / "resumed") == whole


def test_a_missing_gpu_is_one_line(shapes, refused, tmp_path):
    words = ("--backbone", "basic_cnn", "--size", 32, "--devices", "gpu:0,1", "--json")
    assert "TensorFlow sees 0 GPU(s)" in refused("train", shapes, "--out", tmp_path / "run", *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    [
        ("--devices", "cpu:0,1,2"),  # by which no preset's batch can be divided
        ("--precision", "mixed_bfloat16"),
        ("--precision", "mixed_float16"),
        ("--xla",),
    ],
)
def test_machine_options_train_in_a_process_of_their_own(edgecnn, shapes, tmp_path, words):
    given = ("--backbone", "basic_cnn", "--size", 32, "--epochs", 30, "--batch-size", 8, "--learning-rate", 0.003)
    done = edgecnn("train", shapes, "--out", tmp_path / "run", *given, *words, "--json")
    assert done.returncode == 0, done.stderr
    assert "jit_compile" not in done.stderr  # what Keras says where it compiles nothing
    assert json.loads(done.stdout)["accuracy"]["test"] >= 0.8
    exported = edgecnn("export", tmp_path / "run", "--precision", "float32", "--json")
    assert exported.returncode == 0, exported.stderr
    assert all(artifact["max_difference"] <= 1e-2 for artifact in json.loads(exported.stdout)["artifacts"])


@pytest.mark.long
@pytest.mark.parametrize(
    "words", [pytest.param(("--devices", "cpu:0,1,2"), marks=pytest.mark.all), ("--precision", "mixed_float16")]
)
def test_machine_options_go_with_heads_on_features(edgecnn, shapes, tmp_path, words):
    given = ("--size", 32, "--recipe", "standard", "--epochs", 1)
    done = edgecnn("train", shapes, "--out", tmp_path / "run", *given, *words, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accuracy"]["test"] >= 0.8


def test_mirrored_batches_are_shared_out():
    """Three virtual devices see a third of a batch each; in a process of its own, since devices are made but once."""
    code = (
        "from edgecnn.training.devices import prepare_devices\n"
        "from edgecnn.training.fit import shared_batch_size\n"
        "from edgecnn.training.options import Machine, Optimization\n"
        "options = Optimization(batch_size=32)\n"
        "print(shared_batch_size(options, 8))\n"
        "with prepare_devices(Machine(devices='cpu:0,1,2')).scope():\n"
        "    print(*(shared_batch_size(options, pictures) for pictures in (1000, 33, 32, 2)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["32", "33", "33", "30", "3"]


@pytest.mark.long
@pytest.mark.parametrize("recipe", [("--backbone", "basic_cnn"), ("--recipe", "fast", "--views", 2)])
def test_a_last_batch_of_fewer_pictures_than_devices_is_left_out(edgecnn, shapes, tmp_path, recipe):
    """With batch normalization a device that gets no picture ended the training, or made all weights NaN."""
    words = ("--size", 32, "--epochs", 2, "--devices", "cpu:0,1,2", "--normalization", "batch", *recipe)
    out = ("--out", tmp_path / "run", "--batch-size", 6)  # of 25 pictures, and of 76 views, one and four are left
    done = edgecnn("train", shapes, *words, *out, "--json")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "run" / "history.csv").open() as stream:
        assert all(np.isfinite(float(row["loss"])) for row in csv.DictReader(stream))


def test_a_training_that_diverges_is_one_line(shapes, here, tmp_path):
    given = ("--backbone", "basic_cnn", "--size", 32, "--epochs", 5, "--patience", 0, "--schedule", "constant")
    wild = ("--optimizer", "sgd", "--learning-rate", 10, "--l2", 10)
    done = here("train", shapes, "--out", tmp_path / "run", *given, *wild)
    assert done.returncode == 1
    assert "the training has diverged, its answers are no numbers: lower --learning-rate" in done.stderr
    assert not (tmp_path / "run").exists()
