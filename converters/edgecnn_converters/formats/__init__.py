"""Formats: one file per artifact format. A module provides what `FormatModule` says; listing imports none of them."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgecnn_converters.quantization.repair import NONE, Repair
from edgecnn_runtime.contract import Contract
from edgecnn_runtime.errors import EdgecnnError, UsageError, first_line
from edgecnn_runtime.quiet import quiet

Pixels = npt.NDArray[np.uint8]


class FormatModule(Protocol):
    """What a module in this folder provides.

    Attributes:
        PRECISIONS: what it can make, in the order in which tables show them.
    """

    PRECISIONS: tuple[str, ...]

    def convert(self, function: Any, precision: str, calibration: Sequence[Pixels], repair: Repair = NONE) -> bytes:
        """A frozen network to the bytes of a model file without contract.

        Args:
            function: from `edgecnn_converters.freeze.freeze`; or, for int8, from `formats.tflite.fine_tuned`.
            precision: one of `PRECISIONS`.
            calibration: preprocessed training pictures, each ``(H, W, 3)`` uint8 RGB; only int8 reads them.
            repair: what is done for int8 besides what is always done.

        Raises:
            EdgecnnError: the converter does not know an operator of the network.
        """

    def rank_layers(self, function: Any, calibration: Sequence[Pixels], repair: Repair) -> list[str]:
        """Names for `Repair.in_float`: the layers with weights, first the one that moves the probabilities most when it
        alone has 8 bits."""

    def add_metadata(self, graph: bytes, contract: Contract) -> bytes:
        """The same network, with the metadata that other people's software looks for in a file of this format."""


@contextlib.contextmanager
def converting(what: str) -> Iterator[None]:
    """Keeps converters quiet, and makes of whatever they raise, whose exceptions share no base class, an EdgecnnError
    of one line."""
    try:
        with quiet():
            yield
    except EdgecnnError:
        raise
    except Exception as error:
        raise EdgecnnError(f"{what}: the converter failed: {first_line(error)}") from error


def names() -> tuple[str, ...]:
    """The formats, TFLite first: it is what a Raspberry Pi runs fastest."""
    found = {m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")}
    return tuple(sorted(found, key=lambda name: (name != "tflite", name)))


def summary(contract: Contract) -> str:
    """What a model is, in a line for the readers of its metadata."""
    source = contract.provenance
    return (
        f"Tells {len(contract.labels)} kinds of pictures apart. Network: {source.backbone}, {source.precision}. "
        f"Weights: {source.weights or 'unknown'}. Made by edgecnn, whose contract the file carries."
    )


def get(name: str) -> FormatModule:
    """The module of a format. Raises UsageError for an unknown one."""
    if name not in names():
        raise UsageError(f"no such format: {name} (known: {', '.join(names())})")
    module: FormatModule = importlib.import_module(f"{__name__}.{name}")
    return module
