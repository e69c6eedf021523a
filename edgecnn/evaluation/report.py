"""The report of a run: one HTML file that needs nothing else, neither network nor script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from edgecnn.evaluation._page import NBSP, percent, render
from edgecnn.evaluation.figures import class_rows, macro_average
from edgecnn.evaluation.layers import FeatureMaps, LayerRow
from edgecnn.evaluation.plots import MAX_NUMBERED, confusion_matrix, curves, reliability
from edgecnn.pages import write_page
from edgecnn_runtime.metrics import BINS, Bin


@dataclass(frozen=True)
class ArtifactRow:
    """One exported file, as measured on the test split; NaN where a figure was not measured.

    Attributes:
        accuracy, interval: fraction and its 95 % interval (low, high).
        drop_points: float accuracy minus this accuracy, in percentage points.
        agreement: fraction of pictures with the same top-1 class as the Keras model.
        max_difference: largest difference of a probability from the Keras model's, in [0, 1].
        latency_ms: milliseconds for one picture.
        gate: its verdict, "pass", "unproven" or "REFUSED"; empty where it had no pictures to judge by.
    """

    format: str
    precision: str
    size_mb: float
    accuracy: float
    interval: tuple[float, float]
    drop_points: float
    agreement: float
    max_difference: float
    latency_ms: float
    file: str
    gate: str = ""


@dataclass(frozen=True)
class Example:
    """A picture of the test split, (H, W, 3) uint8 RGB, and what the model said, with a `probability` in [0, 1]."""

    picture: npt.NDArray[np.uint8]
    truth: str
    predicted: str
    probability: float
    name: str


@dataclass(frozen=True)
class Heatmap:
    """An example and its Grad-CAM overlay, (H, W, 3) uint8 RGB."""

    example: Example
    overlay: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Calibration:
    """How far the probabilities can be believed on the test split.

    Attributes:
        before, after: the bins without and with the temperature; the errors (ECE) are fractions.
        reject_threshold: answers less probable than this are none; 0 rejects nothing.
        coverage, wrong: fraction of the pictures with an answer; fraction of those answers that are wrong.
        reject_note: why there is no threshold although one was asked for; else "".
    """

    temperature: float
    before: tuple[Bin, ...]
    after: tuple[Bin, ...]
    error_before: float
    error_after: float
    reject_threshold: float = 0.0
    coverage: float = 1.0
    wrong: float = 0.0
    reject_note: str = ""


@dataclass(frozen=True)
class Report:
    """What the report shows. Every text may hold anything: it is escaped.

    Attributes:
        facts: (name, value) pairs about the run.
        history: columns of history.csv, see `edgecnn.evaluation.plots.curves`.
        confusion: (classes, classes) integers on the test split, rows truth, in the order of `labels`.
        accuracy: by split (``test`` is required): fraction and its 95 % interval (low, high).
        mistakes: wrong answers, the surest first.
        pictures: by split: (classes,) how many pictures of each label.
        unreadable: (file, reason) pairs.
        command: the command line that made the run.
        provenance: (name, value) pairs: versions, hashes.
        commands: shell commands to go on with.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    history: Mapping[str, Sequence[float]]
    labels: tuple[str, ...]
    confusion: npt.NDArray[np.integer]
    accuracy: Mapping[str, tuple[float, tuple[float, float]]]
    artifacts: tuple[ArtifactRow, ...] = ()
    calibration: Calibration | None = None
    mistakes: tuple[Example, ...] = ()
    heatmaps: tuple[Heatmap, ...] = ()
    examples: tuple[Example, ...] = ()
    layers: tuple[LayerRow, ...] = ()
    feature_maps: FeatureMaps | None = None
    pictures: Mapping[str, Sequence[int]] = field(default_factory=dict)
    unreadable: tuple[tuple[str, str], ...] = ()
    command: str = ""
    provenance: tuple[tuple[str, str], ...] = ()
    commands: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.confusion.shape != (len(self.labels), len(self.labels)):
            raise ValueError(f"confusion must be (classes, classes) for {len(self.labels)} labels")
        if "test" not in self.accuracy:
            raise ValueError(f"accuracy must have the split 'test' (received: {', '.join(self.accuracy)})")


def write_report(path: Path, report: Report) -> None:
    """Writes the report as one HTML file in UTF-8, whole or not at all. Equal reports give equal files.

    Raises:
        EdgecnnError: the file cannot be written.
    """
    history = {"loss": "", "accuracy": ""}
    for name in history:
        columns = ("epoch", name, f"val_{name}")
        history[name] = curves({column: report.history[column] for column in columns if column in report.history})
    rows = class_rows(report.confusion, report.labels)
    html = render(
        report=report,
        curves={name: Markup(svg) for name, svg in history.items() if svg},
        matrix=Markup(confusion_matrix(report.confusion, report.labels)),
        numbered=len(report.labels) <= MAX_NUMBERED,
        classes=rows,
        macro=macro_average(rows),
        bins=BINS,
        diagrams=[Markup(svg) for svg in _diagrams(report.calibration)],
        right=int(np.trace(report.confusion)),
        total=int(report.confusion.sum()),
    )
    write_page(path, html)


def _diagrams(calibration: Calibration | None) -> list[str]:
    if calibration is None:
        return []
    shown = [reliability(calibration.before, f"as trained: error {percent(calibration.error_before)}")]
    if calibration.temperature != 1.0:
        title = f"with temperature{NBSP}{calibration.temperature:.2f}: error {percent(calibration.error_after)}"
        shown.append(reliability(calibration.after, title))
    return [svg for svg in shown if svg]
