"""Another model in the file's place while the loop runs: real files, a real engine, the fake camera."""

from __future__ import annotations

import gc
import os
import shutil
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecnn_converters.goldens import make_goldens
from edgecnn_runtime import Classifier, Contract
from edgecnn_runtime.backends import module_for
from edgecnn_runtime.classifier import read_artifact, write_artifact
from edgecnn_runtime.errors import ModelError
from edgecnn_runtime.live import artifact as artifact_module
from edgecnn_runtime.live.artifact import ArtifactFile
from edgecnn_runtime.live.capture import open_frames
from edgecnn_runtime.live.decision import Rules
from edgecnn_runtime.live.loop import Tuning, run
from edgecnn_runtime.live.observation import Observation
from edgecnn_runtime.live.stats import Stats

SPANISH = ("rojo", "verde", "azul")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact_module, "_LOOK_S", 0.05)


@pytest.fixture
def place(tmp_path: Path, tiny_artifact: Path) -> Path:
    """The file that the loop watches."""
    return Path(shutil.copy(tiny_artifact, tmp_path / "model.tflite"))


@pytest.fixture
def spanish(tmp_path: Path, tiny_artifact: Path) -> Path:
    """The same network with other labels, another temperature and another threshold."""
    path = tmp_path / "spanish.tflite"
    graph, contract, module = read_artifact(tiny_artifact)
    decision = replace(contract.decision, temperature=2.0, reject_threshold=0.25)
    contract = replace(contract, labels=SPANISH, decision=decision, goldens=())
    goldens = make_goldens(Classifier(graph, contract, module))
    write_artifact(path, graph, replace(contract, goldens=goldens))
    return path


def put(source: Path, place: Path) -> None:
    """As users are told to: copied beside, and renamed."""
    beside = place.with_name("beside")
    shutil.copy(source, beside)
    os.replace(beside, place)


class Script:
    """A view that checks every answer, and does the next thing of a list when the one before has happened."""

    def __init__(self, place: Path, models: list[Path], limit_s: float = 60) -> None:
        self.place, self.waiting = place, list(models)
        self.classifiers = [Classifier.load(place)]  # of the models in the order in which they take over
        self.seen: list[Observation] = []
        self._end_s = time.monotonic() + limit_s

    def show(self, observation: Observation) -> bool:
        self.seen.append(observation)
        model, result = observation.model, observation.result
        assert model is not None
        if model.number == len(self.classifiers) - 1 and self.waiting:
            source = self.waiting.pop(0)
            self.classifiers.append(Classifier.load(source))
            put(source, self.place)
        own = self.classifiers[model.number]
        assert result.labels == own.contract.labels == model.contract.labels
        own.reject_threshold = 0.0
        assert np.array_equal(own.classify(observation.frame.picture, "bgr").probabilities, result.probabilities)
        assert observation.decision.label in (None, *result.labels)
        assert time.monotonic() < self._end_s
        return model.number < len(self.classifiers) - 1 or bool(self.waiting)

    def wait(self, stats: Stats) -> bool:
        return True

    def close(self) -> None:
        pass


def watched(place: Path, lines: list[str]) -> ArtifactFile:
    return ArtifactFile(place, lambda: Classifier.load(place), lines.append)


def test_models_take_over_one_after_the_other_and_no_answer_mixes_two(
    place: Path, spanish: Path, tiny_artifact: Path
) -> None:
    lines: list[str] = []
    view = Script(place, [spanish, tiny_artifact] * 3)
    with open_frames("fake:") as frames, watched(place, lines) as file:
        run(file, frames, [view])
    assert [seen.model.number for seen in view.seen if seen.model] == sorted(
        seen.model.number for seen in view.seen if seen.model
    )
    assert len(lines) == 6
    assert lines[0] == f"{place}: replaced, answers come from tiny int8, 3 labels now"
    firsts = {seen.model.number: seen for seen in reversed(view.seen) if seen.model}
    for number, first in firsts.items():  # the decision begins anew: it is that of one frame
        assert np.array_equal(first.decision.smoothed, first.result.probabilities), number


@pytest.mark.slow
def test_a_hundred_swaps_give_no_wrong_answer(place: Path, spanish: Path, tiny_artifact: Path) -> None:
    view = Script(place, [spanish, tiny_artifact] * 50, limit_s=300)
    with open_frames("fake:") as frames, watched(place, []) as file:
        run(file, frames, [view])
        assert file.model.number == 100


