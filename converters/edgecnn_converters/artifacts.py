"""Artifacts: a frozen network to a verified file with its contract, its own test metrics and its goldens."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecnn_converters import formats
from edgecnn_converters.goldens import make_goldens
from edgecnn_runtime import Classifier
from edgecnn_runtime.backends import module_for
from edgecnn_runtime.classifier import write_artifact
from edgecnn_runtime.contract import Accuracy, Contract
from edgecnn_runtime.errors import EdgecnnError
from edgecnn_runtime.metrics import wilson_interval
from edgecnn_runtime.parallel import map_ordered

Pixels = npt.NDArray[np.uint8]

_PACKAGES = (
    "edgecnn", "edgecnn-converters", "edgecnn-runtime", "tensorflow", "tensorflow-cpu", "keras", "numpy",
    "opencv-python", "opencv-python-headless", "ai-edge-litert", "tflite-runtime", "onnxruntime", "tf2onnx",
)  # fmt: skip


@dataclass(frozen=True)
class TestSet:
    """Pictures that neither training nor calibration saw.

    Attributes:
        pixels: preprocessed pictures, each ``(H, W, 3)`` uint8 RGB.
        truth: ``(N,)`` int, index of the right label.
        reference: ``(N, classes)`` float32, the Keras model's probabilities.
    """

    pixels: Sequence[Pixels]
    truth: npt.NDArray[np.int64]
    reference: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Artifact:
    """A written and verified artifact, and what was measured of it.

    Attributes:
        drop_points: float accuracy minus artifact accuracy, in percentage points; None without test pictures.
        max_difference: largest absolute difference of a probability from the Keras model's; None likewise.
        latency_ms: median time of one inference with one thread, preprocessing left out.
    """

    path: Path
    format: str
    precision: str
    size_mb: float
    latency_ms: float
    test: Accuracy | None = None
    drop_points: float | None = None
    max_difference: float | None = None


def make_artifact(
    function: Any,
    contract: Contract,
    format: str,
    precision: str,
    calibration: Sequence[Pixels],
    test: TestSet | None,
    folder: Path,
    workers: int,
) -> Artifact:
    """Converts, measures, writes and re-reads one artifact: ``folder/<backbone>-<precision>.<format>``.

    Args:
        function: from `edgecnn_converters.freeze.freeze`.
        contract: all but precision, test metrics and goldens, which are added here.
        calibration: preprocessed training pictures; needed for int8.
        workers: engines that classify the test pictures side by side.

    Raises:
        EdgecnnError: conversion failed, or the file that was written does not pass its own self-test.
    """
    if precision == "int8" and not len(calibration):
        raise EdgecnnError("int8 needs pictures to calibrate with: state --calibrate FOLDER")
    provenance = replace(
        contract.provenance,
        precision=precision,
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    path = folder / f"{provenance.backbone}-{precision}.{format}"
    graph = formats.get(format).convert(function, precision, calibration)
    module = module_for(path)
    module.check_structure(graph)
    classifier = Classifier(graph, replace(contract, provenance=provenance), module)
    outcome = None if test is None else _measure(classifier, test, workers)
    if outcome is not None:
        provenance = replace(provenance, test=outcome[0])
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as temporary:
        written = Path(temporary, path.name)
        write_artifact(written, graph, replace(contract, provenance=provenance, goldens=make_goldens(classifier)))
        Classifier.load(written).selftest()  # a file that fails it takes no earlier file's place
        os.replace(written, path)
    return Artifact(
        path,
        format,
        precision,
        path.stat().st_size / 1e6,
        _latency_ms(classifier),
        *(outcome or ()),
    )


def _measure(classifier: Classifier, test: TestSet, workers: int) -> tuple[Accuracy, float, float]:
    answers = map_ordered(classifier.clone, lambda own, pixels: own.infer(pixels), test.pixels, workers)
    probabilities = np.stack(list(answers))
    predicted, reference = probabilities.argmax(1), test.reference.argmax(1)
    right, total = int((predicted == test.truth).sum()), len(test.truth)
    accuracy = Accuracy(
        accuracy=right / total,
        interval=wilson_interval(right, total),
        pictures=total,
        agreement=float((predicted == reference).mean()),
    )
    drop = 100.0 * float((reference == test.truth).mean() - right / total)
    return accuracy, drop, float(np.abs(probabilities - test.reference).max())


def _latency_ms(classifier: Classifier, runs: int = 30) -> float:
    shape = (classifier.contract.height, classifier.contract.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    times = []
    for _ in range(runs + 3):
        start = time.perf_counter()
        classifier.infer(pixels)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[3:])


def versions() -> dict[str, str]:
    """The versions of the installed packages that have a say in an artifact."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
