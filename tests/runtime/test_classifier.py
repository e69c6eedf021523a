"""Classifier, reading and writing artifacts, in both formats and with the real engines."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn_runtime import Classifier, Contract
from edgecnn_runtime.backends import PIXELS, Scaling, module_for
from edgecnn_runtime.classifier import _probabilities, read_artifact, write_artifact
from edgecnn_runtime.contract import Decision, Provenance
from edgecnn_runtime.decode import Picture
from edgecnn_runtime.errors import ModelError, PictureError

RGB = {"red": (220, 0, 0), "green": (0, 220, 0), "blue": (0, 0, 220)}


def flat(rgb: tuple[int, int, int]) -> Picture:
    return np.full((48, 64, 3), rgb, np.uint8)


def test_it_says_the_colour_of_arrays_files_and_bytes(artifact: Path, tmp_path: Path) -> None:
    classifier = Classifier.load(artifact, threads=2)
    for label, rgb in RGB.items():
        path = tmp_path / f"{label}.png"
        cv2.imwrite(str(path), flat(rgb)[..., ::-1])
        for image in (flat(rgb), path, str(path), path.read_bytes()):
            result = classifier.classify(image)
            assert result.label == label
            assert result.probability == result.probabilities.max() > 0.9
        assert classifier.classify(flat(rgb)[..., ::-1], color="bgr").label == label
        assert result.top(1)[0].label == label
        assert result.top(99)[0].label == label
        assert len(result.top(99)) == 3


def test_the_result_is_typed_and_timed(artifact: Path) -> None:
    result = Classifier.load(artifact).classify(flat((120, 120, 120)))
    assert (result.probabilities.dtype, result.probabilities.shape) == (np.float32, (3,))
    assert result.probabilities.sum() == pytest.approx(1.0, abs=0.02)
    assert result.probability < 1.0
    assert result.labels == ("red", "green", "blue")
    assert result.timings.decode_ms == 0.0
    assert result.timings.total_ms == pytest.approx(result.timings.preprocess_ms + result.timings.inference_ms)


def test_both_formats_and_precisions_agree(
    tiny_artifact: Path, tiny_onnx: Path, tiny_float_graph: bytes, tiny_contract: Contract
) -> None:
    classifiers = [
        Classifier.load(tiny_artifact),
        Classifier.load(tiny_onnx),
        Classifier(tiny_float_graph, tiny_contract, module_for("x.tflite")),
    ]
    picture = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8) // (1, 2, 3)
    answers = [classifier.classify(picture.astype(np.uint8)) for classifier in classifiers]
    assert {answer.label for answer in answers} == {"red"}


def test_the_threshold_and_clones(artifact: Path) -> None:
    classifier = Classifier.load(artifact)
    classifier.reject_threshold = 1.0
    clone = classifier.clone()
    for one in (classifier, clone):
        assert one.classify(flat((120, 120, 120))).label is None
    clone.reject_threshold = 0.0
    assert clone.classify(flat(RGB["red"])).label == "red"
    assert classifier.reject_threshold == 1.0


def test_the_selftest_passes_and_sees_a_wrong_device(artifact: Path) -> None:
    classifier = Classifier.load(artifact)
    assert len(classifier.contract.goldens) == 4
    assert classifier.selftest() < 0.5
    classifier.preprocess = lambda picture, color="rgb": Classifier.preprocess(classifier, picture, "bgr")  # type: ignore[method-assign]
    with pytest.raises(ModelError, match=r"self-test failed: a probability differs by .* times its tolerance"):
        classifier.selftest()


def test_an_artifact_is_one_file_that_comes_back_the_same(artifact: Path, tmp_path: Path) -> None:
    graph, contract, module = read_artifact(artifact)
    copy = tmp_path / artifact.name
    assert write_artifact(copy, graph, contract) == contract
    assert copy.read_bytes() == artifact.read_bytes()
    assert os.listdir(tmp_path) == [artifact.name]
    assert module is module_for(artifact)


def test_a_failed_write_leaves_nothing(tmp_path: Path, tiny_graph: bytes, tiny_contract: Contract) -> None:
    target = tmp_path / "a.tflite"
    target.mkdir()
    with pytest.raises(OSError, match=r"a\.tflite"):
        write_artifact(target, tiny_graph, tiny_contract)
    assert os.listdir(tmp_path) == ["a.tflite"]


def test_other_tools_find_the_labels(tiny_artifact: Path) -> None:
    with zipfile.ZipFile(tiny_artifact) as files:
        assert files.read("labels.txt").decode().split() == ["red", "green", "blue"]


def test_labels_in_any_script(tmp_path: Path, tiny_graph: bytes, tiny_contract: Contract) -> None:
    labels = ("crème brûlée", "寿司", "شاي 1")
    path = tmp_path / "élan vital.tflite"
    write_artifact(path, tiny_graph, replace(tiny_contract, labels=labels))
    assert Classifier.load(path).classify(flat(RGB["green"])).label == "寿司"


def alter_last(data: bytes) -> bytes:
    return data[:-1]


def alter_weights(data: bytes) -> bytes:
    return data[:300] + bytes([data[300] ^ 1]) + data[301:]


def alter_label(data: bytes) -> bytes:
    return data.replace(b'"green"', b'"grean"')


@pytest.mark.parametrize("alter", [alter_last, alter_weights, alter_label, lambda data: data[: len(data) // 2]])
def test_an_altered_artifact_is_refused(artifact: Path, tmp_path: Path, alter: Callable[[bytes], bytes]) -> None:
    path = tmp_path / artifact.name
    path.write_bytes(alter(artifact.read_bytes()))
    with pytest.raises(ModelError, match=r"truncated|damaged|altered|leads outside") as caught:
        Classifier.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("missing.tflite", None, "cannot be read: No such file"),
        ("model.h5", b"x", r"not a model file \(known: .onnx, .tflite\)"),
        ("empty.tflite", b"", "not a TFLite model"),
        ("empty.onnx", b"", "not an ONNX model"),
        ("page.tflite", b"<html>not found</html>", "not a TFLite model"),
        ("page.onnx", b"<html>not found</html>", "ONNX model is damaged"),
    ],
)
def test_what_is_no_model_is_one_line(tmp_path: Path, name: str, data: bytes | None, words: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ModelError, match=words):
        Classifier.load(tmp_path / name)


def foreign(tmp_path: Path, graph: bytes, suffix: str) -> Path:
    path = tmp_path / f"foreign{suffix}"
    path.write_bytes(graph)
    return path


def test_foreign_models_run_by_what_is_stated(
    tmp_path: Path, tiny_graph: bytes, tiny_float_graph: bytes, tiny_onnx_graph: bytes, tiny_contract: Contract
) -> None:
    for index, (graph, suffix) in enumerate(
        [(tiny_graph, ".tflite"), (tiny_float_graph, ".TFLITE"), (tiny_onnx_graph, ".onnx")]
    ):
        folder = tmp_path / str(index)
        folder.mkdir()
        path = foreign(folder, graph, suffix)
        with pytest.raises(ModelError, match="has no edgecnn contract"):
            Classifier.load(path)
        classifier = Classifier.load_foreign(path, tiny_contract, PIXELS)
        assert [classifier.classify(flat(rgb)).label for rgb in RGB.values()] == list(RGB)


def test_the_stated_range_reaches_the_network(tmp_path: Path, tiny_float_graph: bytes, tiny_contract: Contract) -> None:
    path = foreign(tmp_path, tiny_float_graph, ".tflite")
    inverted = Classifier.load_foreign(path, tiny_contract, Scaling(255.0, 0.0))
    assert inverted.classify(flat((0, 220, 220))).label == "red"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"height": 64}, "has input 32x32 px and 3 outputs, stated are 64x32 px and 3"),
        ({"labels": ("a", "b")}, "stated are 32x32 px and 2"),
    ],
)
def test_a_foreign_model_that_is_otherwise_than_stated(
    tmp_path: Path, tiny_graph: bytes, tiny_contract: Contract, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        Classifier.load_foreign(
            foreign(tmp_path, tiny_graph, ".tflite"),
            replace(tiny_contract, **changes),
            PIXELS,  # type: ignore[arg-type]
        )


def test_an_artifacts_own_contract_may_not_be_overruled(artifact: Path, tiny_contract: Contract) -> None:
    with pytest.raises(ModelError, match="carries its own contract"):
        Classifier.load_foreign(artifact, tiny_contract, PIXELS)


def test_an_unreadable_picture_is_a_picture_error(artifact: Path, tmp_path: Path) -> None:
    classifier = Classifier.load(artifact)
    for image in (b"nothing", str(tmp_path / "missing.png"), np.zeros((2, 2), np.int32)):
        with pytest.raises(PictureError):
            classifier.classify(image)  # type: ignore[arg-type]


def probabilities(outputs: list[float], logits: bool = False, temperature: float = 1, sigmoid: bool = False) -> object:
    classes = 2 if sigmoid else len(outputs)
    contract = Contract(
        height=1,
        width=1,
        labels=tuple("abcdefgh"[:classes]),
        provenance=Provenance("net", "float32"),
        activation="sigmoid" if sigmoid else "softmax",
        decision=Decision(temperature=temperature),
    )
    return _probabilities(np.array(outputs, np.float32), contract, logits)


def test_postprocessing() -> None:
    assert probabilities([0.1, 0.9]) == pytest.approx([0.1, 0.9])
    assert probabilities([0.3], sigmoid=True) == pytest.approx([0.7, 0.3])
    assert probabilities([1000.0, 0.0], logits=True) == pytest.approx([1.0, 0.0])
    logits = np.array([2.0, 1.0, -1.0])
    softened = np.exp(logits / 2) / np.exp(logits / 2).sum()
    assert probabilities(list(logits), logits=True, temperature=2.0) == pytest.approx(softened, abs=1e-6)
    assert probabilities([-0.004, 1.003]) == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize("outputs", [[3.0, 4.0], [0.1, 0.1], [-0.5, 1.5]])
def test_outputs_that_are_no_probabilities_ask_for_logits(outputs: list[float]) -> None:
    with pytest.raises(ModelError, match="for logits state --logits"):
        probabilities(outputs)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_not_finite(bad: float) -> None:
    with pytest.raises(ModelError, match="not finite"):
        probabilities([bad, 0.0], logits=True)
