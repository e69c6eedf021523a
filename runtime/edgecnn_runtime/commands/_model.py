"""Options that several commands share, and the one way in which they open a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from edgecnn_runtime import Classifier
from edgecnn_runtime.backends import Scaling
from edgecnn_runtime.contract import Contract, Preprocessing, Provenance
from edgecnn_runtime.errors import EdgecnnError, UsageError

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
    if size is None and value_range is None and labels is None:
        return Classifier.load(artifact, threads)
    if size is None or value_range is None or labels is None:
        raise UsageError("a model from elsewhere needs all three: --size, --range and --labels")
    sides = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", size)
    if sides is None:
        raise UsageError(f"--size is a number of pixels or HEIGHTxWIDTH (received: {size})")
    if fit not in ("crop", "squash", "pad"):
        raise UsageError(f"--fit is crop, squash or pad (received: {fit})")
    contract = Contract(
        height=int(sides[1]),
        width=int(sides[2] or sides[1]),
        labels=_read_labels(labels),
        provenance=Provenance(backbone=artifact.stem, precision="unknown", weights="foreign model"),
        preprocessing=Preprocessing(fit=fit),  # type: ignore[arg-type]
    )
    return Classifier.load_foreign(artifact, contract, _scaling(value_range), threads, logits)


def _read_labels(path: Path) -> tuple[str, ...]:
    try:
        return tuple(line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise EdgecnnError(f"{path}: labels cannot be read: {error}") from error


def _scaling(text: str) -> Scaling:
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError as error:
        raise UsageError(f"--range is LOW:HIGH, for instance 0:1 or -1:1 (received: {text})") from error
    return Scaling(low, high)
