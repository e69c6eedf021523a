"""`edgecnn train`."""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from edgecnn.commands._options import with_options
from edgecnn_runtime.commands import cores, print_json
from edgecnn_runtime.errors import EdgecnnError, UsageError

_KEPT = {
    "refitted": "kept: the tuned backbone with a head fitted to it again, best on validation",
    "trained": "kept: the tuned weights, best on validation",
    "averaged": "kept: the average of the tuned weights, best on validation",
    "soup": "kept: the average of several tunings, best on validation",
    "start": "kept: the head on the frozen backbone; tuning it did not win on validation (try more --epochs)",
}


@with_options("head", "optimization", "tuning", "augmentation", "machine")
def train(
    data: Annotated[
        Path | None,
        typer.Argument(help="A folder per class, or train/val/test folders of them, or a CSV.", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder. Default: runs/<name of DATA>.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with an interrupted run, instead of DATA; to the same weights.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of options; those typed here win.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="auto, fast, standard, best, scratch or course. Default: auto.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="See 'edgecnn backbones'. Default: efficientnet_lite0.")] = None,
    weights: Annotated[str | None, typer.Option(help="imagenet, none, or a file. Default: the recipe's.")] = None,
    size: Annotated[int | None, typer.Option(help="Input side in px. Default: the recipe's.")] = None,
    fit: Annotated[str | None, typer.Option(help="crop, squash or pad. Default: the recipe's.")] = None,
    crop_fraction: Annotated[
        float | None, typer.Option(help="Part of the shorter side that --fit crop keeps. Default: 1.")
    ] = None,
    filter: Annotated[
        list[str] | None,
        typer.Option(help="gray, equalize, clahe, gaussian, median, canny; repeated, in this order, before the fit."),
    ] = None,
    views: Annotated[int | None, typer.Option(help="Augmented views of each picture on features. Default: 0.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same weights. Default: 0.")] = None,
    reject_at: Annotated[
        str | None, typer.Option(help="Share of wrong answers to accept, as 5%: less sure ones become 'unknown'.")
    ] = None,
    find_learning_rate: Annotated[
        bool, typer.Option("--find-learning-rate", help="Keep no model: try rising rates and name one.")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write RUN/tensorboard.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run folder.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
    **options: Any,
) -> None:
    """Train a classifier on a folder of pictures.

    A recipe sets all options below; each can be set by itself. docs/guide.md tells what the recipes set.

    Example: edgecnn train photos/ --out runs/flowers --recipe standard --rotation 0.05 --seed 1
    """
    from edgecnn.commands._progress import progress_bars
    from edgecnn.commands._training import resume_run, train_run

    if (data is None) == (resume is None):
        raise UsageError("name the data, or an interrupted run with --resume")
    if tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise EdgecnnError("--tensorboard needs a package more: run \"pip install 'edgecnn[tensorboard]'\"")
    own: dict[str, Any] = {
        "backbone": backbone,
        "weights": weights,
        "recipe": recipe,
        "size": size,
        "fit": fit,
        "crop_fraction": crop_fraction,
        "filter": filter or None,
        "views": views,
        "seed": seed,
    }
    typed = {name: value for name, value in {**own, **options}.items() if value is not None}
    with progress_bars() as progress:
        if resume is not None:
            if typed or config or out or overwrite or reject_at or tensorboard or find_learning_rate:
                raise UsageError("--resume takes no other options: the run goes on as it was begun")
            folder = _named(resume)
            made, metrics = resume_run(folder, cores(), progress)
        else:
            assert data is not None
            made, why = _config(data, typed, config, reject_at)
            if find_learning_rate and (reject_at or tensorboard):
                raise UsageError("--find-learning-rate keeps no model: leave --reject-at and --tensorboard out")
            folder = _named(out) if out else Path("runs", Path(made.data).stem)
            if find_learning_rate:
                _find_rate(made, progress, json)
                return
            say = (lambda: None) if json else (lambda: print(why, flush=True))
            metrics = train_run(made, folder, overwrite, cores(), progress, tensorboard, say)
    for path, reason in metrics["unreadable"]:
        print(f"edgecnn: left out: {reason or path}", file=sys.stderr)
    if json:
        keys = (
            "accuracy", "interval", "pictures", "weights_sha256", "temperature", "reject_threshold", "reject_note",
            "answered", "train_s", "unreadable",
        )  # fmt: skip
        figures = {key: metrics[key] for key in keys}
        print_json("train", {"run": str(folder), "recipe": made.recipe, **figures})
        return
    _print_outcome(folder, metrics)


def _named(folder: Path) -> Path:
    """The folder of a run by its name, which "." and ".." do not have. Raises UsageError for that of all files."""
    found = folder if folder.name not in ("", "..") else Path(os.path.abspath(folder))
    if not found.name:
        raise UsageError(f"a run needs a folder of its own (received: {folder})")
    return found


def _config(data: Path, typed: Mapping[str, Any], file: Path | None, reject_at: str | None) -> tuple[Any, str]:
    """The run's config, and why it is so."""
    from collections import Counter
    from dataclasses import replace

    from edgecnn.commands._training import command_line, say_doubts
    from edgecnn.training.presets import make_config, read_options
    from edgecnn_runtime.dataset import read_dataset

    given = {**(read_options(file) if file else {}), **typed}
    share = reject_at or given.pop("reject_at", None)
    counts = Counter(picture.label for picture in read_dataset(data).pictures)
    made, why = make_config(data, given, counts)
    say_doubts(made, given, sorted(counts))
    return replace(made, reject_at=_share(str(share)) if share else 0.0, command=command_line()), why


def _find_rate(made: Any, progress: Any, json: bool) -> None:
    from edgecnn.training.train import find_learning_rate, load_pictures

    losses, rate = find_learning_rate(made, load_pictures(made, progress), cores(), progress)
    if json:
        print_json("train", {"learning_rate": rate, "losses": losses})
        return
    highest = max(loss for _, loss in losses)
    for tried, loss in losses[:: max(1, len(losses) // 20)]:
        print(f"{tried:8.1e}  loss {loss:6.3f}  {'#' * round(50 * loss / highest)}")
    print(f"the loss falls fastest at {rate:.1e}: --learning-rate {rate:.1e}")


def _share(text: str) -> float:
    """A fraction from "5%" or "0.05"."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0.0 < share < 1.0:
        raise UsageError(f"--reject-at is a share such as 5% or 0.05 (received: {text})")
    return share


def _print_outcome(folder: Path, metrics: Mapping[str, Any]) -> None:
    counts = metrics["pictures"]
    print(f"trained on {counts['train']:,} pictures in {metrics['train_s']:.0f} s")
    if found := metrics.get("feigned"):
        gain = f"{found['points']:.1f} ± {found['spread_points']:.1f} points of accuracy"
        print(
            f"{found['pictures']} near-duplicates in {found['groups']} groups stay on one side of the split; "
            f"torn apart they would feign {gain}"
        )
    elif groups := metrics["groups"]:
        print(f"{sum(map(len, groups))} near-duplicates in {len(groups)} groups stay on one side of the split")
    if kept := metrics.get("kept"):
        print(_KEPT[kept])
    for split in ("val", "test"):
        low, high = metrics["interval"][split]
        print(
            f"accuracy {split:<4} {metrics['accuracy'][split]:.1%}  "
            f"(95 % interval {low:.1%} to {high:.1%}, {counts[split]:,} pictures)"
        )
    if unseen := [row["label"] for row in metrics["test"]["classes"] if not row["support"]]:
        print(f"no test picture of {', '.join(unseen)}: how well it is known was not measured")
    if metrics["reject_threshold"]:
        print(
            f"answers below {metrics['reject_threshold']:.3f} are 'unknown'; "
            f"{metrics['answered']:.1%} of the validation pictures get one"
        )
    if metrics["reject_note"]:
        print(f"edgecnn: no reject threshold: {metrics['reject_note']}", file=sys.stderr)
    print(f"run in {folder}; look at {folder / 'report.html'}\nnext: edgecnn export {shlex.quote(str(folder))}")
