"""`edgecnn train`."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from edgecnn_runtime.commands import cores, print_json
from edgecnn_runtime.errors import UsageError


def train(
    data: Annotated[
        Path,
        typer.Argument(help="A folder per class, or train/val/test folders of them, or a CSV.", show_default=False),
    ],
    out: Annotated[Path | None, typer.Option(help="The run folder.  [default: runs/<name of DATA>]")] = None,
    backbone: Annotated[str, typer.Option(help="See 'edgecnn backbones'.")] = "efficientnet_lite0",
    weights: Annotated[str, typer.Option(help="imagenet, none, or a file.")] = "imagenet",
    recipe: Annotated[str, typer.Option(help="auto, fast (head alone) or scratch (whole network).")] = "auto",
    size: Annotated[
        int | None, typer.Option(min=8, max=4096, help="Input side in px.  [default: the backbone's]")
    ] = None,
    fit: Annotated[str, typer.Option(help="crop, squash or pad.")] = "crop",
    filter: Annotated[list[str] | None, typer.Option(help="OpenCV filter before the fit; may be repeated.")] = None,
    output: Annotated[str, typer.Option(help="softmax, or sigmoid for two classes.")] = "softmax",
    views: Annotated[
        int | None,
        typer.Option(
            min=0, max=50, help="Augmented views of a training picture.  [default: fast 0, scratch 1 an epoch]"
        ),
    ] = None,
    dropout: Annotated[float, typer.Option(min=0.0, max=0.95, help="Of the head.")] = 0.3,
    l2: Annotated[float, typer.Option(min=0.0, max=10.0, help="Of the head.")] = 3e-3,
    learning_rate: Annotated[float, typer.Option(min=1e-8, max=10.0, help="Of Adam.")] = 2e-3,
    batch_size: Annotated[int, typer.Option(min=1, max=65536)] = 128,
    epochs: Annotated[int, typer.Option(min=1, max=100000, help="At most; early stopping ends sooner.")] = 60,
    patience: Annotated[int, typer.Option(min=1, max=100000, help="Epochs without gain before stopping.")] = 6,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="The same seed gives the same weights.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run folder.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
) -> None:
    """Train a classifier on a folder of pictures.

    Example: edgecnn train photos/ --out runs/flowers --backbone mobilenet_v2 --seed 1
    """
    from edgecnn import backbones
    from edgecnn.commands._progress import progress_bars
    from edgecnn.commands._training import train_run
    from edgecnn.training.head import HeadOptions
    from edgecnn.training.run import Config
    from edgecnn_runtime.contract import Preprocessing

    chosen = backbones.get(backbone)
    if weights not in ("imagenet", "none"):
        weights = os.path.abspath(weights)
    if recipe == "auto":
        recipe = "scratch" if weights == "none" else "fast"
    if output not in ("softmax", "sigmoid"):
        raise UsageError(f"--output is softmax or sigmoid (received: {output})")
    if fit not in ("crop", "squash", "pad"):
        raise UsageError(f"--fit is crop, squash or pad (received: {fit})")
    config = Config(
        data=os.path.abspath(data),
        backbone=backbone,
        height=size or chosen.size_px,
        width=size or chosen.size_px,
        weights=weights,
        recipe=recipe,
        views=(1 if recipe == "scratch" else 0) if views is None else views,
        seed=seed,
        preprocessing=Preprocessing(tuple(filter or ()), fit, chosen.crop_fraction if fit == "crop" else 1.0),  # type: ignore[arg-type]
        head=HeadOptions(output, dropout, l2, learning_rate, batch_size, epochs, patience),
    )
    folder = out or Path("runs", Path(config.data).stem)
    with progress_bars() as progress:
        metrics = train_run(config, folder, overwrite, cores(), progress)
    for path, reason in metrics["unreadable"]:
        print(f"edgecnn: left out: {reason or path}", file=sys.stderr)
    if json:
        keys = ("accuracy", "interval", "pictures", "weights_sha256", "train_s", "unreadable")
        print_json("train", {"run": str(folder), "recipe": recipe, **{key: metrics[key] for key in keys}})
        return
    counts = metrics["pictures"]
    print(
        f"{sum(counts.values()):,} pictures: " + ", ".join(f"{counts[s]:,} {s}" for s in counts) + f"; recipe {recipe}"
    )
    for split in ("val", "test"):
        if metrics["accuracy"][split] is not None:
            low, high = metrics["interval"][split]
            print(f"accuracy {split:<4} {metrics['accuracy'][split]:.1%}  (95 % interval {low:.1%} to {high:.1%})")
    print(f"run in {folder}; look at {folder / 'report.html'}\nnext: edgecnn export {shlex.quote(str(folder))}")
