"""`edgecnn classify`."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from edgecnn_runtime.commands import _model, cores, print_json
from edgecnn_runtime.errors import EdgecnnError, PictureError

if TYPE_CHECKING:
    from edgecnn_runtime import Classifier, Result

    Answer: TypeAlias = tuple[str, Result | PictureError]


def classify(
    artifact: _model.Artifact,
    inputs: Annotated[list[str], typer.Argument(help="Files, folders, globs, or - for one picture on stdin.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 3,
    threshold: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Call an answer below this probability unknown.", show_default=False),
    ] = None,
    json: _model.Json = False,
    threads: _model.Threads = 1,
    size: _model.Size = None,
    range: _model.Range = None,
    labels: _model.Labels = None,
    fit: _model.Fit = "crop",
    logits: _model.Logits = False,
) -> int:
    """Classify pictures.

    Example: edgecnn classify runs/flowers/artifacts/efficientnet_lite0-int8.tflite photo.jpg holiday/ --top 2
    """
    classifier = _model.open_classifier(artifact, threads, size, range, labels, fit, logits)
    if threshold is not None:
        classifier.reject_threshold = threshold
    shown, failed = [], []
    for path, answer in _classify_all(classifier, list(_expand(inputs)), workers=max(1, cores() // threads)):
        if isinstance(answer, PictureError):
            failed.append({"path": path, "error": str(answer)})
            if not json:
                print(f"edgecnn: {answer}", file=sys.stderr)
        elif json:
            shown.append(_document(path, answer, top))
        else:
            shown.append({})
            best = "  ".join(f"{score.label} {score.probability:.1%}" for score in answer.top(top))
            print(f"{path}: {'unknown: ' if answer.label is None else ''}{best}  ({answer.timings.total_ms:.1f} ms)")
    if json:
        print_json("classify", {"artifact": str(artifact), "results": shown, "unreadable": failed})
    # A bad file somewhere in a folder is said and passed over; one that was named, or nothing at all, is a failure.
    named = {item for item in inputs}
    return 1 if not shown or any(entry["path"] in named for entry in failed) else 0


def _expand(inputs: list[str]) -> Iterator[str]:
    from edgecnn_runtime.dataset import picture_files
    from edgecnn_runtime.decode import SUFFIXES

    for item in inputs:
        path = Path(item)
        if item != "-" and path.is_dir():
            files = picture_files(path)
            if not files:
                raise EdgecnnError(f"{item}: no pictures in it ({', '.join(SUFFIXES)})")
            yield from map(str, files)
        elif item != "-" and not path.exists() and glob.has_magic(item):
            yield from sorted(glob.glob(item, recursive=True)) or [item]
        else:
            yield item


def _classify_all(classifier: Classifier, paths: list[str], workers: int) -> Iterator[Answer]:
    def task(own: Classifier, path: str) -> Answer:
        try:
            return path, own.classify(sys.stdin.buffer.read() if path == "-" else path)
        except PictureError as error:
            return path, error

    if len(paths) == 1:  # no threads, no second engine
        yield task(classifier, paths[0])
    else:
        from edgecnn_runtime.parallel import map_ordered

        ready = iter([classifier])  # one thread takes the engine that is there

        def engine() -> Classifier:
            return next(ready, None) or classifier.clone()

        yield from map_ordered(engine, task, paths, min(workers, max(1, len(paths))))


def _document(path: str, result: Result, top: int) -> dict[str, object]:
    timings = result.timings
    return {
        "path": path,
        "label": result.label,
        "probability": result.probability,
        "top": [{"label": score.label, "probability": score.probability} for score in result.top(top)],
        "timings_ms": {
            "decode": round(timings.decode_ms, 3),
            "preprocess": round(timings.preprocess_ms, 3),
            "inference": round(timings.inference_ms, 3),
            "total": round(timings.total_ms, 3),
        },
    }
