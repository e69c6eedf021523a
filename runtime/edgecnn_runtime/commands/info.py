"""`edgecnn info`."""

from __future__ import annotations

import json as json_module
from typing import Annotated

import typer

from edgecnn_runtime.commands import _model, print_json
from edgecnn_runtime.errors import ModelError, UsageError


def info(
    artifact: _model.Artifact,
    labels: Annotated[bool, typer.Option("--labels", help="Print the labels alone, one a line.")] = False,
    contract: Annotated[
        bool, typer.Option("--contract", help="Print the contract alone, as JSON, all that the file carries.")
    ] = False,
    json: _model.Json = False,
) -> None:
    """Show what a model file expects, where it comes from, and how its engine runs it.

    Example: edgecnn info runs/flowers/artifacts/efficientnet_lite0-int8.tflite
    """
    from edgecnn_runtime.artifact import read_artifact

    if labels + contract + json > 1:
        raise UsageError("--labels, --contract and --json exclude one another")
    graph, stated, module = read_artifact(artifact)
    if labels:
        print("\n".join(stated.labels))
        return
    if contract:
        text = module.split(artifact.read_bytes())[1]
        assert text is not None
        print(json_module.dumps(json_module.loads(text), ensure_ascii=False, indent=2))
        return
    try:
        words, execution = module.describe(graph)
    except ModelError as error:  # no engine is needed to read a file
        words, execution = f"not known: {error}", {}
    document = json_module.loads(stated.to_json())["contract"]
    if json:
        for golden in document["goldens"]:
            del golden["png"]
        print_json(
            "info",
            {
                "artifact": str(artifact),
                "size_bytes": artifact.stat().st_size,
                "engine": execution,
                "contract": document,
            },
        )
        return
    steps, source = stated.preprocessing, stated.provenance
    fit = f"{steps.fit} {steps.crop_fraction:g}" if steps.fit == "crop" else steps.fit
    shown = ", ".join(stated.labels[:8]) + (" …" if len(stated.labels) > 8 else "")
    rows = [
        ("file", f"{artifact}, {artifact.stat().st_size / 1e6:.2f} MB"),
        ("backbone", f"{source.backbone}, {source.precision}"),
        ("input", f"{stated.height}x{stated.width} px RGB, 0-255"),
        ("preprocessing", ", ".join([*steps.filters, fit, steps.resampling])),
        ("output", f"{stated.activation}, {len(stated.labels)} labels: {shown}"),
        ("weights", source.weights or "unknown"),
        ("created", source.created or "unknown"),
        ("engine", words),
        ("goldens", str(len(stated.goldens))),
        ("graph", f"sha256 {stated.graph_sha256[:16]}…, {len(graph) / 1e6:.2f} MB, unaltered"),
    ]
    if source.test is not None:
        low, high = source.test.interval
        counted = f"{source.test.accuracy:.1%} ({low:.1%} to {high:.1%}) on {source.test.pictures} test pictures"
        rows.insert(2, ("accuracy", counted))
    if source.gate is not None:
        gate = source.gate
        bounds = f"{gate.interval[0]:+.2f} to {gate.interval[1]:+.2f}"
        proof = {"pass": "passed", "fail": "REFUSED", "unproven": "UNPROVEN"}[gate.outcome]
        drop = f"drop {gate.drop_points:+.2f} points ({bounds}) on {gate.pictures:,} pictures"
        rows.insert(3, ("gate", f"{proof}: {drop}, allowed {gate.max_drop_points:g}"))
    if source.published_top1 is not None:
        published = f"{source.published_top1} % on ImageNet, as published for the float32 weights; not measured here"
        rows.insert(2, ("accuracy", published))
    rows += [(name, text) for name, text in vars(source.publication).items() if text]
    for name, value in rows:
        print(f"{name:<14} {value}")
