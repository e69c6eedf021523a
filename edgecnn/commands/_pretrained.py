"""`edgecnn export --pretrained`: an ImageNet classifier without any training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from edgecnn import backbones
from edgecnn.commands._artifacts import Progress, Variant, decode_calibration, make_all
from edgecnn_converters.artifacts import Artifact
from edgecnn_converters.freeze import freeze
from edgecnn_runtime.contract import Contract, Preprocessing, Provenance, Publication
from edgecnn_runtime.dataset import picture_files
from edgecnn_runtime.errors import EdgecnnError
from edgecnn_runtime.quiet import quiet


def imagenet_labels() -> tuple[str, ...]:
    """The 1,000 ImageNet-1k class names in the order of the outputs; names that occur twice get their WordNet id."""
    lines = files("edgecnn.data").joinpath("imagenet_labels.txt").read_text("utf-8").splitlines()
    pairs = [line.split(" ", 1) for line in lines]
    counts = Counter(name for _, name in pairs)
    return tuple(name if counts[name] == 1 else f"{name} ({identifier})" for identifier, name in pairs)


def export_pretrained(
    name: str,
    variants: Sequence[Variant],
    calibrate: Path | None,
    folder: Path,
    workers: int,
    progress: Progress,
    publication: Publication,
) -> list[Artifact]:
    """Makes artifacts of a backbone with its published ImageNet head. Raises EdgecnnError."""
    backbone = backbones.get(name)
    side = backbone.size_px
    contract = Contract(
        height=side,
        width=side,
        labels=imagenet_labels(),
        preprocessing=Preprocessing(crop_fraction=backbone.crop_fraction),
        provenance=Provenance(
            backbone=name,
            precision="",
            weights=f"ImageNet ({name}), as published",
            published_top1=backbone.published_top1,
            publication=publication,
        ),
    )
    calibration = []
    if calibrate is not None:
        paths = picture_files(calibrate)
        if not paths:
            raise EdgecnnError(f"{calibrate}: no picture to calibrate with")
        calibration = list(decode_calibration(paths, contract).pictures)
    elif any(precision == "int8" for _, precision in variants):
        raise EdgecnnError("int8 needs pictures to calibrate with: state --calibrate FOLDER")
    with quiet():
        model = backbone.build_classifier(side, side)
    return make_all(freeze(model, side, side), contract, variants, calibration, None, None, folder, workers, progress)
