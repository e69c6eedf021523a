"""A run, and what was exported of it, as a report and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgecnn.evaluation.report import ArtifactRow, Example, Report, write_report
from edgecnn.training.run import SPLITS, Run
from edgecnn_runtime.metrics import confusion

if TYPE_CHECKING:
    from edgecnn.training.train import Pictures
    from edgecnn_converters.artifacts import Artifact

_EXAMPLES = 12


def write_run_report(
    run: Run,
    pictures: Pictures,
    probabilities: Mapping[str, npt.NDArray[np.float32]],
    title: str,
    artifacts: Sequence[Artifact] = (),
    commands: Sequence[str] = (),
) -> None:
    """Writes ``report.html`` into the run folder.

    Args:
        probabilities: split -> ``(n, classes)`` float32 of its pictures, in their order; those of test are shown.
        commands: what to do next, each a line to type.
    """
    index = pictures.of("test")
    predicted = probabilities["test"].argmax(1)
    config, metrics = run.config, run.metrics
    accuracy = {
        split: (metrics["accuracy"][split], tuple(metrics["interval"][split]))
        for split in SPLITS
        if metrics["accuracy"].get(split) is not None
    }
    facts = (
        ("Pictures", ", ".join(f"{metrics['pictures'][split]:,} {split}" for split in SPLITS)),
        ("Backbone", f"{config.backbone}, {metrics['parameters']:,} parameters, weights {config.weights}"),
        ("Input", f"{config.height} x {config.width} px, {config.preprocessing.fit}"),
        ("Recipe", f"{config.recipe}, seed {config.seed}, {metrics['train_s']:g} s"),
        ("Weights", f"SHA-256 {metrics['weights_sha256'][:16]}…"),
    )
    report = Report(
        title=title,
        facts=facts,
        history=run.history,
        labels=run.labels,
        confusion=confusion(pictures.truth[index].tolist(), predicted.tolist(), len(run.labels)),
        accuracy=accuracy,
        artifacts=tuple(_row(artifact) for artifact in artifacts),
        examples=_examples(pictures, index, probabilities["test"]),
        unreadable=tuple((path, reason) for path, reason in metrics["unreadable"]),
        commands=tuple(commands),
    )
    write_report(run.folder / "report.html", report)


def _row(artifact: Artifact) -> ArtifactRow:
    assert artifact.test is not None
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
    )


def _examples(
    pictures: Pictures, index: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float32]
) -> tuple[Example, ...]:
    """A few pictures: the surest mistakes, which teach most, and others spread over the rest."""
    predicted = probabilities.argmax(1)
    wrong = np.flatnonzero(predicted != pictures.truth[index])
    wrong = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][: _EXAMPLES // 3]
    right = np.flatnonzero(predicted == pictures.truth[index])
    spread = (
        right[np.linspace(0, len(right) - 1, min(len(right), _EXAMPLES - len(wrong))).astype(int)]
        if len(right)
        else right
    )
    return tuple(
        Example(
            picture=np.asarray(pictures.pixels[index[i]]),
            truth=pictures.labels[pictures.truth[index[i]]],
            predicted=pictures.labels[predicted[i]],
            probability=float(probabilities[i].max()),
            name=pictures.entries[index[i]].path,
        )
        for i in [*spread, *wrong]
    )
