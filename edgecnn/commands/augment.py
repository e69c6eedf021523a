"""`edgecnn augment`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edgecnn.commands._options import with_options
from edgecnn_runtime.commands import print_json

_SHOWN = 12


@with_options("augmentation")
def augment(
    data: Annotated[
        Path,
        typer.Argument(help="A folder per class, or train/val/test folders of them, or a CSV.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="The HTML page to write.")] = Path("augment.html"),
    recipe: Annotated[str | None, typer.Option(help="Whose augmentation to begin with. Default: standard.")] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of options; those typed here win.")] = None,
    size: Annotated[int | None, typer.Option(help="Input side in px. Default: the recipe's.")] = None,
    fit: Annotated[str | None, typer.Option(help="crop, squash or pad. Default: the recipe's.")] = None,
    filter: Annotated[
        list[str] | None, typer.Option(help="gray, equalize, clahe, gaussian, median, canny; repeated, in this order.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed shows other views. Default: 0.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
    **options: Any,
) -> None:
    """Look at what the network sees in training: a page of pictures and of random views of them.

    Example: edgecnn augment photos/ --out views.html --rotation 0.1 --mixup 0.2
    """
    from collections import Counter

    from edgecnn.evaluation.augment_page import warnings, write_augment_page
    from edgecnn.pages import check_free
    from edgecnn.training.presets import make_config, read_options
    from edgecnn_runtime.dataset import read_dataset
    from edgecnn_runtime.errors import EdgecnnError, PictureError

    check_free(out, overwrite)
    dataset = read_dataset(data)
    own = {"recipe": recipe, "size": size, "fit": fit, "seed": seed, "filter": filter or None, **options}
    typed = {name: value for name, value in own.items() if value is not None}
    given = {"recipe": "standard", **(read_options(config) if config else {}), **typed}
    made, _ = make_config(data, given, Counter(picture.label for picture in dataset.pictures))

    from edgecnn_runtime.decode import decode, read_bytes
    from edgecnn_runtime.preprocess import preprocess

    shown = []
    for picture in dataset.pictures[:: max(1, len(dataset.pictures) // _SHOWN)][:_SHOWN]:
        try:
            pixels = decode(read_bytes(picture.path), str(picture.path))
        except PictureError as error:
            print(f"edgecnn: left out: {error}", file=sys.stderr)
            continue
        shown.append(
            (picture.label, picture.path.name, preprocess(pixels, made.preprocessing, made.height, made.width))
        )
    if not shown:
        raise EdgecnnError(f"{data}: no picture of those to be shown can be read; 'edgecnn check' lists them")
    title = f"Augmentation of {data.resolve().name}"
    side_px = made.tuning.train_size or made.height
    write_augment_page(out, title, made.augmentation, dataset.labels, shown, made.seed, side_px)
    found = warnings(made.augmentation, dataset.labels)
    if json:
        switched = vars(made.augmentation)
        print_json("augment", {"page": str(out), "augmentation": switched, "warnings": found})
        return
    for warning in found:
        print(f"edgecnn: warning: {warning}", file=sys.stderr)
    print(f"{len(shown)} pictures and their views are in {out}")
