"""Tiny real models for every test: they say red, green or blue, and need no TensorFlow."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgecnn_converters.goldens import make_goldens
from edgecnn_runtime import Classifier, Contract
from edgecnn_runtime.backends import module_for
from edgecnn_runtime.classifier import write_artifact
from edgecnn_runtime.contract import Preprocessing, Provenance

# A shell starts what it puts in the background with Ctrl-C ignored, and every process that a test starts inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

GOLDEN = Path(__file__).parent / "runtime" / "golden"


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nothing that a test does is kept in the user's own cache; processes that tests start inherit this too."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("EDGECNN_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def make_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """Makes an environment of its own for packages that do not fit into this one, and gives its Python; skips the test
    where pip cannot fetch them."""

    folders = []

    def make(*packages: str) -> Path:
        folder = tmp_path_factory.mktemp("environment")
        folders.append(folder)
        venv.create(folder, with_pip=False, symlinks=True)
        python = folder / "bin" / "python"
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--prefer-binary"]
        done = subprocess.run([*pip, *packages], capture_output=True, text=True, timeout=600)
        if done.returncode:
            pytest.skip(f"pip cannot fetch {packages[0]}: {done.stderr.strip().splitlines()[-1]}")
        return python

    yield make
    for folder in folders:  # hundreds of megabytes
        shutil.rmtree(folder)


@dataclass(frozen=True)
class Unbalanced:
    """A network two of whose maps have channels a thousand times larger than others, for which the next layer makes up:
    in 8 bits with one scale for a map, little is left of the small ones.

    Attributes:
        model: ``(N, 12, 12, 3)`` float32 RGB 0-255 to ``(N, 3)`` probabilities.
        pictures: ``(500, 12, 12, 3)`` uint8.
        expected: ``(500, 3)`` float32, the model's probabilities.
    """

    model: Any
    pictures: np.ndarray
    expected: np.ndarray


@pytest.fixture(scope="session")
def unbalanced() -> Unbalanced:
    """One that nothing but fine-tuning helps: the maps are sums, by which channels cannot be equalized, and no dense
    layer comes last, which could be trained again."""
    return _unbalanced(summed=True, dense=False)


@pytest.fixture(scope="session")
def equalizable() -> Unbalanced:
    return _unbalanced(summed=False, dense=True)


@pytest.fixture(scope="session")
def dense_at_the_end() -> Unbalanced:
    """One whose maps are sums, but whose last layer can be trained again."""
    return _unbalanced(summed=True, dense=True)


def _unbalanced(summed: bool, dense: bool) -> Unbalanced:
    import keras
    from keras import layers

    side, channels = 12, 16
    coarse = np.random.default_rng(3).integers(0, 256, (500, 3, 3, 3), dtype=np.uint8)
    pictures = np.stack([cv2.resize(each, (side, side), interpolation=cv2.INTER_LINEAR) for each in coarse])
    batch = pictures.astype(np.float32)
    keras.utils.set_random_seed(2)
    inputs = keras.Input((side, side, 3))
    x = layers.Conv2D(channels, 3, padding="same", activation="relu")(layers.Rescaling(1 / 255)(inputs))
    pairs = [(layers.Conv2D(channels, 1), layers.Conv2D(channels, 3, padding="same", activation="relu")) for _ in "12"]
    for wide, narrow in pairs:
        x = narrow(layers.Add()([wide(x), wide(layers.MaxPooling2D(3, 1, "same")(x))]) if summed else wide(x))
    pooled = layers.GlobalAveragePooling2D()
    x = layers.Dense(3)(pooled(x)) if dense else pooled(layers.Conv2D(3, 1)(x))
    model = keras.Model(inputs, layers.Softmax()(x))
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    model.fit(batch, batch.mean((1, 2)).argmax(1), batch_size=50, epochs=12, verbose=0)  # which colour is the brightest
    rng = np.random.default_rng(2)
    for wide, narrow in pairs:
        factor = rng.permutation(np.geomspace(1, 1000, channels)).astype(np.float32)
        wide.set_weights([each * factor for each in wide.get_weights()])
        kernel, bias = narrow.get_weights()
        narrow.set_weights([kernel / factor[:, np.newaxis], bias])
    model = keras.Model(model.input, model.output)  # as a file has it, without an optimizer
    return Unbalanced(model, pictures, np.asarray(model(batch, training=False)))


@pytest.fixture(scope="session")
def tiny_contract() -> Contract:
    """What the tiny models expect and mean, without goldens and without the hash of a graph."""
    return Contract(
        height=32,
        width=32,
        labels=("red", "green", "blue"),
        provenance=Provenance(backbone="tiny", precision="int8", weights="by hand"),
        preprocessing=Preprocessing(fit="squash"),
    )


@pytest.fixture(scope="session")
def tiny_graph() -> bytes:
    """A TFLite graph without a contract: ``(1, 32, 32, 3)`` uint8, three probabilities; int8 inside."""
    return (GOLDEN / "tiny-int8.tflite").read_bytes()


@pytest.fixture(scope="session")
def tiny_float_graph() -> bytes:
    """The same with float32 input and weights."""
    return (GOLDEN / "tiny-float32.tflite").read_bytes()


@pytest.fixture(scope="session")
def tiny_onnx_graph() -> bytes:
    """An ONNX graph without a contract: ``(1, 32, 32, 3)`` float32 0-255, three probabilities."""
    from onnx import TensorProto, checker, helper, numpy_helper

    weights = {
        "scale": np.float32(1 / 127.5),
        "blur": np.full((3, 1, 3, 3), 1 / 9, np.float32),
        "dense": np.eye(3, dtype=np.float32) * 4,
        "flat": np.array([1, 3], np.int64),
    }
    nodes = [
        helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "blur"], ["soft"], group=3, pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["soft"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Reshape", ["pooled", "flat"], ["features"]),
        helper.make_node("MatMul", ["features", "dense"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 32, 32, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _artifact(path: Path, graph: bytes, contract: Contract) -> Path:
    goldens = make_goldens(Classifier(graph, contract, module_for(path)))
    write_artifact(path, graph, replace(contract, goldens=goldens))
    return path


@pytest.fixture(scope="session")
def tiny_artifact(tmp_path_factory: pytest.TempPathFactory, tiny_graph: bytes, tiny_contract: Contract) -> Path:
    """`tiny_graph` with contract and goldens. Tests must not alter the file."""
    return _artifact(tmp_path_factory.mktemp("tflite") / "tiny-int8.tflite", tiny_graph, tiny_contract)


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory, tiny_onnx_graph: bytes, tiny_contract: Contract) -> Path:
    """`tiny_onnx_graph` with contract and goldens. Tests must not alter the file."""
    contract = replace(tiny_contract, provenance=replace(tiny_contract.provenance, precision="float32"))
    return _artifact(tmp_path_factory.mktemp("onnx") / "tiny-float32.onnx", tiny_onnx_graph, contract)


@pytest.fixture(scope="session", params=["tiny_artifact", "tiny_onnx"])
def artifact(request: pytest.FixtureRequest) -> Path:
    """Both artifacts, one after the other."""
    path: Path = request.getfixturevalue(request.param)
    return path
