"""The ladder stops at the first good file, keeps what helped, and repairs a network that 8 bits break."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest

from edgecnn_converters.artifacts import Labelled, make_artifact
from edgecnn_converters.formats import onnx, tflite
from edgecnn_converters.freeze import freeze
from edgecnn_converters.gate import judge
from edgecnn_converters.ladder import Attempt, climb, pareto
from edgecnn_converters.quantization.fine_tuning import TuningError
from edgecnn_converters.quantization.repair import NONE, Repair
from edgecnn_runtime import Classifier
from edgecnn_runtime.contract import Contract, Provenance

PICTURES, SIDE = 400, 12


def verdict(lost: int, confidence: float = 0.95) -> Any:
    """Of an artifact that loses so many of `PICTURES` that the float model has right."""
    truth = np.zeros(PICTURES, np.int64)
    right = np.tile(np.array([1.0, 0.0], np.float32), (PICTURES, 1))
    answers = right.copy()
    answers[:lost] = answers[:lost, ::-1]
    return judge(("a", "b"), truth, right[np.newaxis], answers[np.newaxis], 1.0, confidence)


class Bench:
    """What `climb` asks for: `lost` and `noise` say how good a file is by its repair."""

    def __init__(self, lost: Any, noise: Any, layers: int = 20, tunable: bool = True) -> None:
        self._lost, self._noise, self._layers, self._tunable = lost, noise, layers, tunable
        self.ranked: list[Repair] = []
        self.left_out = ""

    def run(self) -> tuple[Attempt, list[Attempt]]:
        chosen, tried, self.left_out = climb(
            self._attempt,
            lambda attempt: float(self._noise(attempt.repair)),
            self._rank,
        )
        return chosen, tried

    def _attempt(self, words: str, repair: Repair, confidence: float) -> Attempt:
        if repair.tuned and not self._tunable:
            raise TuningError("it is made of wood")
        return Attempt(words, repair, b"", verdict(self._lost(repair), confidence), 1.0)

    def _rank(self, repair: Repair) -> list[str]:
        self.ranked.append(repair)
        return [f"layer{number}" for number in range(self._layers)]


def test_a_good_file_is_made_once() -> None:
    bench = Bench(lambda repair: 0, lambda repair: 1 / 0)
    chosen, tried = bench.run()
    assert tried == [chosen]
    assert chosen.repair == NONE
    assert chosen.verdict.confidence == 0.95


def test_undecided_is_good_enough_while_no_more_is_lost_than_allowed() -> None:
    chosen, tried = Bench(lambda repair: 3, lambda repair: 0).run()
    assert (chosen.verdict.outcome, len(tried)) == ("unproven", 1)
    assert len(Bench(lambda repair: 0 if repair.jointly else 5, lambda repair: 0).run()[1]) == 3  # 1.25 points


def test_what_brings_the_file_no_nearer_is_undone() -> None:
    bench = Bench(
        lambda repair: 0 if len(repair.in_float) >= 4 else 40, lambda repair: 2 - repair.jointly + repair.clipped
    )
    chosen, tried = bench.run()
    names = tuple(f"layer{number}" for number in range(4))
    assert chosen.repair == Repair(jointly=True, in_float=names)
    assert bench.ranked == [Repair(jointly=True)]
    assert [attempt.words for attempt in tried] == [
        "as always", "equalization", "joint rounding", "clipped ranges", "head trained again",
        "1 layer in float", "2 layers in float", "4 layers in float",
    ]  # fmt: skip
    assert {attempt.verdict.confidence for attempt in tried[1:]} == {0.99}


def test_a_repair_that_changes_nothing_is_no_attempt() -> None:
    bench = Bench(lambda repair: 40, lambda repair: 1 - repair.jointly, layers=0, tunable=False)
    made = bench._attempt
    bench._attempt = lambda words, repair, confidence: None if repair.equalized else made(words, repair, confidence)
    words = [attempt.words for attempt in bench.run()[1]]
    assert words == ["as always", "joint rounding", "clipped ranges", "head trained again"]


def test_where_nothing_is_good_the_least_drop_is_taken_and_not_all_layers_go_to_float() -> None:
    bench = Bench(lambda repair: 40 - len(repair.in_float), lambda repair: 0, layers=5)
    chosen, tried = bench.run()
    assert chosen is tried[-2]
    assert len(chosen.repair.in_float) == 4
    assert chosen.verdict.outcome == "fail"


def test_fine_tuning_comes_last_and_with_no_layer_in_float() -> None:
    bench = Bench(lambda repair: 0 if repair.tuned else 40, lambda repair: 1 - repair.jointly, layers=5)
    chosen, tried = bench.run()
    assert chosen is tried[-1]
    assert (chosen.words, chosen.repair) == ("fine-tuning (QAT)", Repair(clipped=True, head=True, tuned=True))
    assert [len(attempt.repair.in_float) for attempt in tried[-4:]] == [1, 2, 4, 0]
    assert bench.left_out == ""


def test_what_cannot_be_tuned_goes_without_and_says_so() -> None:
    bench = Bench(lambda repair: 40, lambda repair: 0, layers=0, tunable=False)
    assert len(bench.run()[1]) == 5
    assert bench.left_out == "fine-tuning (QAT): it is made of wood"


def test_a_later_attempt_is_refused_like_the_first() -> None:
    bench = Bench(lambda repair: 20 if repair == NONE else 11, lambda repair: 1)  # of 400
    chosen, tried = bench.run()
    assert verdict(11).outcome == "fail"
    assert {attempt.verdict.outcome for attempt in tried} == {"fail"}
    assert chosen.verdict.outcome == "fail"


def test_pareto_front() -> None:
    def made(lost: int, size: int, latency_ms: float) -> Attempt:
        return Attempt("", NONE, bytes(size), verdict(lost), latency_ms)

    assert pareto([made(5, 10, 2), made(4, 10, 2), made(0, 40, 2), made(5, 10, 1), made(9, 50, 3)]) == [
        False, True, True, True, False,
    ]  # fmt: skip
    assert pareto([made(1, 1, 1), made(1, 1, 1)]) == [True, True]


def fragile() -> tuple[Any, list[np.ndarray]]:
    """A network one of whose maps has a channel a thousand times larger than the others, which alone tell classes
    apart: in 8 bits with one scale nothing is left of them. A convolution in groups reads it: that is not equalized."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(5)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(layers.Rescaling(1 / 255)(inputs))
    wide = layers.Conv2D(8, 1, name="wide")
    narrow = layers.Conv2D(8, 1, groups=2, activation="relu")
    x = narrow(wide(x))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    head = layers.Dense(3, activation="softmax", kernel_initializer=keras.initializers.RandomNormal(stddev=30.0))
    model = keras.Model(inputs, head(layers.GlobalAveragePooling2D()(x)))
    for layer, large, factor in ((wide, np.s_[..., :1], 3000.0), (narrow, np.s_[..., :1, :4], 1 / 3000.0)):
        kernel, bias = layer.get_weights()
        kernel[large] *= factor
        layer.set_weights([kernel, bias])
    rng = np.random.default_rng(3)
    pictures = [rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(PICTURES)]
    pictures = [(picture * rng.uniform(0.1, 1.0, 3)).astype(np.uint8) for picture in pictures]
    logits = np.log(np.asarray(model(np.stack(pictures).astype(np.float32), training=False)) + 1e-30)
    kernel, _ = head.get_weights()
    head.set_weights([kernel, -logits.mean(0)])  # so that all classes are there
    return model, pictures


