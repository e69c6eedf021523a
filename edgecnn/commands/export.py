"""`edgecnn export`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from edgecnn_runtime.commands import cores, print_json
from edgecnn_runtime.errors import UsageError


def export(
    run: Annotated[Path | None, typer.Argument(help="A run folder of 'edgecnn train'.", show_default=False)] = None,
    format: Annotated[list[str] | None, typer.Option(help="tflite, onnx; may be repeated.  [default: all]")] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="float32, float16, dynamic, int8; may be repeated.  [default: all]"),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Where the run's pictures lie now, if they were moved.")] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="Instead of a run: a backbone as ImageNet classifier of 1,000 things.")
    ] = None,
    calibrate: Annotated[
        Path | None, typer.Option(help="With --pretrained: a folder of some pictures, which int8 needs.")
    ] = None,
    out: Annotated[Path, typer.Option(help="With --pretrained: the folder for the artifacts.")] = Path("models"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace artifacts.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
) -> None:
    """Make TFLite and ONNX files that carry their contract, each measured on the test pictures.

    Example: edgecnn export runs/flowers --format tflite --precision int8
    """
    if (run is None) == (pretrained is None):
        raise UsageError("name a run folder, or a backbone with --pretrained")
    if pretrained is None and calibrate is not None:
        raise UsageError("--calibrate goes with --pretrained; a run calibrates with its own training pictures")
    from edgecnn.commands._artifacts import (
        artifact_document,
        check_free,
        choose_variants,
        export_run,
        print_table,
    )
    from edgecnn.commands._progress import progress_bars

    variants = choose_variants(format or [], precision or [])
    with progress_bars() as progress:
        if run is not None:
            from edgecnn.training.run import read_run
            from edgecnn.training.train import reload_pictures

            finished = read_run(run)
            folder = run / "artifacts"
            check_free(folder, finished.config.backbone, variants, overwrite)
            pictures = reload_pictures(finished, data, progress)
            made = export_run(finished, pictures, variants, cores(), progress)
        else:
            from edgecnn.commands._pretrained import export_pretrained

            assert pretrained is not None
            if calibrate is None and not precision:  # int8 at once needs pictures; the others do not
                variants = [variant for variant in variants if variant[1] != "int8"]
            folder = out
            check_free(folder, pretrained, variants, overwrite)
            made = export_pretrained(pretrained, variants, calibrate, folder, cores(), progress)
    if json:
        print_json("export", {"folder": str(folder), "artifacts": [artifact_document(artifact) for artifact in made]})
        return
    print_table(made)
    first = next((each for each in made if each.precision == "int8"), made[0])  # the small and fast one
    print(f"in {folder}/\nnext: edgecnn live {shlex.quote(str(first.path))} --camera 0")