@pytest.mark.parametrize(("chosen", "expected"), [(None, 0.25), (0.6, 0.6), (0.0, 0.0)])  # the first model's is 0 too
def test_the_next_models_threshold_holds_unless_somebody_has_set_another(
    place: Path, spanish: Path, chosen: float | None, expected: float
) -> None:
    tuning = Tuning(Rules.of(Classifier.load(place)), follows_model=True)
    if chosen is not None:
        tuning.change(threshold=chosen)
    with open_frames("fake:") as frames, watched(place, []) as file:
        run(file, frames, [Script(place, [spanish])], tuning)
    assert (tuning.rules.threshold, tuning.rules.labels) == (expected, SPANISH)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def altered(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 0xFF
    path.write_bytes(data)


def newer(path: Path) -> None:
    graph, contract, module = read_artifact(path)
    text = contract.to_json().replace('"edgecnn_contract": 1', '"edgecnn_contract": 9')
    assert text != contract.to_json()
    path.write_bytes(module.join(graph, text, contract.labels))


def other_answers(path: Path) -> None:
    """A whole file that computes something else than its goldens say."""
    graph, contract, _ = read_artifact(path)
    wrong = tuple(replace(golden, probabilities=golden.probabilities[::-1]) for golden in contract.goldens)
    write_artifact(path, graph, replace(contract, goldens=wrong))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def test_the_first_model_too_must_pass_its_self_test(place: Path) -> None:
    other_answers(place)
    with pytest.raises(ModelError, match=f"^{place}: self-test failed"):
        watched(place, [])


@pytest.mark.parametrize("spoil", [truncated, altered, newer, other_answers, empty])
def test_a_bad_file_is_refused_in_one_line_and_a_good_one_after_it_is_taken(
    place: Path, spanish: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    bad = Path(shutil.copy(spanish, tmp_path / "bad.tflite"))
    spoil(bad)
    lines: list[str] = []

    class Spoiled(Script):
        def show(self, observation: Observation) -> bool:
            if not self.seen:
                put(bad, self.place)
            elif observation.model and observation.model.refused and not self.waiting and len(self.classifiers) == 1:
                assert observation.result.labels == ("red", "green", "blue")
                self.waiting = [spanish]
            super().show(observation)
            return len(self.classifiers) == 1 or observation.model is None or observation.model.number < 1

    view = Spoiled(place, [])
    with open_frames("fake:") as frames, watched(place, lines) as file:
        run(file, frames, [view])
    assert len(lines) == 2, lines
    assert "the new file is refused, and the model before goes on until a restart: " in lines[0]
    assert "\n" not in lines[0]
    assert lines[0].count(str(place)) == 1
    last = view.seen[-1].model
    assert last is not None
    assert (last.refused, last.contract.labels) == ("", SPANISH)


def test_a_file_that_is_being_written_is_left_alone_until_it_is_whole(place: Path, spanish: Path) -> None:
    lines: list[str] = []
    data = spanish.read_bytes()
    with watched(place, lines) as file:
        with place.open("wb") as growing:
            for start in range(0, len(data), 1 + len(data) // 40):
                growing.write(data[start : start + 1 + len(data) // 40])
                growing.flush()
                time.sleep(0.01)
        end_s = time.monotonic() + 30
        while not file.renew():
            assert time.monotonic() < end_s
            time.sleep(0.01)
        assert file.classifier.contract.labels == SPANISH
    assert lines[-1].endswith("answers come from tiny int8, 3 labels now")


def test_a_file_that_is_gone_for_a_while_changes_nothing(place: Path, spanish: Path) -> None:
    lines: list[str] = []
    with watched(place, lines) as file:
        place.unlink()
        time.sleep(0.3)
        assert not file.renew()
        put(spanish, place)
        end_s = time.monotonic() + 30
        while not file.renew():
            assert time.monotonic() < end_s
            time.sleep(0.01)
    assert len(lines) == 1


def test_the_engine_of_a_model_that_was_replaced_is_freed(place: Path, spanish: Path, tiny_artifact: Path) -> None:
    engines: list[weakref.ref[Classifier]] = []

    def load() -> Classifier:
        classifier = Classifier.load(place)
        engines.append(weakref.ref(classifier))
        return classifier

    with open_frames("fake:") as frames, ArtifactFile(place, load, lambda line: None) as file:
        run(file, frames, [Script(place, [spanish, tiny_artifact] * 2)])
        gc.collect()
        assert [engine() is not None for engine in engines] == [False] * 4 + [True]


def test_the_watch_ends_with_the_run(place: Path) -> None:
    with watched(place, []):
        assert any(thread.name == "watch model.tflite" for thread in threading.enumerate())
    end_s = time.monotonic() + 10
    while any(thread.name == "watch model.tflite" for thread in threading.enumerate()):
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_models_of_another_number_of_classes_take_over(
    tmp_path: Path, tiny_onnx: Path, tiny_onnx_graph: bytes, tiny_contract: Contract
) -> None:
    from onnx import helper, load_from_string, numpy_helper

    model = load_from_string(tiny_onnx_graph)
    weights = next(one for one in model.graph.initializer if one.name == "dense")
    weights.CopyFrom(numpy_helper.from_array(np.eye(3, 5, dtype=np.float32) * 4, "dense"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("probabilities", 1, [1, 5]))
    path = tmp_path / "five.onnx"
    contract = replace(tiny_contract, labels=(*tiny_contract.labels, "black", "white"))
    graph = bytes(model.SerializeToString())
    goldens = make_goldens(Classifier(graph, contract, module_for(path)))
    write_artifact(path, graph, replace(contract, goldens=goldens))
    place = Path(shutil.copy(tiny_onnx, tmp_path / "model.onnx"))
    with open_frames("fake:") as frames, watched(place, []) as file:
        run(file, frames, [Script(place, [path, tiny_onnx, path])])
        assert len(file.classifier.contract.labels) == 5
