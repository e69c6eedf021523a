"""`edgecnn export MODEL`: a Keras, TensorFlow or ONNX classifier that was made elsewhere."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgecnn.commands._artifacts import (
    Progress,
    Variant,
    choose_variants,
    decode_calibration,
    decode_labelled,
    make_all,
)
from edgecnn_converters import sources
from edgecnn_converters.artifacts import Artifact, Labelled
from edgecnn_converters.sources import Normalization, Source, Stated
from edgecnn_runtime.commands import _model
from edgecnn_runtime.contract import Contract, Provenance, Publication
from edgecnn_runtime.dataset import picture_files, read_dataset
from edgecnn_runtime.decode import Picture
from edgecnn_runtime.errors import EdgecnnError, ModelError, UsageError

_SHARE = 4  # one of so many labelled pictures calibrates, where none are given for that


def read_stated(size: str | None, value_range: str | None, mean: str | None, std: str | None, logits: bool) -> Stated:
    """What the user types about a model. Raises UsageError."""
    if (value_range is None) == (mean is None) or (mean is None) != (std is None):
        raise UsageError(
            "a model from elsewhere needs --range LOW:HIGH (what it wants for black and white), or --mean and --std"
        )
    if value_range is not None:
        scaling = _model.read_range(value_range)
        normalization = Normalization.from_range(scaling.low, scaling.high)
    else:
        normalization = Normalization.from_statistics(_channels("mean", mean or ""), _channels("std", std or ""))
    return Stated(None if size is None else _model.read_size(size), normalization, logits)


def _channels(name: str, text: str) -> tuple[float, float, float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 3) or not all(math.isfinite(value) for value in values):
        raise UsageError(f"--{name} is one number, or three with commas, for R,G,B (received: {text})")
    if any(value > 1 or value < 0 or (name == "std" and value == 0) for value in values):
        raise UsageError(f"--{name} is of pixels from 0 to 1, as torchvision has it; divide by 255 (received: {text})")
    red, green, blue = values * (3 // len(values))
    return red, green, blue


def read_model(
    path: Path, stated: Stated, labels: Path | None, fit: str, publication: Publication
) -> tuple[Source, Contract]:
    """A model that was made elsewhere, and its contract. Raises EdgecnnError, also where the labels do not fit it."""
    if labels is None:
        raise UsageError("a model from elsewhere needs --labels FILE, a text file with one label a line")
    names, preprocessing = _model.read_labels(labels), _model.read_fit(fit)
    source = sources.read(path, stated)
    if len(names) != (needed := max(2, source.outputs)):
        raise EdgecnnError(f"{labels}: has {len(names)} labels, {path} needs {needed}")
    own = Path(os.path.abspath(path))  # not the target of a link, which may be called by a hash
    name = own.name if path.is_dir() else own.stem
    if not name.isprintable():
        raise EdgecnnError(f"{str(path)!a}: rename the model; its name becomes that of the files")
    try:
        return source, Contract(
            height=source.height,
            width=source.width,
            labels=names,
            activation="sigmoid" if source.outputs == 1 else "softmax",
            preprocessing=preprocessing,
            provenance=Provenance(
                backbone=name,
                precision="",
                weights=f"{own.name}, made elsewhere",
                publication=publication,
            ),
        )
    except ModelError as error:
        raise EdgecnnError(f"{labels}: {error}") from error


def choose_foreign_variants(
    path: Path, source: Source, wanted_formats: Sequence[str], wanted_precisions: Sequence[str], calibrates: bool
) -> list[Variant]:
    """As `choose_variants`, of what can be made of this model. int8 is left out where it was not asked for and there
    are no pictures to calibrate with."""
    variants = choose_variants(wanted_formats or source.formats, wanted_precisions)
    if impossible := [name for name, _ in variants if name not in source.formats]:
        raise UsageError(
            f"{path}: {impossible[0]} is made of Keras models and SavedModels; an ONNX file gives --format onnx"
        )
    return [variant for variant in variants if calibrates or wanted_precisions or variant[1] != "int8"]


def export_foreign(
    source: Source,
    contract: Contract,
    variants: Sequence[Variant],
    calibrate: Path | None,
    data: Path | None,
    folder: Path,
    workers: int,
    progress: Progress,
    max_drop_points: float,
) -> list[Artifact]:
    """Makes artifacts of a model that was made elsewhere, each held against that model.

    Args:
        calibrate: a folder of pictures for int8; without it, the training split of `data`, else some of its pictures.
        data: labelled pictures. Those that neither are its training split nor calibrate are held out: by its validation
            split the gate judges, and the accuracy that is shown is that of its test split. Where it does not state
            both, of every label every second picture is for the one and every other for the other.
    """
    pictures = () if data is None else read_dataset(data).pictures
    training = [picture.path for picture in pictures if picture.split == "train"]
    paths = training or [picture.path for picture in pictures[::_SHARE]]
    if calibrate is not None and not (paths := picture_files(calibrate)):
        raise EdgecnnError(f"{calibrate}: no picture to calibrate with")
    calibration = None
    if any(precision == "int8" for _, precision in variants):
        if not paths:
            raise EdgecnnError("int8 needs pictures to calibrate with: state --calibrate FOLDER")
        calibration = decode_calibration(paths, contract)
    validation = test = None
    if data is not None:
        used = set() if calibration is None else set(calibration.hashes)
        rest = [picture for picture in pictures if picture.split != "train"]
        pixels, truth, kept = decode_labelled(data, rest, contract, "the model", used, progress)
        if not len(truth):
            raise EdgecnnError(f"{data}: all of its pictures calibrate or are of its training split; add others")
        splits = np.array([picture.split for picture in kept])
        both = {"val", "test"} <= {*splits}
        judges = splits == "val" if both else _every_second(truth)
        validation, test = (_labelled(source, pixels, truth, np.flatnonzero(side)) for side in (judges, ~judges))
    seen = [] if calibration is None else list(calibration.pictures)
    return make_all(
        source.function, contract, variants, seen, validation, test, folder, workers, progress, max_drop_points
    )


def _every_second(truth: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """True for every second picture of each label ``(N,)``."""
    place = np.empty(len(truth), np.int64)
    for label in np.unique(truth):
        place[truth == label] = np.arange((truth == label).sum())
    return np.asarray(place % 2 == 0)


def _labelled(
    source: Source, pixels: Sequence[Picture], truth: npt.NDArray[np.int64], index: npt.NDArray[np.int64]
) -> Labelled | None:
    chosen = [pixels[i] for i in index]
    return Labelled(chosen, truth[index], source.ask(chosen), source.ask) if chosen else None
