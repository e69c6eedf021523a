"""`edgecnn evaluate`."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgecnn_runtime.commands import _model, cores, print_json
from edgecnn_runtime.errors import EdgecnnError, PictureError, UsageError

if TYPE_CHECKING:
    from edgecnn_runtime import Classifier, Result
    from edgecnn_runtime.dataset import LabelledPicture


def evaluate(
    artifact: _model.Artifact,
    data: Annotated[Path, typer.Argument(help="Labelled pictures: a folder per class, or a CSV.", show_default=False)],
    split: Annotated[str, typer.Option(help="Where DATA has splits: train, val, test or all.")] = "test",
    json: _model.Json = False,
    threads: _model.Threads = 1,
    size: _model.Size = None,
    range: _model.Range = None,
    labels: _model.Labels = None,
    fit: _model.Fit = "crop",
    logits: _model.Logits = False,
) -> None:
    """Measure a model file on labelled pictures.

    Example: edgecnn evaluate runs/flowers/artifacts/efficientnet_lite0-int8.tflite photos/ --split test
    """
    from edgecnn_runtime.dataset import read_dataset
    from edgecnn_runtime.metrics import confusion, wilson_interval

    if split not in ("train", "val", "test", "all"):
        raise UsageError(f"--split is train, val, test or all (received: {split})")
    classifier = _model.open_classifier(artifact, threads, size, range, labels, fit, logits)
    pictures = _choose(read_dataset(data).pictures, split, data)
    names = classifier.contract.labels
    if unknown := sorted({picture.label for picture in pictures} - set(names)):
        raise EdgecnnError(f"{data}: the model has no label {unknown[0]!r} (it has: {', '.join(names[:10])})")
    truth, predicted, times, unreadable = [], [], [], []
    for picture, answer in zip(pictures, _classify(classifier, pictures, cores() // threads), strict=True):
        if isinstance(answer, PictureError):
            unreadable.append({"path": str(picture.path), "error": str(answer)})
            continue
        truth.append(names.index(picture.label))
        predicted.append(int(answer.probabilities.argmax()))
        times.append(answer.timings.preprocess_ms + answer.timings.inference_ms)
    if not truth:
        raise EdgecnnError(f"{data}: no picture could be read ({unreadable[0]['error']})")
    counts = confusion(truth, predicted, len(names))
    right = int(counts.trace())
    accuracy, interval = right / len(truth), wilson_interval(right, len(truth))
    # Pictures without a split are called test: nothing else is known of them than that they are labelled.
    shown = "test" if all(picture.split is None for picture in pictures) else split
    recall = {name: float(counts[i, i] / counts[i].sum()) for i, name in enumerate(names) if counts[i].sum()}
    if json:
        report = {"accuracy": {shown: accuracy}, "interval": {shown: list(interval)}, "pictures": {shown: len(truth)}}
        rest = {"recall": recall, "median_ms": statistics.median(times), "unreadable": unreadable}
        print_json("evaluate", {"artifact": str(artifact), "data": str(data), **report, **rest})
        return
    if shown == "test" and pictures[0].split is None:
        print(f"edgecnn: {data} states no splits: all of it is measured; with pictures that the model was trained on "
              "the figure is too good", file=sys.stderr)  # fmt: skip
    for entry in unreadable:
        print(f"edgecnn: {entry['error']} (left out)", file=sys.stderr)
    print(f"accuracy  {accuracy:.1%}  (95 % interval {interval[0]:.1%} to {interval[1]:.1%}), {right} of {len(truth)}")
    print(f"time      {statistics.median(times):.1f} ms a picture (median; preprocessing and inference)")
    width = max(len(name) for name in recall)
    for i, name in enumerate(names):
        if name not in recall:
            continue
        row = counts[i].copy()
        row[i] = 0
        confused = f"  most often taken for {names[int(row.argmax())]} ({row.max()})" if row.any() else ""
        print(f"  {name:<{width}}  {recall[name]:6.1%} of {counts[i].sum()}{confused}")


def _choose(pictures: tuple[LabelledPicture, ...], split: str, data: Path) -> list[LabelledPicture]:
    if split == "all" or all(picture.split is None for picture in pictures):
        return list(pictures)
    chosen = [picture for picture in pictures if picture.split == split]
    if not chosen:
        raise EdgecnnError(f"{data}: has no pictures in split {split!r}; choose another --split")
    return chosen


def _classify(classifier: Classifier, pictures: list[LabelledPicture], workers: int) -> list[Result | PictureError]:
    from edgecnn_runtime.parallel import map_ordered

    def task(own: Classifier, picture: LabelledPicture) -> Result | PictureError:
        try:
            return own.classify(picture.path)
        except PictureError as error:
            return error

    return list(map_ordered(classifier.clone, task, pictures, workers))
