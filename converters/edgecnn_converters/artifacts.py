"""Artifacts: a frozen network to a verified file with its contract, its own test metrics and its goldens."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecnn_converters import formats
from edgecnn_converters.gate import CONFIDENCE, LATER, MAX_DROP_POINTS, Verdict, judge, views
from edgecnn_converters.goldens import make_goldens
from edgecnn_converters.ladder import Attempt, climb
from edgecnn_converters.quantization.fine_tuning import TuningError
from edgecnn_converters.quantization.repair import NONE, Prepared, Repair
from edgecnn_runtime import Classifier
from edgecnn_runtime.artifact import write_artifact
from edgecnn_runtime.backends import module_for
from edgecnn_runtime.contract import Accuracy, Contract, Gate
from edgecnn_runtime.errors import EdgecnnError
from edgecnn_runtime.metrics import wilson_interval
from edgecnn_runtime.parallel import map_ordered

Pixels = npt.NDArray[np.uint8]
_AT_ONCE = 256  # pictures whose views are in memory
REJECTED = ".rejected"  # behind the name of a file that the gate refused

_PACKAGES = (
    "edgecnn", "edgecnn-converters", "edgecnn-runtime", "tensorflow", "tensorflow-cpu", "keras", "numpy",
    "opencv-python", "opencv-python-headless", "ai-edge-litert", "tflite-runtime", "onnxruntime", "tf2onnx",
)  # fmt: skip


def rejected(path: Path) -> Path:
    """Where an artifact is kept that the gate refused."""
    return path.with_name(f"{path.name}{REJECTED}")


@dataclass(frozen=True)
class Labelled:
    """Pictures that neither training nor calibration saw.

    Attributes:
        pixels: preprocessed pictures, each ``(H, W, 3)`` uint8 RGB.
        truth: ``(N,)`` int, index of the right label; N > 0.
        reference: ``(N, classes)`` float32, the float model's probabilities.
        ask: the float model itself, for other pictures; without it the gate has no second look.
    """

    pixels: Sequence[Pixels]
    truth: npt.NDArray[np.int64]
    reference: npt.NDArray[np.float32]
    ask: Callable[[Sequence[Pixels]], npt.NDArray[np.float32]] | None = None

    @cached_property
    def of_views(self) -> npt.NDArray[np.float32]:
        """What the float model says of further views of every picture, one picture after the other."""
        assert self.ask is not None
        parts = (self.pixels[start : start + _AT_ONCE] for start in range(0, len(self.pixels), _AT_ONCE))
        return np.concatenate([self.ask([view for pixels in part for view in views(pixels)]) for part in parts])


@dataclass(frozen=True)
class Artifact:
    """A written and verified artifact, and what was measured of it.

    Attributes:
        path: of the file; with ``.rejected`` behind its name where the gate refused it.
        verdict: of the gate, by the validation pictures; None without any.
        drop_points: on test, float accuracy minus artifact accuracy, in percentage points; None without test pictures.
        max_difference: largest absolute difference of a probability from the Keras model's; None likewise.
        latency_ms: median time of one inference with one thread, preprocessing left out.
        attempts: of int8, all that was tried for it, where it was judged; see `edgecnn_converters.ladder`.
        left_out: what could not be tried and why; "" where nothing was left out.
    """

    path: Path
    format: str
    precision: str
    size_mb: float
    latency_ms: float
    verdict: Verdict | None = None
    test: Accuracy | None = None
    drop_points: float | None = None
    max_difference: float | None = None
    attempts: tuple[Attempt, ...] = ()
    left_out: str = ""

    @property
    def rejected(self) -> bool:
        return self.path.name.endswith(REJECTED)


def _not_tuned() -> Prepared:
    raise TuningError("there are no training pictures")


def make_artifact(
    function: Any,
    contract: Contract,
    format: str,
    precision: str,
    calibration: Sequence[Pixels],
    validation: Labelled | None,
    test: Labelled | None,
    folder: Path,
    workers: int,
    max_drop_points: float = MAX_DROP_POINTS,
    repairs: bool = True,
    tune: Callable[[], Prepared] = _not_tuned,
    say: Callable[[str], None] = lambda words: None,
) -> Artifact:
    """Converts, judges, measures, writes and re-reads one artifact: ``folder/<backbone>-<precision>.<format>``.

    Args:
        function: from `edgecnn_converters.freeze.freeze`, or of an `edgecnn_converters.sources.Source`.
        contract: all but precision, the gate's verdict, test metrics and goldens, which are added here.
        calibration: preprocessed training pictures; needed for int8.
        validation: what the gate judges by; test: what is reported, and decides nothing.
        workers: engines that classify the pictures side by side.
        max_drop_points: the drop that the gate allows.
        repairs: whether int8 that costs more is made in other ways, see `edgecnn_converters.ladder`.
        tune: the last of these ways, see `edgecnn_converters.formats.tflite.fine_tuned`; raises TuningError.
        say: is told of each of these ways what came of it, in one line.

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
    contract, maker, module = replace(contract, provenance=provenance), formats.get(format), module_for(path)

    def build(precision: str, repair: Repair = NONE) -> tuple[bytes, Classifier]:
        network = tune() if repair.tuned else function
        graph = maker.add_metadata(maker.convert(network, precision, calibration, repair), contract)
        module.check_structure(graph)
        return graph, Classifier(graph, contract, module)

    answers: dict[bytes, npt.NDArray[np.float32]] = {}  # of the attempts' files, to the calibration pictures

    def attempt(words: str, repair: Repair, confidence: float) -> Attempt | None:
        assert validation is not None
        graph, classifier = build(precision, repair)
        found = _answers(classifier, calibration, workers)
        if any(np.array_equal(found, other) for other in answers.values()):
            return None  # ONNX files differ in the names of their constants where nothing else does
        answers[graph] = found
        verdict = _judge(classifier, validation, workers, max_drop_points, confidence)
        made = Attempt(words, repair, graph, verdict, _latency_ms(classifier))
        if not made.good or repair != NONE:
            say(f"{format} int8, {made}")
        return made

    exact = cache(lambda: _answers(build("float32")[1], calibration, workers))

    def noise(made: Attempt) -> float:
        """Mean absolute difference of a probability from the float model's."""
        return float(np.abs(answers[made.graph] - exact()).mean())

    verdict, attempts, left_out = None, list[Attempt](), ""
    if validation is None:
        graph, classifier = build(precision)
    elif precision == "int8" and repairs:
        chosen, attempts, left_out = climb(
            attempt, noise, lambda repair: maker.rank_layers(function, calibration, repair)
        )
        graph, verdict = chosen.graph, chosen.verdict
        classifier = Classifier(graph, contract, module)
    else:
        graph, classifier = build(precision)
        verdict = _judge(classifier, validation, workers, max_drop_points, CONFIDENCE)
    if verdict is not None:
        provenance = replace(provenance, gate=_record(verdict))
    outcome = None if test is None else _measure(test, _answers(classifier, test.pixels, workers))
    if outcome is not None:
        provenance = replace(provenance, test=outcome[0])
    refused = verdict is not None and verdict.outcome == "fail"
    target = rejected(path) if refused else path
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as temporary:
        written = Path(temporary, path.name)
        write_artifact(written, graph, replace(contract, provenance=provenance, goldens=make_goldens(classifier)))
        Classifier.load(written).selftest()  # a file that fails it takes no earlier file's place
        os.replace(written, target)
    if not refused:
        rejected(path).unlink(missing_ok=True)  # of an earlier export: there is a good one now
    size_mb = target.stat().st_size / 1e6
    made = Artifact(target, format, precision, size_mb, _latency_ms(classifier), verdict, *(outcome or ()))
    return replace(made, attempts=tuple(attempts), left_out=left_out)


