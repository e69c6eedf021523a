"""The weights of Keras applications: fetched from their publisher, or read from a file, and moved into our networks."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecnn_runtime.errors import EdgecnnError, ModelError

if TYPE_CHECKING:
    import keras

TO_PLUS_MINUS_ONE: dict[str, Any] = {"scale": 1 / 127.5, "offset": -1.0}
# For weights that want BGR minus these means; in RGB order, as copy_bgr_weights turns the first kernel to RGB.
MINUS_MEAN: dict[str, Any] = {"scale": 1.0, "offset": [-123.68, -116.779, -103.939]}
_SUFFIXES = (".h5", ".hdf5", ".keras")


def weighted_layers(model: keras.Model) -> Iterator[keras.Layer]:
    """The layers that hold weights, in the order of the graph, those of nested models included.

    A Normalization layer is left out: it holds the constants of preprocessing, not anything learnt.
    """
    from keras import layers

    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from weighted_layers(layer)
        elif layer.weights and not isinstance(layer, layers.Normalization):
            yield layer


def copy_weights(published: keras.Model, model: keras.Model) -> None:
    """Copy layer by layer between two networks of the same architecture.

    Raises:
        ValueError: the layers or their shapes differ.
    """
    for source, target in zip(weighted_layers(published), weighted_layers(model), strict=True):
        target.set_weights(source.get_weights())


def copy_bgr_weights(published: keras.Model, model: keras.Model) -> None:
    """As `copy_weights`, for a network that was trained on BGR: the first kernel's input channels are reversed for RGB.

    Raises:
        ValueError: the layers or their shapes differ.
    """
    copy_weights(published, model)
    first = next(weighted_layers(model))
    kernel, *rest = first.get_weights()
    first.set_weights([kernel[:, :, ::-1, :], *rest])


def keras_network(
    name: str, application: str, height: int, width: int, *, rescale: dict[str, Any] | None = None, **options: Any
) -> keras.Model:
    """A Keras application without top and with random weights, named `name`, for raw RGB (N, height, width, 3) 0-255.

    Args:
        application: the function in `keras.applications`.
        rescale: `scale` and `offset` of a Rescaling layer for applications that do not contain their preprocessing.
        options: passed to the application.
    """
    import keras

    inputs = keras.Input((height, width, 3), name="image")
    scaled = keras.layers.Rescaling(**rescale)(inputs) if rescale else inputs
    network = getattr(keras.applications, application)(
        weights=None, include_top=False, input_tensor=scaled, input_shape=(height, width, 3), **options
    )
    return keras.Model(inputs, network.output, name=name)


@dataclass(frozen=True)
class KerasWeights:
    """ImageNet weights that the publisher of a Keras application serves.

    Attributes:
        application: the function in `keras.applications`.
        cached_file: the file's name in Keras' cache.
        size_px: the size that the application is built at; it decides which file some applications fetch.
        transfer: moves the weights of the application (first argument) into our network (second).
    """

    application: str
    cached_file: str
    size_px: int = 224
    transfer: Callable[[keras.Model, keras.Model], None] = copy_weights
    pip_package: str | None = field(default=None, init=False)

    def at_hand(self) -> bool:
        """Whether the file is in Keras' cache."""
        return self._cached_path().is_file()

    def load_imagenet(self, model: keras.Model) -> None:
        """Fetch the weights on first use, and set them.

        Raises:
            EdgecnnError: they cannot be fetched, or the cached file is damaged.
        """
        cached = self.at_hand()
        try:
            published = self._application("imagenet")
        except Exception as error:  # Keras raises bare Exception where a download fails
            remedy = f"delete {self._cached_path()} to fetch it anew" if cached else "check the connection"
            raise EdgecnnError(
                f"the ImageNet weights of {model.name} cannot be fetched ({_one_line(error)}): {remedy}, "
                "or use --weights FILE or --weights none"
            ) from error
        self.transfer(published, model)

    def load_file(self, model: keras.Model, path: Path) -> None:
        """Set the weights of a file: of the Keras application without top, or of a backbone that was saved from here.

        Raises:
            ModelError: the file is missing, damaged, or belongs to another network.
        """
        if _saved_from_here(model, path):
            load_own_file(model, path)
        else:
            published = self._application(None)
            _load_weights(published, model.name, path)
            self.transfer(published, model)

    def _cached_path(self) -> Path:
        home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
        return Path(home) / "models" / self.cached_file

    def _application(self, weights: str | None) -> keras.Model:
        import keras

        # Keras shows its progress on stdout, which belongs to a command's own output.
        progress = sys.stderr if sys.stderr.isatty() else io.StringIO()
        with contextlib.redirect_stdout(progress):
            return getattr(keras.applications, self.application)(
                weights=weights, include_top=False, input_shape=(self.size_px, self.size_px, 3)
            )


def load_own_file(model: keras.Model, path: Path) -> None:
    """Set the weights of a backbone that was saved from here (.weights.h5 or .keras).

    Raises:
        ModelError: the file is missing, damaged, or belongs to another network.
    """
    _load_weights(model, model.name, path)


def _saved_from_here(model: keras.Model, path: Path) -> bool:
    """Whether a file holds our network, not the Keras application: ours rescales and has no normalization layer.

    For applications that do the same, both networks are identical, and either answer is right.
    """
    with _readable(model.name, path), _open(path) as file:
        layers = [name.decode() if isinstance(name, bytes) else name for name in _layer_names(file)]
    return any(n.startswith("rescaling") for n in layers) and not any(n.startswith("normalization") for n in layers)


def _load_weights(target: keras.Model, name: str, path: Path) -> None:
    with _readable(name, path):
        with _open(path) as file:
            if "layers" in file and _count_arrays(file["layers"]) != len(target.weights):
                raise ValueError(f"it holds {_count_arrays(file['layers'])} arrays, not {len(target.weights)}")
        target.load_weights(path)


@contextlib.contextmanager
def _readable(name: str, path: Path) -> Iterator[None]:
    if not path.is_file():
        raise ModelError(f"{path}: there is no such weights file; --weights takes imagenet, none or a file")
    if path.suffix not in _SUFFIXES:
        raise ModelError(f"{path}: not a kind of weights file that {name} reads ({', '.join(_SUFFIXES)})")
    try:
        yield
    except Exception as error:  # h5py, zipfile and Keras raise many kinds for a damaged or foreign file
        raise ModelError(f"{path}: not the weights of {name} without top ({_one_line(error)})") from error


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    import h5py

    with contextlib.ExitStack() as stack:
        source: Any = path
        if path.suffix == ".keras":
            source = stack.enter_context(stack.enter_context(zipfile.ZipFile(path)).open("model.weights.h5"))
        yield stack.enter_context(h5py.File(source, "r"))


def _layer_names(file: Any) -> list[Any]:
    if "layers" in file:
        return list(file["layers"])
    group = file if "layer_names" in file.attrs else file["model_weights"]
    return list(group.attrs["layer_names"])


def _count_arrays(group: Any) -> int:
    import h5py

    found: list[str] = []
    group.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return sum("seed_generator" not in name for name in found)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
