"""Options that several commands share, and the one way in which they open a model."""

from __future__ import annotations

import math
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from edgecnn_runtime.contract import Contract, Preprocessing, Provenance
from edgecnn_runtime.contract import Fit as _Fit
from edgecnn_runtime.errors import EdgecnnError, UsageError

if TYPE_CHECKING:
    from edgecnn_runtime import Classifier
    from edgecnn_runtime.backends import Scaling

Artifact = Annotated[Path, typer.Argument(help="A .tflite or .onnx file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Threads = Annotated[int, typer.Option(min=1, max=256, help="Threads of one inference.")]
Size = Annotated[
    str | None, typer.Option(help="Foreign model: its input size, as 224 or HEIGHTxWIDTH.", show_default=False)
]
Range = Annotated[
    str | None, typer.Option(help="Foreign model: what it wants for black and white, as 0:1.", show_default=False)
]
Labels = Annotated[
    Path | None, typer.Option(help="Foreign model: a text file with one label a line.", show_default=False)
]
Fit = Annotated[str, typer.Option(help="Foreign model: crop, squash or pad.")]
Logits = Annotated[bool, typer.Option("--logits", help="Foreign model: its outputs are logits, not probabilities.")]


def open_classifier(
    artifact: Path,
    threads: int,
    size: str | None,
    value_range: str | None,
    labels: Path | None,
    fit: str = "crop",
    logits: bool = False,
) -> Classifier:
    """Opens an artifact, or a foreign model by what the user states of it. Raises UsageError, ModelError."""
    from edgecnn_runtime import Classifier

    contract = foreign_contract(artifact, size, value_range, labels, fit)
    if contract is None:
        return Classifier.load(artifact, threads)
    assert value_range is not None
    return Classifier.load_foreign(artifact, contract, read_range(value_range), threads, logits)


def foreign_contract(
    artifact: Path, size: str | None, value_range: str | None, labels: Path | None, fit: str
) -> Contract | None:
    """What the user states of a foreign model; None where nothing is stated, of an artifact. Raises UsageError."""
    if size is None and value_range is None and labels is None:
        return None
    if size is None or value_range is None or labels is None:
        raise UsageError("a model from elsewhere needs all three: --size, --range and --labels")
    height, width = read_size(size)
    read_range(value_range)
    return Contract(
        height=height,
        width=width,
        labels=read_labels(labels),
        provenance=Provenance(backbone=artifact.stem, precision="unknown", weights="foreign model"),
        preprocessing=read_fit(fit),
    )


def read_size(text: str) -> tuple[int, int]:
    """Height and width in pixels of --size. Raises UsageError."""
    sides = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text)
    if sides is None:
        raise UsageError(f"--size is a number of pixels or HEIGHTxWIDTH (received: {text})")
    return int(sides[1]), int(sides[2] or sides[1])


def read_fit(fit: str) -> Preprocessing:
    """Of --fit. Raises UsageError."""
    if fit not in get_args(_Fit):
        raise UsageError(f"--fit is crop, squash or pad (received: {fit})")
    return Preprocessing(fit=fit)  # type: ignore[arg-type]


def read_labels(path: Path) -> tuple[str, ...]:
    """The lines of a text file, in Unicode form NFC as those of `edgecnn_runtime.dataset`. Raises EdgecnnError."""
    try:
        lines = unicodedata.normalize("NFC", path.read_text("utf-8-sig")).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EdgecnnError(f"{path}: labels cannot be read: {error}") from error
    return tuple(line.strip() for line in lines if line.strip())


def read_range(text: str) -> Scaling:
    """Of --range. Raises UsageError."""
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError as error:
        raise UsageError(f"--range is LOW:HIGH, for instance 0:1 or -1:1 (received: {text})") from error
    if not math.isfinite(low) or not math.isfinite(high) or low == high:
        raise UsageError(f"--range is two different numbers, for instance 0:1 or -1:1 (received: {text})")
    from edgecnn_runtime.backends import Scaling

    return Scaling(low, high)
