"""Sources: models that were made elsewhere, one file per kind. A module provides what `SourceModule` says.

Each becomes what the formats convert from: a graph that takes RGB 0-255 and gives probabilities, with the normalization
before and the softmax behind the network inside it. The network as its maker had it stays what the gate asks.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgecnn_runtime.contract import MAX_SIDE_PX
from edgecnn_runtime.errors import ModelError, UsageError
from edgecnn_runtime.quiet import quiet

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_GREY = (0.299, 0.587, 0.114)  # of R, G, B: ITU-R BT.601, as OpenCV, Pillow and so torchvision turn pictures grey
_KINDS = {".keras": "keras", ".onnx": "onnx"}
_HINTS = {
    ".h5": "is Keras' older format, which may run code when it is read: save the model as .keras where you made it",
    ".pt": "is PyTorch's own format, which may run code when it is read: write the model by torch.onnx.export",
    ".pb": "is one file of a SavedModel: name its folder",
    ".tflite": "is converted already; 'edgecnn classify' runs it with --size, --range and --labels",
}
_HINTS |= {".hdf5": _HINTS[".h5"], ".pth": _HINTS[".pt"], ".pkl": _HINTS[".pt"]}


@dataclass(frozen=True)
class Normalization:
    """What a network wants to see of a pixel value p, 0-255: ``p * scale + offset``, each for R, G and B."""

    scale: tuple[float, float, float]
    offset: tuple[float, float, float]

    @classmethod
    def from_range(cls, low: float, high: float) -> Normalization:
        """`low` for black and `high` for white."""
        return cls((high / 255 - low / 255,) * 3, (low,) * 3)

    @classmethod
    def from_statistics(cls, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Normalization:
        """``(p / 255 - mean) / std``, as torchvision.transforms has it after ToTensor."""
        red, green, blue = ((1 / (255 * s), -m / s) for m, s in zip(mean, std, strict=True))
        return cls((red[0], green[0], blue[0]), (red[1], green[1], blue[1]))

    def layer(self, channels: int) -> tuple[Floats, Floats]:
        """As a convolution of 1x1: kernel ``(3, channels)`` and bias ``(channels,)``, float32. One channel is grey."""
        kernel, bias = np.diag(self.scale), np.array(self.offset)
        if channels == 1:
            kernel, bias = kernel @ np.array(_GREY)[:, np.newaxis], np.array([bias @ _GREY])
        return kernel.astype(np.float32), bias.astype(np.float32)

    def is_identity(self, channels: int) -> bool:
        """Whether the network wants the pixels as they are."""
        return channels == 3 and self == Normalization((1.0,) * 3, (0.0,) * 3)


@dataclass(frozen=True)
class Stated:
    """What the user says of a model.

    Attributes:
        size: height and width in pixels; None where the model says it itself.
        logits: whether the outputs are logits, else probabilities.
    """

    size: tuple[int, int] | None
    normalization: Normalization
    logits: bool = False


@dataclass(frozen=True)
class Source:
    """A model that was made elsewhere.

    Attributes:
        height, width: input size in pixels.
        outputs: how many numbers it gives; 1 means a sigmoid, the probability of the second class.
        formats: those it can be converted to.
        function: what these convert from, see `edgecnn_converters.formats`.
        run: preprocessed pictures ``(height, width, 3)`` uint8 RGB to the network's own outputs ``(N, outputs)``
            float32, by the network as it was made.
        logits: whether those are logits.
    """

    height: int
    width: int
    outputs: int
    formats: tuple[str, ...]
    function: Any
    run: Callable[[Sequence[Pixels]], Floats]
    logits: bool

    def ask(self, pixels: Sequence[Pixels]) -> Floats:
        """The network's probabilities, ``(N, classes)`` float32; one output becomes two columns."""
        return _probabilities(self.run(pixels), self.logits)


