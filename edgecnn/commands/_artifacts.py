"""What `export` and `quickstart` share: a run's artifacts, measured and shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.evaluation.summary import write_run_report
from edgecnn.training.head import predict
from edgecnn.training.run import Config, Run
from edgecnn.training.train import Pictures, load_model
from edgecnn_converters import formats
from edgecnn_converters.artifacts import Artifact, TestSet, make_artifact
from edgecnn_converters.freeze import freeze
from edgecnn_runtime.classifier import apply_temperature
from edgecnn_runtime.contract import Contract, Decision, Provenance
from edgecnn_runtime.errors import EdgecnnError, UsageError

CALIBRATION_PICTURES = 100

Variant = tuple[str, str]  # format, precision
Progress = Callable[[str, int, int], None]


def choose_variants(wanted_formats: Sequence[str], wanted_precisions: Sequence[str]) -> list[Variant]:
    """The formats and precisions to make; an empty sequence means all. Raises UsageError when none remains."""
    chosen = [
        (name, precision)
        for name in wanted_formats or formats.names()
        for precision in formats.get(name).PRECISIONS
        if not wanted_precisions or precision in wanted_precisions
    ]
    made = {precision for _, precision in chosen}
    if missing := [precision for precision in wanted_precisions if precision not in made]:
        raise UsageError(f"precision {missing[0]} does not exist for {' or '.join(wanted_formats or formats.names())}")
    return list(dict.fromkeys(chosen))


def check_free(folder: Path, backbone: str, variants: Sequence[Variant], overwrite: bool) -> None:
    """Raises EdgecnnError when an artifact exists and may not be replaced."""
    for name, precision in variants:
        path = folder / f"{backbone}-{precision}.{name}"
        if path.exists() and not overwrite:
            raise EdgecnnError(f"{path} exists already; add --overwrite to replace it")


def export_run(
    run: Run,
    pictures: Pictures,
    variants: Sequence[Variant],
    workers: int,
    progress: Progress,
    commands: Sequence[str] = (),
) -> list[Artifact]:
    """Makes a run's artifacts in its folder ``artifacts`` and writes the report anew with their figures."""
    model = load_model(run)
    index = pictures.of("test")
    test_pixels = [pictures.pixels[i] for i in index]
    reference = predict(model, test_pixels)
    decision = Decision(run.metrics["temperature"], run.metrics["reject_threshold"])
    softened = apply_temperature(reference, decision.temperature)
    test = TestSet(test_pixels, pictures.truth[index], softened) if len(index) else None
    function = freeze(model, run.config.height, run.config.width)
    contract = run_contract(run.config, run.labels, run.metrics["data_sha256"], decision)
    calibration = calibration_pictures(pictures, run.config.seed)
    made = make_all(function, contract, variants, calibration, test, run.folder / "artifacts", workers, progress)
    if test is not None:
        write_run_report(run, pictures, {"test": reference}, run.folder.name, made, commands, model)
    return made


def make_all(
    function: Any,
    contract: Contract,
    variants: Sequence[Variant],
    calibration: Sequence[Any],
    test: TestSet | None,
    folder: Path,
    workers: int,
    progress: Progress,
) -> list[Artifact]:
    """Makes artifacts one after the other."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgecnnError(f"{folder}: cannot be made: {error.strerror}") from error
    made = []
    for name, precision in variants:
        made.append(make_artifact(function, contract, name, precision, calibration, test, folder, workers))
        progress("exporting", len(made), len(variants))
    return made


def run_contract(config: Config, labels: tuple[str, ...], data_sha256: str, decision: Decision) -> Contract:
    """The contract of a run's model, without what is measured of an artifact."""
    weights = {
        "imagenet": f"ImageNet ({config.backbone}), head trained by recipe {config.recipe}",
        "none": f"trained from scratch by recipe {config.recipe}",
    }.get(config.weights, f"{Path(config.weights).name}, head trained by recipe {config.recipe}")
    return Contract(
        height=config.height,
        width=config.width,
        labels=labels,
        activation=config.head.output,  # type: ignore[arg-type]
        decision=decision,
        preprocessing=config.preprocessing,
        provenance=Provenance(
            backbone=config.backbone, precision="", weights=weights, data_hash=data_sha256, seed=config.seed
        ),
    )


def calibration_pictures(pictures: Pictures, seed: int) -> list[Any]:
    """Up to `CALIBRATION_PICTURES` preprocessed pictures, drawn from the training split alone."""
    train = pictures.of("train")
    chosen = np.random.default_rng(seed).permutation(train)[:CALIBRATION_PICTURES]
    return [np.asarray(pictures.pixels[i]) for i in np.sort(chosen)]


def print_table(artifacts: Sequence[Artifact]) -> None:
    """Prints one line an artifact: size, accuracy with interval, drop, agreement, latency."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    columns = ["format", "precision", "size", "accuracy (95 %)", "drop", "agrees", "latency"]
    for column in columns:
        table.add_column(column, justify="left" if column in columns[:2] else "right", no_wrap=True)
    for artifact in artifacts:
        cells = ["not measured", "", ""]
        if artifact.test is not None and artifact.test.agreement is not None:
            low, high = artifact.test.interval
            cells = [
                f"{artifact.test.accuracy:.1%} ({100 * low:.1f}-{100 * high:.1f})",
                f"{artifact.drop_points:+.2f}",
                f"{artifact.test.agreement:.1%}",
            ]
        size, latency = f"{artifact.size_mb:.2f} MB", f"{artifact.latency_ms:.2f} ms"
        table.add_row(artifact.format, artifact.precision, size, *cells, latency)
    Console().print(table)


def artifact_document(artifact: Artifact) -> dict[str, Any]:
    """An artifact's figures for --json."""
    test = artifact.test
    return {
        "path": str(artifact.path),
        "format": artifact.format,
        "precision": artifact.precision,
        "size_mb": artifact.size_mb,
        "latency_ms": artifact.latency_ms,
        "accuracy": {"test": None if test is None else test.accuracy},
        "interval": {} if test is None else {"test": list(test.interval)},
        "drop_points": artifact.drop_points,
        "agreement": None if test is None else test.agreement,
        "max_difference": artifact.max_difference,
    }
