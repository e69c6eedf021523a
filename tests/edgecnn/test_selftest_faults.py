"""The self-test of trained artifacts detects eight of eight faults, and nothing where there is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn.data import embedded
from edgecnn_runtime import Classifier, classifier
from edgecnn_runtime.backends import module_for
from edgecnn_runtime.classifier import read_artifact, write_artifact

pytestmark = pytest.mark.long

VARIANTS = [f"{precision}.{format}" for format in ("tflite", "onnx") for precision in ("float32", "int8")]
MODELS = ("trained on photos of clothes", "pretrained, 1,000 classes")
_preprocess = classifier.preprocess


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, edgecnn: Callable[..., object]) -> dict[str, Path]:
    """The artifacts of either model, in all four variants."""
    folder = tmp_path_factory.mktemp("faults")
    data = embedded.unpack(folder)
    precisions = ("--precision", "float32", "--precision", "int8", "--json")
    for words in (
        ("train", data, "--size", 96, "--recipe", "fast", "--out", folder / "run", "--json"),
        ("export", folder / "run", *precisions),
        ("export", "--pretrained", "efficientnet_lite0", "--calibrate", data, "--out", folder / "1000", *precisions),
    ):
        process = edgecnn(*words)
        assert json.loads(process.stdout), process.stderr  # type: ignore[attr-defined]
    return dict(zip(MODELS, (folder / "run" / "artifacts", folder / "1000"), strict=True))


@pytest.fixture(params=[(model, variant) for model in MODELS for variant in VARIANTS], ids="-".join)
def path(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    model, variant = request.param
    return folders[model] / f"efficientnet_lite0-{variant}"


@pytest.fixture
def selftest(here: Callable[..., object]) -> Callable[[Path], str]:
    """What `edgecnn selftest` says of a file that is at fault; empty where it found nothing."""

    def run(path: Path) -> str:
        process = here("selftest", path)
        return process.stderr if process.returncode else ""  # type: ignore[attr-defined]

    return run


def _by(**changes: object) -> Callable[..., np.ndarray]:
    """The preprocessing of a program that does it otherwise than the contract says."""
    return lambda picture, own, *size: _preprocess(picture, replace(own, **changes), *size)


def _swapped(picture: np.ndarray, own: object, height: int, width: int, color: str) -> np.ndarray:
    return _preprocess(picture, own, height, width, "bgr" if color == "rgb" else "rgb")


def _divided(picture: np.ndarray, *others: object) -> np.ndarray:
    return _preprocess(picture, *others) // 255


PREPROCESSINGS = {
    "red and blue swapped": [_swapped],
    "divided by 255 twice": [_divided],
    "another crop": [_by(fit="crop", crop_fraction=f) for f in (0.7, 0.8)] + [_by(fit="squash"), _by(fit="pad")],
    "another resampling": [_by(resampling="linear")],
}


@pytest.mark.parametrize("fault", PREPROCESSINGS)
def test_another_preprocessing_is_detected(path, selftest, monkeypatch, fault):
    for wrong in PREPROCESSINGS[fault]:
        monkeypatch.setattr(classifier, "preprocess", wrong)
        assert "self-test failed: a probability differs by " in selftest(path)


def test_labels_in_another_order_are_detected(path, selftest, tmp_path):
    graph, contract, module = read_artifact(path)
    labels = (contract.labels[1], contract.labels[0], *contract.labels[2:])
    write_artifact(tmp_path / path.name, graph, replace(contract, labels=labels))
    assert "the order of its labels" in selftest(tmp_path / path.name)
    first, second = (json.dumps(label, ensure_ascii=False) for label in contract.labels[:2])
    edited = contract.to_json().replace(f"{first}, {second}", f"{second}, {first}", 1)
    (tmp_path / path.name).write_bytes(module.join(graph, edited, contract.labels))
    assert "the contract inside the file was altered" in selftest(tmp_path / path.name)


def test_the_contract_of_another_file_is_detected(path, folders, selftest, tmp_path):
    graph, own, module = read_artifact(path)
    for folder in folders.values():
        for other in folder.glob(f"*.{path.suffix[1:]}"):
            if other != path:
                _, contract, _ = read_artifact(other)
                write_artifact(tmp_path / path.name, graph, contract)
                assert selftest(tmp_path / path.name), other
                (tmp_path / path.name).write_bytes(module.join(graph, contract.to_json(), contract.labels))
                assert "altered or damaged after it was exported" in selftest(tmp_path / path.name)
    assert own == read_artifact(path)[1]


def test_corrupted_weights_are_detected(path, selftest, tmp_path):
    graph, contract, module = read_artifact(path)
    rng = np.random.default_rng(0)
    for count in (1, 64, 4096):
        wrong = bytearray(graph)
        start = int(rng.integers(len(graph) // 3, len(graph) // 2))
        wrong[start : start + count] = bytes(byte ^ 0x55 for byte in wrong[start : start + count])
        write_artifact(tmp_path / path.name, bytes(wrong), contract)
        assert selftest(tmp_path / path.name), "also with its hash made anew"
        (tmp_path / path.name).write_bytes(module.join(bytes(wrong), contract.to_json(), contract.labels))
        assert "altered or damaged after it was exported" in selftest(tmp_path / path.name)


def _disturbed(outputs: np.ndarray) -> np.ndarray:
    """As if the logits were off by a few tenths."""
    wrong = outputs * np.exp(np.random.default_rng(int(1e6 * outputs[0])).normal(0, 0.5, outputs.shape))
    return wrong / wrong.sum()


@pytest.mark.parametrize("fault", [np.flip, lambda outputs: np.roll(outputs, 1), _disturbed])
def test_wrong_output_of_the_engine_is_detected(path, selftest, monkeypatch, fault):
    engine = type(module_for(path).load(read_artifact(path)[0], 1, classifier.PIXELS))
    run = engine.run
    # ONNX: the session is asked once when it is made, for the number of its outputs.
    monkeypatch.setattr(engine, "run", lambda self, picture: fault(run(self, picture)).astype(np.float32))
    assert "self-test failed: a probability differs by " in selftest(path)


def test_nothing_is_detected_where_nothing_is_at_fault(path, here):
    for threads in (1, 2, 3, 4):
        process = here("selftest", path, "--threads", threads, "--json")
        assert process.returncode == 0, process.stderr
        assert json.loads(process.stdout)["worst"] <= 0.5


def _engines_otherwise(path: Path) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """The file in the same engine's other arithmetic: reference kernels, a graph that is not optimized."""
    graph = read_artifact(path)[0]
    table = Classifier.load(path)._backend._table
    if path.suffix == ".tflite":
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        interpreter = Interpreter(
            model_content=graph, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
        interpreter.allocate_tensors()
        (source,), (sink,) = interpreter.get_input_details(), interpreter.get_output_details()

        def run(pixels: np.ndarray) -> np.ndarray:
            values = pixels.astype(source["dtype"]) if table is None else table[pixels]
            interpreter.set_tensor(source["index"], values[np.newaxis])
            interpreter.invoke()
            return interpreter.get_tensor(sink["index"])[0]

        yield run
    else:
        import onnxruntime

        levels = onnxruntime.GraphOptimizationLevel
        for level in (levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_BASIC):
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = level
            session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            name, shape = session.get_inputs()[0].name, session.get_inputs()[0].shape

            def run(pixels: np.ndarray, session=session, name=name, shape=shape) -> np.ndarray:
                values = table[pixels].transpose(2, 0, 1) if shape[1] == 3 else table[pixels]
                return session.run(None, {name: values[np.newaxis]})[0][0]

            yield run


def test_an_engine_that_rounds_otherwise_passes(path):
    own = Classifier.load(path)
    for run in _engines_otherwise(path):
        for golden in own.contract.goldens:
            picture = cv2.imdecode(np.frombuffer(golden.picture(), np.uint8), cv2.IMREAD_COLOR)
            outputs = run(own.preprocess(picture, "bgr"))
            softened = classifier.apply_temperature(outputs, own.contract.decision.temperature)
            assert np.abs(softened - np.array(golden.probabilities)).max() <= golden.tolerance


def test_an_artifact_carries_at_most_150_kb_of_goldens(path):
    contract = read_artifact(path)[1]
    assert len(contract.goldens) == 4
    assert len(contract.to_json()) - len(replace(contract, goldens=()).to_json()) <= 150_000
