"""SavedModels made elsewhere: their serving signature, and which programs are refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from edgecnn_converters import formats
from edgecnn_converters.sources import Normalization, Stated
from edgecnn_converters.sources.saved_model import read
from edgecnn_runtime.backends import PIXELS, module_for
from edgecnn_runtime.errors import ModelError

PICTURES = list(np.random.default_rng(5).integers(0, 256, (5, 14, 18, 3), dtype=np.uint8))
STATED = Stated(None, Normalization.from_range(-1, 1), True)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(2)
    wide = keras.initializers.RandomNormal(stddev=4.0)
    return keras.Sequential(
        [
            keras.Input((14, 18, 3)),
            keras.layers.Conv2D(8, 3, padding="same", activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.4),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, kernel_initializer=wide),
        ]
    )


@pytest.fixture(scope="module")
def exported(network: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What model.export writes. Tests must not alter it."""
    path = tmp_path_factory.mktemp("saved") / "net"
    network.export(path, verbose=False)
    return path


def test_files_say_what_the_signature_says(exported: Path, network: keras.Model, tmp_path: Path) -> None:
    tf.saved_model.save(network, str(tmp_path / "saved"))
    expected = tf.nn.softmax(network(np.stack(PICTURES) / np.float32(127.5) - 1, training=False)).numpy()
    for path in (exported, tmp_path / "saved"):
        source = read(path, STATED)
        assert (source.height, source.width, source.outputs) == (14, 18, 3)
        np.testing.assert_allclose(source.ask(PICTURES), expected, atol=1e-5)
        for format in source.formats:
            graph = formats.get(format).convert(source.function, "float32", ())
            backend = module_for(f"a.{format}").load(graph, 1, PIXELS)
            found = np.stack([backend.run(picture) for picture in PICTURES])
            np.testing.assert_allclose(found, expected, atol=1e-4)


class Program(tf.Module):
    """Does something besides its answer."""

    def __init__(self, deed: Any) -> None:
        super().__init__()
        self.deed = deed

    @tf.function(input_signature=[tf.TensorSpec((None, 14, 18, 3), tf.float32)])  # type: ignore[untyped-decorator]
    def __call__(self, x: Any) -> Any:
        return tf.reduce_mean(x, [1, 2]) + self.deed(x)


def _write(x: Any) -> Any:
    tf.io.write_file("/tmp/edgecnn-was-here", "x")
    return 0.0


@tf.function  # type: ignore[untyped-decorator]
def _inside(x: Any) -> Any:
    return tf.cond(tf.reduce_sum(x) > 0, lambda: _write(x), lambda: 0.0)


@pytest.mark.parametrize(
    ("deed", "operator"),
    [
        (_write, "WriteFile"),
        (_inside, "WriteFile"),
        (lambda x: tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32), "ReadFile"),
        (lambda x: tf.cast(tf.size(tf.io.matching_files("/etc/*")), tf.float32), "MatchingFiles"),
        (lambda x: tf.py_function(lambda: 0.0, [], tf.float32), "EagerPyFunc"),
        (
            lambda x: tf.raw_ops.ImmutableConst(dtype=tf.float32, shape=[1], memory_region_name="/etc/hostname"),
            "Immutable",
        ),
    ],
    ids=["writes", "writes inside a branch", "reads", "lists", "Python", "maps"],
)
def test_programs_that_reach_outside_are_not_loaded(tmp_path: Path, deed: Any, operator: str) -> None:
    program = Program(deed)
    tf.saved_model.save(program, str(tmp_path / "net"), signatures=program.__call__)
    with pytest.raises(ModelError, match=f"has the operator {operator}.*, which reaches outside the network"):
        read(tmp_path / "net", STATED)
    assert not Path("/tmp/edgecnn-was-here").exists()


class Deed(tf.saved_model.experimental.TrackableResource):  # type: ignore[misc]
    """What TensorFlow creates and initializes while it loads, as it does with tables."""

    def __init__(self, path: str) -> None:
        super().__init__(device="")
        self._path = path

    @tf.function  # type: ignore[untyped-decorator]
    def _create_resource(self) -> Any:
        return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[])

    @tf.function  # type: ignore[untyped-decorator]
    def _initialize(self) -> None:
        tf.io.write_file(self._path, "x")

    @tf.function  # type: ignore[untyped-decorator]
    def _destroy_resource(self) -> None:
        pass


def _writes(model: Any) -> list[str]:
    functions = model.meta_graphs[0].graph_def.library.function
    return [each.signature.name for each in functions if any(node.op == "WriteFile" for node in each.node_def)]


def _as_saved(model: Any) -> None:
    pass


def _not_listed(model: Any) -> None:
    for name in _writes(model):
        model.meta_graphs[0].object_graph_def.concrete_functions.pop(name, None)


def _named_alone(model: Any) -> None:
    """As the only function of its object, which is not listed."""
    objects = model.meta_graphs[0].object_graph_def
    writer = _writes(model)[0]
    nodes = [node for node in objects.nodes if any("init" in name for name in node.function.concrete_functions)]
    assert nodes
    for node in nodes:
        node.bare_concrete_function.concrete_function_name = writer
    for name in [name for name in objects.concrete_functions if "initialize" in name]:
        del objects.concrete_functions[name]


def _named_twice(model: Any) -> None:
    library = model.meta_graphs[0].graph_def.library
    harmless = next(each for each in library.function if each.signature.name not in _writes(model))
    again = library.function.add()
    again.CopyFrom(harmless)
    again.signature.name = _writes(model)[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_as_saved, "has the operator WriteFile"),
        (_not_listed, "has the operator WriteFile"),
        (_named_alone, "has the operator WriteFile"),
        (_named_twice, "has two functions of one name"),
    ],
)
def test_what_loading_itself_would_run_is_looked_at_too(tmp_path: Path, change: Any, message: str) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    program = Program(lambda x: 0.0)
    program.resource = Deed(str(tmp_path / "was here"))
    tf.saved_model.save(program, str(tmp_path / "net"), signatures=program.__call__)
    path = tmp_path / "net" / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    assert _writes(model)
    change(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=message):
        read(tmp_path / "net", STATED)
    assert not (tmp_path / "was here").exists()


def test_damaged_and_unusable_ones_are_refused(exported: Path, tmp_path: Path) -> None:
    def copy() -> Path:
        shutil.rmtree(tmp_path / "net", ignore_errors=True)
        return Path(shutil.copytree(exported, tmp_path / "net"))

    path = copy()
    (path / "saved_model.pb").write_bytes((path / "saved_model.pb").read_bytes()[:3000])
    with pytest.raises(ModelError, match="is damaged or incomplete"):
        read(path, STATED)
    path = copy()
    shutil.rmtree(path / "variables")
    with pytest.raises(ModelError, match="is damaged or incomplete"):
        read(path, STATED)
    bare = tf.Module()
    tf.saved_model.save(bare, str(tmp_path / "bare"))
    with pytest.raises(ModelError, match="no serving signature"):
        read(tmp_path / "bare", STATED)
    (tmp_path / "bare" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ModelError, match="TensorFlow 1"):
        read(tmp_path / "bare", STATED)


def test_random_layers_name_the_way_out(tmp_path: Path) -> None:
    layers = [keras.Input((14, 18, 3)), keras.layers.RandomFlip(), keras.layers.GlobalAveragePooling2D()]
    keras.Sequential(layers).export(tmp_path / "net", verbose=False)
    with pytest.raises(
        ModelError, match=r"layers of random augmentation do in a SavedModel; save it as \.keras instead"
    ):
        read(tmp_path / "net", STATED)
