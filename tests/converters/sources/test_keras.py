"""Keras models made elsewhere: what they say is kept, and nothing in a file is run."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from edgecnn_converters import formats
from edgecnn_converters.sources import Normalization, Source, Stated
from edgecnn_converters.sources.keras import read
from edgecnn_runtime.backends import PIXELS, module_for
from edgecnn_runtime.errors import ModelError

HEIGHT, WIDTH = 14, 18
_COARSE = np.random.default_rng(5).integers(0, 256, (5, 2, 2, 3), dtype=np.uint8)
PICTURES = list(_COARSE.repeat(HEIGHT // 2, 1).repeat(WIDTH // 2, 2))
NORMALIZATION = Normalization.from_statistics((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))


def network(shape: tuple[int | None, ...], outputs: int = 3, kind: str = "float32", **last: Any) -> keras.Model:
    """Two convolutions with padding, so that the borders tell normalised black from zero."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input(shape, dtype=kind)
    x = keras.layers.Rescaling(1.0)(inputs)
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    x = keras.layers.Dropout(0.4)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(8, 3, padding="same", activation=keras.activations.silu)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    wide = keras.initializers.RandomNormal(stddev=4.0)
    return keras.Model(inputs, keras.layers.Dense(outputs, kernel_initializer=wide, **last)(x))


def save(folder: Path, model: keras.Model) -> Path:
    path = folder / "net.keras"
    model.save(path)
    return path


def artifact(source: Source, format: str) -> np.ndarray:
    backend = module_for(f"a.{format}").load(formats.get(format).convert(source.function, "float32", ()), 1, PIXELS)
    found = np.stack([backend.run(picture) for picture in PICTURES])
    return np.concatenate([1 - found, found], 1) if source.outputs == 1 else found


@pytest.mark.parametrize(
    ("model", "stated"),
    [
        (((HEIGHT, WIDTH, 3),), Stated(None, NORMALIZATION, True)),
        (((None, None, 1),), Stated((HEIGHT, WIDTH), NORMALIZATION, True)),
        (((HEIGHT, WIDTH, 3), 1), Stated(None, NORMALIZATION, True)),
    ],
    ids=["colour", "grey", "binary"],
)
def test_files_say_what_keras_says(tmp_path: Path, model: tuple[Any, ...], stated: Stated) -> None:
    made = network(*model)
    source = read(save(tmp_path, made), stated)
    values = (np.stack(PICTURES) / 255 - (0.4, 0.5, 0.6)) / (0.2, 0.3, 0.25)
    if model[0][2] == 1:  # the grey of what is normalised, since the three means differ
        values = (values @ np.array([0.299, 0.587, 0.114]))[..., np.newaxis]
    raw = np.asarray(made(values.astype(np.float32), training=False), np.float64)
    exponents = np.concatenate([np.ones_like(raw), np.exp(raw)], 1) if raw.shape[1] == 1 else np.exp(raw)
    expected = exponents / exponents.sum(1, keepdims=True)
    assert expected.std() > 0.03
    np.testing.assert_allclose(source.ask(PICTURES), expected, atol=1e-5)
    for format in source.formats:
        np.testing.assert_allclose(artifact(source, format), expected, atol=1e-4, err_msg=format)