def _record(verdict: Verdict) -> Gate:
    """The verdict as an artifact carries it."""
    return Gate(verdict.outcome, verdict.max_drop_points, verdict.drop_points, verdict.interval, verdict.pictures)


def _judge(
    classifier: Classifier, pictures: Labelled, workers: int, max_drop_points: float, confidence: float
) -> Verdict:
    """By the pictures; where those do not decide, by further views of them too."""
    labels = classifier.contract.labels
    answers, reference = _answers(classifier, pictures.pixels, workers), pictures.reference
    verdict = judge(labels, pictures.truth, reference[np.newaxis], answers[np.newaxis], max_drop_points, confidence)
    if verdict.outcome != "unproven" or pictures.ask is None:
        return verdict

    def together(first: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        by_view = others.reshape(len(first), -1, first.shape[1]).swapaxes(0, 1)
        return np.concatenate([first[np.newaxis], by_view])

    more = (view for pixels in pictures.pixels for view in views(pixels))
    seen = together(answers, _answers(classifier, more, workers))
    return judge(labels, pictures.truth, together(reference, pictures.of_views), seen, max_drop_points, LATER)


def _answers(classifier: Classifier, pictures: Iterable[Pixels], workers: int) -> npt.NDArray[np.float32]:
    answers = map_ordered(classifier.clone, lambda own, pixels: own.infer(pixels), pictures, workers)
    return np.stack(list(answers))


def _measure(test: Labelled, probabilities: npt.NDArray[np.float32]) -> tuple[Accuracy, float, float]:
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
