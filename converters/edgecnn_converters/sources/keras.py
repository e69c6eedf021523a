"""Keras models, .keras: what they would build is looked at first, and Keras reads them in its safe mode then.

Safe mode has been got round more than once, each time by something that no picture classifier needs.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgecnn_converters.sources import Source, Stated
from edgecnn_converters.sources._tensorflow import make_source
from edgecnn_runtime.errors import EdgecnnError, ModelError

_LAMBDA = {"Lambda", "__lambda__"}
_PROGRAMS = {
    "TFSMLayer",
    "TorchModuleWrapper",
    "JaxLayer",
    "FlaxLayer",
}  # layers that bring another framework's program
_FUNCTIONS = ("builtins", "keras.activations", "keras.src.activations", "keras.ops", "keras.src.ops")
_MOST_BYTES = 50_000_000  # of the text that describes a model
_MOST_PACKED = 3  # times; Keras does not pack weights, and float numbers hardly get smaller


def read(path: Path, stated: Stated) -> Source:
    """See `edgecnn_converters.sources.SourceModule.read`."""
    import keras

    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    try:
        _check_objects(path)
        model = _in_float32(keras.saving.load_model(path, compile=False, safe_mode=True))
        sources, sinks = model.inputs, model.outputs
    except EdgecnnError:
        raise
    except Exception as error:  # zipfile, h5py and Keras raise what they like
        raise ModelError(
            f"{path}: Keras cannot read it: it is damaged, of a newer version, or has layers that Keras lacks; "
            "write such a model by model.export('FOLDER') where it was made"
        ) from error
    if len(sources) != 1 or len(sinks) != 1:
        raise ModelError(
            f"{path}: a classifier has one input and one output (received: {len(sources)} and {len(sinks)})"
        )
    return make_source(path, lambda x: model(x, training=False), tuple(sources[0].shape), sources[0].dtype, stated)


def _in_float32(model: Any) -> Any:
    """The model as it is, or of one that was trained in mixed precision a copy that computes in float32 throughout, as
    the converters want it: `edgecnn train` makes the same of its own."""
    import keras

    if all(layer.compute_dtype == layer.variable_dtype == "float32" for layer in _layers(model)):
        return model

    def renewed(layer: Any) -> Any:
        if not isinstance(layer, keras.Layer):  # a sum or another operation, which computes in what it gets
            return layer
        config = {**layer.get_config(), "dtype": "float32"}
        if isinstance(layer, keras.layers.Wrapper):
            config["layer"] = keras.saving.serialize_keras_object(renewed(layer.layer))
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=renewed, recursive=True)
    copy.set_weights([weights.astype("float32") for weights in model.get_weights()])
    return copy


def _layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        yield from _layers(layer) if hasattr(layer, "layers") else [layer]


def _check_objects(path: Path) -> None:
    """Raises ModelError where the model asks for code in the file, or for anything that is not Keras' own."""
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo("config.json").file_size > _MOST_BYTES:
            raise ModelError(f"{path}: the description of the model is too large for a classifier")
        if sum(entry.file_size for entry in archive.infolist()) > _MOST_PACKED * path.stat().st_size + _MOST_BYTES:
            raise ModelError(f"{path}: would fill the memory when it is unpacked; save the model again by model.save")
        config = json.loads(archive.read("config.json"))
    for entry in _objects(config):
        name, module = str(entry["class_name"]), str(entry.get("module") or "keras")
        if name in _LAMBDA:
            raise ModelError(
                f"{path}: has a Lambda layer, which is code inside the file and is not run; put a layer of Keras' "
                "in its place, or write the model by model.export('FOLDER') where it was made"
            )
        allowed = _FUNCTIONS if name == "function" else ("keras", "builtins")
        if name in _PROGRAMS or not any(module == each or module.startswith(f"{each}.") for each in allowed):
            raise ModelError(
                f"{path}: has {f'{module}.{name}'!a:.100}, which is no layer of Keras' own and is not run; "
                "write the model by model.export('FOLDER') where it was made"
            )


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Everything in a description, at any depth, that Keras would build."""
    pending = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                yield value
            pending += value.values()
        elif isinstance(value, list):
            pending += value