def test_pixels_go_in_as_they_are_where_the_network_normalizes(tmp_path: Path) -> None:
    made = network((HEIGHT, WIDTH, 3), kind="uint8", activation="softmax")
    source = read(save(tmp_path, made), Stated(None, Normalization.from_range(0, 255)))
    expected = np.asarray(made(np.stack(PICTURES), training=False))
    np.testing.assert_allclose(source.ask(PICTURES), expected, atol=1e-6)
    np.testing.assert_allclose(artifact(source, "tflite"), expected, atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_what_was_trained_in_mixed_precision_computes_in_float32(tmp_path: Path, policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    try:
        inputs = keras.Input((HEIGHT, WIDTH, 3))
        x = keras.layers.Conv2D(3, 3, padding="same")(inputs) + inputs / 2
        x = keras.layers.TimeDistributed(keras.layers.Dense(3))(x)
        x = network((HEIGHT, WIDTH, 3), outputs=8)(keras.ops.relu(x))
        outer = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
        path = save(tmp_path, outer)
    finally:
        keras.config.set_dtype_policy("float32")
    source = read(path, Stated(None, Normalization.from_range(0, 1)))
    expected = np.asarray(outer(np.stack(PICTURES).astype(np.float32) / 255, training=False), np.float32)
    np.testing.assert_allclose(source.ask(PICTURES), expected, atol=0.05)
    for format in source.formats:
        np.testing.assert_allclose(artifact(source, format), source.ask(PICTURES), atol=1e-4, err_msg=format)


def test_what_would_fill_the_memory_is_not_unpacked(tmp_path: Path) -> None:
    path = save(tmp_path, network((HEIGHT, WIDTH, 3)))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("more", bytes(60_000_000))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(ModelError, match="would fill the memory"):
        read(path, Stated(None, NORMALIZATION, True))


def changed(path: Path, change: Any) -> Path:
    """The file with another description of the model."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(contents["config.json"])
    change(config["config"]["layers"])
    contents["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path


def call(module: str, name: str) -> Any:
    def change(layers: list[Any]) -> None:
        layers[2]["config"]["activation"] = {"module": module, "class_name": "function", "config": name}

    return change


def layer(module: str | None, name: str) -> Any:
    def change(layers: list[Any]) -> None:
        layers[1]["module"], layers[1]["class_name"] = module, name

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (layer("keras.layers", "Lambda"), "has a Lambda layer, which is code inside the file and is not run"),
        (layer("keras.layers", "TFSMLayer"), "no layer of Keras' own and is not run"),
        (layer("subprocess", "Popen"), "has 'subprocess.Popen', which is no layer of Keras' own"),
        (layer("kerasevil", "Layer"), "no layer of Keras' own"),
        (layer(None, "Mine"), "or has layers that Keras lacks"),
        (call("os", "system"), "has 'os.function', which is no layer of Keras' own"),
        (call("keras.saving", "load_model"), "no layer of Keras' own"),
        (call("keras.config", "enable_unsafe_deserialization"), "no layer of Keras' own"),
    ],
)
def test_nothing_that_is_not_keras_own_is_built(tmp_path: Path, change: Any, message: str) -> None:
    path = changed(save(tmp_path, network((HEIGHT, WIDTH, 3))), change)
    with pytest.raises(ModelError, match=message):
        read(path, Stated(None, NORMALIZATION, True))


def test_a_real_lambda_is_refused(tmp_path: Path) -> None:
    inputs = keras.Input((HEIGHT, WIDTH, 3))
    path = save(tmp_path, keras.Model(inputs, keras.layers.Lambda(lambda x: x[:, 0, 0])(inputs)))
    with pytest.raises(ModelError, match="has a Lambda layer"):
        read(path, Stated(None, NORMALIZATION, True))


def test_damaged_files_and_no_classifiers_are_refused(tmp_path: Path) -> None:
    stated = Stated(None, NORMALIZATION, True)
    with pytest.raises(ModelError, match="no such file"):
        read(tmp_path / "nowhere.keras", stated)
    whole = save(tmp_path, network((HEIGHT, WIDTH, 3))).read_bytes()
    path = tmp_path / "damaged.keras"
    for data in (
        b"",
        whole[:2000],
        whole[:-300],
        whole.replace(b"PK\x01\x02", b"PK\x09\x09"),
        whole[:500] + bytes(900),
    ):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=r"damaged\.keras: Keras cannot read it: it is damaged"):
            read(path, stated)
    inputs = keras.Input((HEIGHT, WIDTH, 3))
    two = keras.Model(inputs, [keras.layers.Flatten()(inputs), keras.layers.GlobalAveragePooling2D()(inputs)])
    with pytest.raises(ModelError, match=r"one input and one output \(received: 1 and 2\)"):
        read(save(tmp_path, two), stated)
    table = keras.Sequential([keras.Input((7,)), keras.layers.Dense(3)])
    with pytest.raises(ModelError, match="takes one picture"):
        read(save(tmp_path, table), stated)
    small = Stated((2, 2), NORMALIZATION, True)
    valid = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.Conv2D(3, 5), keras.layers.GlobalMaxPooling2D()]
    )
    with pytest.raises(ModelError, match="does not run on a picture of 2x2 px"):
        read(save(tmp_path, valid), small)
