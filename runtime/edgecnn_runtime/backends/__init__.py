"""Backends: one file per artifact format, holding the container (where the contract lies) and the engine.

A backend module is found by its file's suffix; listing imports none of them. It provides what `BackendModule` says.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from edgecnn_runtime.errors import ModelError

if TYPE_CHECKING:
    from edgecnn_runtime.decode import Picture

Outputs = npt.NDArray[np.float32]


class Backend(Protocol):
    """A model inside an engine. Not safe for two threads at once: give each thread its own.

    Attributes:
        height, width: input size in pixels.
        outputs: how many numbers `run` gives.
    """

    height: int
    width: int
    outputs: int

    def run(self, picture: Picture) -> Outputs:
        """One inference.

        Args:
            picture: ``(height, width, 3)`` uint8, RGB, 0-255.

        Returns:
            ``(outputs,)`` float32, dequantized.
        """


class BackendModule(Protocol):
    """What a module in this folder provides."""

    def split(self, data: bytes) -> tuple[bytes, str | None]:
        """The file's bytes to (graph, contract text or None). Reads with the standard library alone.

        Raises ModelError where the container is damaged.
        """

    def join(self, graph: bytes, contract: str, labels: tuple[str, ...]) -> bytes:
        """A graph without a contract and a contract's text to the file's bytes: the inverse of `split`."""

    def check_structure(self, graph: bytes) -> None:
        """Raises ModelError where an engine could read outside the graph's bytes, or the graph asks for more than
        built-in operators on its own data."""

    def load(self, graph: bytes, threads: int, scaling: Scaling) -> Backend:
        """Gives a checked graph to the engine. Raises ModelError where the engine refuses it or is not installed."""

    def describe(self, graph: bytes) -> tuple[str, Mapping[str, Any]]:
        """How the engine runs a checked graph, in words and as a document. Raises ModelError as `load` does."""


@dataclass(frozen=True)
class Scaling:
    """What a network wants to see for the pixel values 0 and 255. Artifacts of edgecnn take pixels as they are; only a
    foreign model needs another range."""

    low: float = 0.0
    high: float = 255.0

    def table(self) -> npt.NDArray[np.float64]:
        """``(256,)``: the real value that the network wants for each pixel value."""
        return self.low + np.arange(256, dtype=np.float64) * ((self.high - self.low) / 255.0)


PIXELS = Scaling()


def formats() -> tuple[str, ...]:
    """The names of the formats, which are also the files' suffixes without the dot."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


def module_for(path: str | Path) -> BackendModule:
    """The backend module for a file, by its suffix. Raises ModelError for any other suffix."""
    name = Path(path).suffix.lower().removeprefix(".")
    if name not in formats():
        raise ModelError(f"{path}: not a model file (known: {', '.join('.' + f for f in formats())})")
    module: BackendModule = importlib.import_module(f"{__name__}.{name}")
    return module