class SourceModule(Protocol):
    """What a module in this folder provides."""

    def read(self, path: Path, stated: Stated) -> Source:
        """Reads and tries a model; no code of the file's is executed.

        Raises:
            EdgecnnError: missing, damaged, not a classifier with one picture as input and one output, or otherwise
                than stated.
        """


def kind(path: Path) -> str | None:
    """The module that reads `path`; None where it is no model. Raises UsageError for a model of a kind not read."""
    if (path / "saved_model.pb").is_file():
        return "saved_model"
    suffix = path.suffix.lower()
    if path.is_dir():
        return None
    if suffix in _HINTS:
        raise UsageError(f"{path}: {_HINTS[suffix]}")
    return _KINDS.get(suffix)


def read(path: Path, stated: Stated) -> Source:
    """See `SourceModule.read`."""
    name = kind(path)
    if name is None:
        raise UsageError(f"{path}: not a model (known: .keras, .onnx, the folder of a SavedModel)")
    module: SourceModule = importlib.import_module(f"{__name__}.{name}")
    with quiet():
        return module.read(path, stated)


def picture_size(path: Path, shape: Sequence[Any], stated: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width: the model's own, or those stated where it leaves them open.

    Args:
        shape: height and width as the model has them, integers where they are fixed.
    """
    height, width = (size if isinstance(size, int) and size > 0 else None for size in shape)
    if stated is None and (height is None or width is None):
        raise UsageError(f"{path}: the model takes pictures of any size: state one with --size")
    size = (height or 0, width or 0) if stated is None else stated
    if (height or size[0], width or size[1]) != size:
        raise UsageError(
            f"{path}: the model's input is {height or '?'}x{width or '?'} px, --size says {size[0]}x{size[1]}"
        )
    if not 1 <= min(size) <= max(size) <= MAX_SIDE_PX:
        raise UsageError(f"{path}: a picture has 1 to {MAX_SIDE_PX} px a side (received: {size[0]}x{size[1]})")
    return size


def check_integer_input(path: Path, stated: Stated) -> None:
    """Raises UsageError where a network that takes whole numbers is said to want others."""
    if stated.normalization != Normalization((1.0,) * 3, (0.0,) * 3):
        raise UsageError(f"{path}: the model takes whole numbers, so it wants pixels as they are: state --range 0:255")


def count_outputs(path: Path, run: Callable[[Sequence[Pixels]], Floats], stated: Stated, size: tuple[int, int]) -> int:
    """Tries a network on four pictures. Raises ModelError where its outputs are not what is stated of them."""
    noise = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    outputs = run([np.zeros_like(noise[0]), np.full_like(noise[0], 255), *noise])
    if not np.isfinite(outputs).all():
        raise ModelError(f"{path}: the model gives numbers that are not finite; it is damaged")
    within = outputs.min() >= -1e-4 and outputs.max() <= 1.0001
    count = int(outputs.shape[1])
    probable = within and (count == 1 or np.allclose(outputs.sum(1), 1.0, atol=1e-3))
    # A softmax would make another answer of them. Two logits may all lie there by chance.
    if within and not probable and count > (2 if stated.logits else 1):
        raise ModelError(
            f"{path}: the model's outputs are from 0 to 1 and do not sum to 1, as of one that gives a picture several "
            "labels at once; edgecnn is for one label a picture"
        )
    if not probable and not stated.logits:
        raise ModelError(f"{path}: the model's outputs are no probabilities; for logits state --logits")
    if probable and stated.logits and count > 1:  # a single logit may lie there by chance
        raise ModelError(f"{path}: the model's outputs are probabilities already; leave out --logits")
    return count


def _probabilities(outputs: Floats, logits: bool) -> Floats:
    if outputs.shape[1] == 1:
        positive = 1.0 / (1.0 + np.exp(-outputs)) if logits else outputs
        return np.concatenate([1.0 - positive, positive], 1)
    if not logits:
        return outputs
    shifted = np.exp(outputs - outputs.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True), np.float32)
