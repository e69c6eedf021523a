"""`edgecnn compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgecnn.commands._options import with_options
from edgecnn_runtime.commands import cores, print_json
from edgecnn_runtime.errors import UsageError

if TYPE_CHECKING:
    from edgecnn.evaluation.comparison import Candidate
    from edgecnn.training.run import Config
    from edgecnn.training.train import Progress

_MOBILE = "efficientnet_lite0,mobilenet_v3_small,mobilenet_v2"


@with_options("head", "optimization", "tuning", "augmentation", "machine")
def compare(
    data: Annotated[
        Path,
        typer.Argument(help="A folder per class, or train/val/test folders of them, or a CSV.", show_default=False),
    ],
    backbones: Annotated[str, typer.Option(help="Names with commas between; see 'edgecnn backbones'.")] = _MOBILE,
    out: Annotated[
        Path | None, typer.Option(help="A folder for the runs and compare.html. Default: runs/compare-<name of DATA>.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="One recipe for all.")] = "fast",
    weights: Annotated[
        str | None, typer.Option(help="imagenet or none. Default: imagenet; none with --recipe scratch.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="One input side in px for all. Default: the recipe's.")] = None,
    fit: Annotated[str | None, typer.Option(help="crop, squash or pad. Default: the recipe's.")] = None,
    seed: Annotated[int, typer.Option(help="One split and seed for all.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
    **options: Any,
) -> None:
    """Train several backbones alike and show accuracy, speed and size of their int8 files.

    Finished runs of the same settings in the folder are not trained again.

    Example: edgecnn compare photos/ --backbones efficientnet_lite0,mobilenet_v3_small
    """
    from collections import Counter
    from dataclasses import asdict

    from edgecnn.backbones import get as backbone_named
    from edgecnn.commands._progress import progress_bars
    from edgecnn.commands._training import say_doubts
    from edgecnn.evaluation.comparison import pareto, write_comparison
    from edgecnn.training.presets import make_config
    from edgecnn_runtime.dataset import read_dataset

    names = list(dict.fromkeys(name.strip() for name in backbones.split(",") if name.strip()))
    if len(names) < 2:
        raise UsageError(f"--backbones names two or more, with commas between (received: {backbones})")
    counts = Counter(picture.label for picture in read_dataset(data).pictures)
    weights = weights or ("none" if recipe == "scratch" else "imagenet")  # the same for all
    own = {"recipe": recipe, "weights": weights, "size": size, "fit": fit, "seed": seed}
    typed = {name: value for name, value in {**own, **options}.items() if value is not None}
    configs = [make_config(data, {**typed, "backbone": name}, counts)[0] for name in names]
    for config in configs:  # now, not after the hours that those before it take
        backbone_named(config.backbone).check(config.height, config.width, config.weights)
    say_doubts(configs[0], typed, sorted(counts))
    folder = out or Path("runs", f"compare-{Path(configs[0].data).stem}")
    found = []
    with progress_bars() as progress:
        for config in configs:
            found.append(_candidate(config, folder / config.backbone, progress))
            if not json:
                print(
                    f"{config.backbone}: {found[-1].int8_test:.1%} on test, {found[-1].latency_ms:.2f} ms", flush=True
                )
    found.sort(key=lambda one: -one.val)
    protocol = f"Recipe {configs[0].recipe}, seed {seed}, {sum(counts.values()):,} pictures of {len(counts)} classes."
    write_comparison(folder / "compare.html", f"Networks on {Path(configs[0].data).stem}", protocol, found)
    front = pareto(found)
    if json:
        documents = [{**asdict(one), "pareto": one.backbone in front} for one in found]
        print_json("compare", {"page": str(folder / "compare.html"), "backbones": documents})
        return
    _print_table(found, front)
    print(f"the plot is in {folder / 'compare.html'}")


def _candidate(config: Config, folder: Path, progress: Progress) -> Candidate:
    from dataclasses import replace

    from edgecnn.commands._artifacts import export_run
    from edgecnn.commands._training import command_line, resume_run, train_run
    from edgecnn.evaluation.comparison import Candidate
    from edgecnn.training.run import part_of, read_part, read_run
    from edgecnn.training.train import reload_pictures

    begun = part_of(folder).exists() and not folder.exists()
    if begun or folder.exists():
        known = read_part(folder) if begun else read_run(folder)
        if replace(known.config, command="") != config:
            raise UsageError(f"{folder} holds a run with other settings; name another folder with --out")
    if begun:
        resume_run(folder, cores(), progress)
    elif not folder.exists():
        train_run(replace(config, command=command_line()), folder, False, cores(), progress)
    run = read_run(folder)
    made = export_run(run, reload_pictures(run, progress=progress), [("tflite", "int8")], cores(), progress)[0]
    assert made.test is not None
    assert made.verdict is not None
    return Candidate(
        backbone=config.backbone,
        val=run.metrics["accuracy"]["val"],
        test=run.metrics["accuracy"]["test"],
        int8_test=made.test.accuracy,
        interval=made.test.interval,
        gate=made.verdict.outcome,
        latency_ms=made.latency_ms,
        size_mb=made.size_mb,
        train_s=run.metrics["train_s"],
        artifact=str(made.path),
    )


def _print_table(found: list[Candidate], front: set[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("", "backbone", "val", "int8 test (95 %)", "latency", "size"):  # 80 columns hold no more
        table.add_column(column, justify="left" if column in ("", "backbone") else "right", no_wrap=True)
    for one in found:
        table.add_row(
            "●" if one.backbone in front else "",
            one.backbone,
            f"{one.val:.1%}",
            f"{one.int8_test:.1%} ({100 * one.interval[0]:.1f}-{100 * one.interval[1]:.1f})",
            f"{one.latency_ms:.2f} ms",
            f"{one.size_mb:.2f} MB",
        )
    Console().print(table)
    for one in found:
        if one.gate == "fail":
            print(f"the gate refused the int8 file of {one.backbone}; 'edgecnn export' says why")
    print("● no other one is at least as accurate on validation, as fast and as small")