def test_layers_that_8_bits_break_stay_in_float(tmp_path: Any) -> None:
    model, pictures = fragile()
    expected = np.asarray(model(np.stack(pictures).astype(np.float32), training=False))
    truth = expected.argmax(1).astype(np.int64)
    assert np.bincount(truth, minlength=3).min() > PICTURES / 20, "all classes must be there"
    contract = Contract(SIDE, SIDE, ("a", "b", "c"), Provenance(backbone="fragile", precision="", weights="none"))
    function = freeze(model, SIDE, SIDE)
    held_out = Labelled(pictures[50:], truth[50:], expected[50:])
    made = make_artifact(
        function, contract, "tflite", "int8", pictures[:50], held_out, None, tmp_path, 2, max_drop_points=3.0
    )
    assert made.attempts[0].verdict.outcome == "fail"
    assert made.verdict == made.attempts[-1].verdict
    assert made.attempts[-1].good, [(each.words, each.verdict.drop_points) for each in made.attempts]
    assert made.attempts[-1].repair.in_float
    assert made.path.name == "fragile-int8.tflite"
    written = Classifier.load(made.path)
    answers = np.stack([written.infer(picture) for picture in held_out.pixels])
    assert 100 * (1 - (answers.argmax(1) == held_out.truth).mean()) == pytest.approx(made.verdict.drop_points)


