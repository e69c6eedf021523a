"""A run, and what was exported of it, as a report and as a table."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgecnn.evaluation.gradcam import heatmaps, overlay
from edgecnn.evaluation.layers import first_feature_maps, layer_rows
from edgecnn.evaluation.report import ArtifactRow, Calibration, Example, Heatmap, Report, write_report
from edgecnn.training.run import MEASURED_OF_TRAIN, SPLITS, Run
from edgecnn_converters.artifacts import versions
from edgecnn_runtime.classifier import Probabilities, apply_temperature
from edgecnn_runtime.metrics import Truth, confusion, expected_calibration_error, reliability_bins

if TYPE_CHECKING:
    import keras

    from edgecnn.training.train import Pictures
    from edgecnn_converters.artifacts import Artifact

_EXAMPLES = 12
_MISTAKES = 12
_HEATMAPS = 4

Indexes = npt.NDArray[np.int64]


def write_run_report(
    run: Run,
    pictures: Pictures,
    probabilities: Mapping[str, Probabilities],
    title: str,
    artifacts: Sequence[Artifact] = (),
    commands: Sequence[str] = (),
    model: keras.Model | None = None,
) -> None:
    """Writes ``report.html`` into the run folder.

    Args:
        probabilities: split -> ``(n, classes)`` float32 of its pictures, in their order, before the temperature; those
            of test are shown, after it.
        commands: what to do next, each a line to type.
        model: backbone and head joined; without it there is no table of layers, nothing of what it looks at.
    """
    index = pictures.of("test")
    truth = pictures.truth[index]
    metrics = run.metrics
    shown = apply_temperature(probabilities["test"], metrics["temperature"])
    wrong = np.flatnonzero(shown.argmax(1) != truth)
    wrong = wrong[np.argsort(-shown[wrong].max(1), kind="stable")]
    right = np.flatnonzero(shown.argmax(1) == truth)
    report = Report(
        title=title,
        facts=_facts(run),
        history=run.history,
        labels=run.labels,
        confusion=confusion(truth.tolist(), shown.argmax(1).tolist(), len(run.labels)),
        accuracy={
            split: (metrics["accuracy"][split], tuple(metrics["interval"][split]))
            for split in SPLITS
            if metrics["accuracy"].get(split) is not None
        },
        artifacts=tuple(_row(artifact) for artifact in artifacts),
        calibration=_calibration(probabilities["test"], truth, metrics),
        mistakes=_examples(pictures, index, shown, wrong[:_MISTAKES]),
        examples=_examples(pictures, index, shown, _spread(np.arange(len(index)), _EXAMPLES)),
        **({} if model is None else _looks(model, pictures, index, shown, right, wrong)),
        pictures={
            split: np.bincount(pictures.truth[pictures.of(split)], minlength=len(run.labels)).tolist()
            for split in SPLITS
        },
        unreadable=tuple((path, reason) for path, reason in metrics["unreadable"]),
        command=run.config.command,
        provenance=_provenance(metrics),
        commands=tuple(commands),
    )
    write_report(run.folder / "report.html", report)


def _facts(run: Run) -> tuple[tuple[str, str], ...]:
    config, metrics = run.config, run.metrics
    some = metrics["pictures"]["train"] > MEASURED_OF_TRAIN
    measured = f"; the accuracy on train is of {MEASURED_OF_TRAIN} of them" if some else ""
    smaller = f"; tuned at {config.tuning.train_size} px" if config.tuning.train_size else ""
    return (
        ("Pictures", ", ".join(f"{metrics['pictures'][split]:,} {split}" for split in SPLITS) + measured),
        ("Backbone", f"{config.backbone}, {metrics['parameters']:,} parameters, weights {config.weights}"),
        ("Input", f"{config.height} x {config.width} px, {config.preprocessing.fit}{smaller}"),
        ("Recipe", f"{config.recipe}, seed {config.seed}, {metrics['train_s']:g} s"),
    )


def _provenance(metrics: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return (
        ("SHA-256 of pictures and labels", metrics["data_sha256"]),
        ("SHA-256 of the weights", metrics["weights_sha256"]),
        ("Python", platform.python_version()),
        *versions().items(),
    )


def _calibration(probabilities: Probabilities, truth: Truth, metrics: Mapping[str, Any]) -> Calibration | None:
    if not len(truth):
        return None
    temperature, reject = metrics["temperature"], metrics["reject_threshold"]
    after = apply_temperature(probabilities, temperature)
    accepted = after.max(1) >= reject
    return Calibration(
        temperature=temperature,
        before=reliability_bins(probabilities, truth),
        after=reliability_bins(after, truth),
        error_before=expected_calibration_error(probabilities, truth),
        error_after=expected_calibration_error(after, truth),
        reject_threshold=reject,
        reject_note=metrics.get("reject_note", ""),
        coverage=float(accepted.mean()),
        wrong=float((after.argmax(1) != truth)[accepted].mean()) if accepted.any() else 0.0,
    )


def _looks(
    model: keras.Model, pictures: Pictures, index: Indexes, shown: Probabilities, right: Indexes, wrong: Indexes
) -> dict[str, Any]:
    """What the model itself has to show: its layers, first feature maps, and Grad-CAM on right and wrong answers."""
    looks: dict[str, Any] = {"layers": layer_rows(model)}
    few = wrong[: _HEATMAPS // 2]
    chosen = np.concatenate([_spread(right, _HEATMAPS - len(few)), few])
    if not len(chosen):
        return looks
    pixels = np.stack([pictures.pixels[index[i]] for i in chosen])
    looks["feature_maps"] = first_feature_maps(model, pixels[0])
    heats = heatmaps(model, pixels, shown[chosen].argmax(1))
    if heats is not None:
        examples = _examples(pictures, index, shown, chosen)
        looks["heatmaps"] = tuple(
            Heatmap(example, overlay(picture, heat))
            for example, picture, heat in zip(examples, pixels, heats, strict=True)
        )
    return looks


def _spread(indexes: Indexes, most: int) -> Indexes:
    """At most that many of the indexes, evenly spread."""
    return indexes[np.linspace(0, len(indexes) - 1, min(len(indexes), most)).astype(int)] if len(indexes) else indexes


def _row(artifact: Artifact) -> ArtifactRow:
    assert artifact.test is not None
    verdict = artifact.verdict
    return ArtifactRow(
        format=artifact.format,
        precision=artifact.precision,
        size_mb=artifact.size_mb,
        accuracy=artifact.test.accuracy,
        interval=artifact.test.interval,
        drop_points=artifact.drop_points or 0.0,
        agreement=artifact.test.agreement or 0.0,
        max_difference=artifact.max_difference or 0.0,
        latency_ms=artifact.latency_ms,
        file=artifact.path.name,
        gate="" if verdict is None else "REFUSED" if verdict.outcome == "fail" else verdict.outcome,
    )


def _examples(pictures: Pictures, index: Indexes, shown: Probabilities, chosen: Indexes) -> tuple[Example, ...]:
    """The chosen ones among the pictures of `index`, whose probabilities are `shown`."""
    return tuple(
        Example(
            picture=np.asarray(pictures.pixels[index[i]]),
            truth=pictures.labels[pictures.truth[index[i]]],
            predicted=pictures.labels[int(shown[i].argmax())],
            probability=float(shown[i].max()),
            name=pictures.entries[index[i]].path,
        )
        for i in chosen
    )
