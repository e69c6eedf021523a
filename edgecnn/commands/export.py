"""`edgecnn export`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from edgecnn_runtime.commands import _model, cores, print_json
from edgecnn_runtime.contract import Publication
from edgecnn_runtime.errors import UsageError


def export(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="A run folder of 'edgecnn train', or a model from elsewhere: .keras, .onnx, a SavedModel's folder.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[list[str] | None, typer.Option(help="tflite, onnx; may be repeated. Default: all.")] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="float32, float16, dynamic, int8; may be repeated. Default: all."),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="The drop against the float model, in points, beyond which a file is refused. Default: 1.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Labelled pictures for the gate, which the model has never seen.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="End with 4 where the gate could not decide.")] = False,
    pictures: Annotated[
        Path | None, typer.Option(help="Where the run's own pictures lie now, if they were moved.")
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="Instead of a run: a backbone as ImageNet classifier of 1,000 things.")
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="With --pretrained and foreign models: a folder of some pictures, which int8 needs."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --pretrained and foreign models: the folder for the artifacts. Default: models.",
            show_default=False,
        ),
    ] = None,
    author: Annotated[str, typer.Option(help="Who made the model, for those who read its metadata.")] = "",
    license: Annotated[str, typer.Option(help="The model's licence, likewise.")] = "",
    model_version: Annotated[str, typer.Option(help="The model's version, likewise.")] = "",
    labels: _model.Labels = None,
    range: _model.Range = None,
    mean: Annotated[
        str | None,
        typer.Option(help="Foreign model, instead of --range: R,G,B, as 0.485,0.456,0.406.", show_default=False),
    ] = None,
    std: Annotated[
        str | None, typer.Option(help="Foreign model, with --mean: R,G,B, as 0.229,0.224,0.225.", show_default=False)
    ] = None,
    logits: _model.Logits = False,
    size: _model.Size = None,
    fit: _model.Fit = "crop",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace artifacts.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
) -> None:
    """Make TFLite and ONNX files that carry their contract, each held against the float model.

    A file whose accuracy drops by more than --max-drop on pictures that calibration never saw is refused: it is kept
    as NAME.rejected alone, and the command ends with 3.

    Example: edgecnn export runs/flowers --format tflite --precision int8

    Example: edgecnn export net.onnx --labels labels.txt --range 0:1 --logits --data photos/
    """
    if (run is None) == (pretrained is None):
        raise UsageError("name a run folder, a model, or a backbone with --pretrained")
    from edgecnn_converters import sources
    from edgecnn_converters.gate import MAX_DROP_POINTS

    foreign = run is not None and sources.kind(run) is not None
    if not foreign and (logits or fit != "crop" or any(each is not None for each in (labels, range, mean, std, size))):
        raise UsageError(
            "--labels, --range, --mean, --std, --logits, --size and --fit go with a model from elsewhere "
            "(.keras, .onnx, the folder of a SavedModel)"
        )
    if pretrained is None and not foreign and calibrate is not None:
        raise UsageError(
            "--calibrate goes with --pretrained and foreign models; a run calibrates with its own pictures"
        )
    if pretrained is not None and (data is not None or pictures is not None):
        raise UsageError("--data and --pictures go with a run; a pretrained backbone has nothing to be held against")
    if foreign and pictures is not None:
        raise UsageError("--pictures goes with a run; for a model from elsewhere state --data and --calibrate")
    if pretrained is None and not foreign and out is not None:
        raise UsageError("--out goes with --pretrained and foreign models; a run's artifacts go into its own folder")
    if (max_drop is not None or strict) and (pretrained is not None or (foreign and data is None)):
        raise UsageError("--max-drop and --strict are of the gate, which needs a run, or a foreign model and --data")
    max_drop = MAX_DROP_POINTS if max_drop is None else max_drop
    if not 0.0 <= max_drop <= 100.0:
        raise UsageError(f"--max-drop is a number of points from 0 to 100 (received: {max_drop:g})")
    from edgecnn.commands._artifacts import (
        artifact_document,
        check_free,
        choose_variants,
        exit_code,
        export_run,
        further_pictures,
        print_attempts,
        print_gate,
        print_table,
    )
    from edgecnn.commands._progress import progress_bars

    publication = Publication(author, license, model_version)
    variants = choose_variants(format or [], precision or [])
    with progress_bars() as progress:
        if foreign:
            from edgecnn.commands import _foreign

            assert run is not None
            stated = _foreign.read_stated(size, range, mean, std, logits)
            source, contract = _foreign.read_model(run, stated, labels, fit, publication)
            calibrates = calibrate is not None or data is not None
            variants = _foreign.choose_foreign_variants(run, source, format or [], precision or [], calibrates)
            folder = out or Path("models")
            check_free(folder, contract.provenance.backbone, variants, overwrite)
            made = _foreign.export_foreign(
                source, contract, variants, calibrate, data, folder, cores(), progress, max_drop
            )
        elif run is not None:
            from edgecnn.training.run import read_run
            from edgecnn.training.train import reload_pictures

            finished = read_run(run)
            folder = run / "artifacts"
            check_free(folder, finished.config.backbone, variants, overwrite)
            reloaded = reload_pictures(finished, pictures, progress)
            more = ((), np.empty(0, np.int64)) if data is None else further_pictures(finished, data, progress)
            made = export_run(
                finished, reloaded, variants, cores(), progress, (), max_drop, more, publication=publication
            )
        else:
            from edgecnn.commands._pretrained import export_pretrained

            assert pretrained is not None
            if calibrate is None and not precision:  # int8 at once needs pictures; the others do not
                variants = [variant for variant in variants if variant[1] != "int8"]
            folder = out or Path("models")
            check_free(folder, pretrained, variants, overwrite)
            made = export_pretrained(pretrained, variants, calibrate, folder, cores(), progress, publication)
    usable = [artifact for artifact in made if not artifact.rejected]
    if json:
        print_json("export", {"folder": str(folder), "artifacts": [artifact_document(artifact) for artifact in made]})
    else:
        print_table(made)
        print_attempts(made)
        print_gate(made)
        if foreign and calibrate is None and data is None and not precision:
            print("no int8: it needs some pictures to calibrate with: --calibrate FOLDER")
        if foreign and data is None:
            print("no gate: it needs labelled pictures, which the model has never seen: --data FOLDER")
        print(f"in {folder}/")
        if usable:
            first = next((each for each in usable if each.precision == "int8"), usable[0])  # the small and fast one
            print(f"next: edgecnn live {shlex.quote(str(first.path))} --camera 0")
    raise typer.Exit(exit_code(made, strict))