def made_int8(
    unbalanced: Any, source: Any, folder: Any, progress: Any = lambda *words: None, format: str = "onnx"
) -> Any:
    """An int8 file; in ONNX no layer may stay in float."""
    pictures, truth = list(unbalanced.pictures), unbalanced.expected.argmax(1).astype(np.int64)
    side, calibration = pictures[0].shape[0], pictures[:50]
    contract = Contract(side, side, ("a", "b", "c"), Provenance(backbone="unbalanced", precision="", weights="none"))
    held_out = Labelled(pictures[100:], truth[100:], unbalanced.expected[100:])
    return make_artifact(
        source, contract, format, "int8", calibration, held_out, None, folder, 2, max_drop_points=10.0,
        tune=lambda: tflite.fine_tuned(source, calibration, pictures[:100], progress),
    )  # fmt: skip


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_channels_that_differ_greatly_are_equalized(equalizable: Any, tmp_path: Any, format: str) -> None:
    artifact = made_int8(equalizable, freeze(equalizable.model, SIDE, SIDE), tmp_path, format=format)
    assert [each.words for each in artifact.attempts] == ["as always", "equalization"]
    before, after = (each.verdict for each in artifact.attempts)
    assert (before.outcome, after.outcome) == ("fail", "pass")
    assert after.drop_points < 2.0 < 20.0 < before.drop_points


def test_a_network_that_learns_to_live_with_8_bits_needs_no_float(unbalanced: Any, tmp_path: Any) -> None:
    artifact = made_int8(unbalanced, freeze(unbalanced.model, SIDE, SIDE), tmp_path)
    assert artifact.attempts[-1].good, [(each.words, each.verdict.drop_points) for each in artifact.attempts]
    assert [each.repair.tuned for each in artifact.attempts] == [False, False, False, False, True]
    assert artifact.verdict == artifact.attempts[-1].verdict
    assert artifact.left_out == ""


def test_a_network_that_is_onnx_already_is_not_tuned(unbalanced: Any, tmp_path: Any) -> None:
    foreign = made_int8(unbalanced, onnx.convert(freeze(unbalanced.model, SIDE, SIDE), "float32", ()), tmp_path)
    assert [each.words for each in foreign.attempts] == ["as always", "clipped ranges"]
    assert not any(each.good for each in foreign.attempts)
    assert foreign.left_out == "fine-tuning (QAT): the network is ONNX already"


@pytest.mark.parametrize("source", ["tflite", "onnx", "onnx already"])
def test_a_head_that_is_trained_again_makes_up_for_the_maps(dense_at_the_end: Any, tmp_path: Any, source: str) -> None:
    network, format = freeze(dense_at_the_end.model, SIDE, SIDE), source.partition(" ")[0]
    network = onnx.convert(network, "float32", ()) if "already" in source else network
    artifact = made_int8(dense_at_the_end, network, tmp_path, format=format)
    before, after = artifact.attempts[-2:]
    assert after.words == "head trained again"
    assert after.good, str(after)
    assert after.verdict.drop_points < before.verdict.drop_points / 2
    assert after.size_mb == pytest.approx(before.size_mb, rel=0.05)


def test_an_interrupted_fine_tuning_leaves_what_was_there(unbalanced: Any, tmp_path: Any) -> None:
    earlier = tmp_path / "unbalanced-int8.onnx"
    earlier.write_bytes(b"of an earlier export")

    def interrupt(what: str, done: int, total: int) -> None:
        if done == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        made_int8(unbalanced, freeze(unbalanced.model, SIDE, SIDE), tmp_path, interrupt)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"of an earlier export"]
