"""The report of a run: one HTML file that needs nothing else, neither network nor script."""

from __future__ import annotations

import base64
import functools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import jinja2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from edgecnn.evaluation.plots import MAX_NUMBERED, confusion_matrix, curves
from edgecnn_runtime.errors import EdgecnnError

MAX_PICTURE_SIDE_PX = 240
TINY_PICTURE_SIDE_PX = 64
NBSP, MINUS = "\N{NO-BREAK SPACE}", "\N{MINUS SIGN}"


@dataclass(frozen=True)
class ArtifactRow:
    """One exported file, as measured on the test split; NaN where a figure was not measured.

    Attributes:
        accuracy, interval: fraction and its 95 % interval (low, high).
        drop_points: float accuracy minus this accuracy, in percentage points.
        agreement: fraction of pictures with the same top-1 class as the Keras model.
        max_difference: largest difference of a probability from the Keras model's, in [0, 1].
        latency_ms: milliseconds for one picture.
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


@dataclass(frozen=True)
class Example:
    """A picture of the test split, (H, W, 3) uint8 RGB, and what the model said, with a `probability` in [0, 1]."""

    picture: npt.NDArray[np.uint8]
    truth: str
    predicted: str
    probability: float
    name: str


@dataclass(frozen=True)
class Report:
    """What the report shows. Every text may hold anything: it is escaped.

    Attributes:
        facts: (name, value) pairs about the run.
        history: columns of history.csv, see `edgecnn.evaluation.plots.curves`.
        confusion: (classes, classes) integers on the test split, rows truth, in the order of `labels`.
        accuracy: by split (``test`` is required): fraction and its 95 % interval (low, high).
        unreadable: (file, reason) pairs.
        commands: shell commands to go on with.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    history: Mapping[str, Sequence[float]]
    labels: tuple[str, ...]
    confusion: npt.NDArray[np.integer]
    accuracy: Mapping[str, tuple[float, tuple[float, float]]]
    artifacts: tuple[ArtifactRow, ...] = ()
    examples: tuple[Example, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    commands: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.confusion.shape != (len(self.labels), len(self.labels)):
            raise ValueError(f"confusion must be (classes, classes) for {len(self.labels)} labels")
        if "test" not in self.accuracy:
            raise ValueError(f"accuracy must have the split 'test' (received: {', '.join(self.accuracy)})")


@dataclass(frozen=True)
class ClassRow:
    """One class on the test split; `recall` and `precision` are fractions, NaN where nothing was to be counted.

    Attributes:
        mistaken_for: the class that this one was most often taken for, and how often; None without mistakes.
    """

    label: str
    pictures: int
    recall: float
    precision: float
    mistaken_for: tuple[str, int] | None


def class_rows(counts: npt.NDArray[np.integer], labels: Sequence[str]) -> list[ClassRow]:
    """Recall and precision of every class, worst recall first; classes without pictures last.

    Args:
        counts: (classes, classes) integers, rows truth.
    """
    rows = []
    for index, label in enumerate(labels):
        right, pictures, named = int(counts[index, index]), int(counts[index].sum()), int(counts[:, index].sum())
        wrong = counts[index].copy()
        wrong[index] = 0
        most = int(wrong.argmax())
        rows.append(
            ClassRow(
                label,
                pictures,
                right / pictures if pictures else math.nan,
                right / named if named else math.nan,
                (labels[most], int(wrong[most])) if wrong[most] else None,
            )
        )
    return sorted(rows, key=lambda row: row.recall if row.pictures else math.inf)


def write_report(path: Path, report: Report) -> None:
    """Writes the report as one HTML file in UTF-8, whole or not at all. Equal reports give equal files.

    Raises:
        EdgecnnError: the file cannot be written.
    """
    history = {"loss": "", "accuracy": ""}
    for name in history:
        columns = ("epoch", name, f"val_{name}")
        history[name] = curves({column: report.history[column] for column in columns if column in report.history})
    html = _template().render(
        report=report,
        curves={name: Markup(svg) for name, svg in history.items() if svg},
        matrix=Markup(confusion_matrix(report.confusion, report.labels)),
        tiny_px=TINY_PICTURE_SIDE_PX,
        numbered=len(report.labels) <= MAX_NUMBERED,
        classes=class_rows(report.confusion, report.labels),
        right=int(np.trace(report.confusion)),
        total=int(report.confusion.sum()),
    )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # A file name that is not UTF-8 reaches Python as lone surrogates, which UTF-8 cannot carry.
        temporary.write_bytes(html.encode("utf-8", "backslashreplace"))
        os.replace(temporary, path)
    except OSError as error:
        raise EdgecnnError(
            f"{path}: the report cannot be written ({error.strerror}); choose a folder that exists and has room"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgecnn", "evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, percent=_percent, interval=_interval, picture=_picture)
    return environment.get_template("report.html.jinja")


def _number(value: float, digits: int, unit: str = "") -> str:
    if math.isnan(value):
        return "–"
    # Rounding first keeps a tiny negative number from becoming "-0.0".
    text = f"{round(value, digits) + 0.0:.{digits}f}".replace("-", MINUS)
    return f"{text}{NBSP}{unit}" if unit else text


def _percent(fraction: float) -> str:
    return _number(100 * fraction, 1, "%")


def _interval(interval: tuple[float, float]) -> str:
    return "–".join(_number(100 * bound, 1) for bound in interval)


def _picture(picture: npt.NDArray[np.uint8]) -> str:
    """Data URI: tiny pictures as they are, others as a small JPEG."""
    height, width = picture.shape[:2]
    scale = MAX_PICTURE_SIDE_PX / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    kind = "png" if max(height, width) <= TINY_PICTURE_SIDE_PX else "jpeg"
    data = cv2.imencode(f".{kind}", bgr)[1].tobytes()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
