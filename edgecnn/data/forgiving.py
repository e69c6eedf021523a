"""Reading labelled pictures that training refuses, as far as they go, so that the rest can be examined."""

from __future__ import annotations

import csv
import os
import unicodedata
from pathlib import Path

from edgecnn_runtime.dataset import SPLIT_NAMES, Dataset, LabelledPicture, picture_files, read_dataset
from edgecnn_runtime.errors import EdgecnnError


def read_forgiving(data: Path) -> tuple[Dataset, tuple[str, ...]]:
    """What `read_dataset` gives; where it refuses, the pictures that have a label, and one line for each problem.

    Raises:
        EdgecnnError: that of `read_dataset`, where no picture has a label.
    """
    try:
        return read_dataset(data), ()
    except EdgecnnError as error:
        if os.path.isdir(data):
            root, (pictures, problems) = data, _from_folders(data)
        elif data.suffix.lower() == ".csv" and os.path.isfile(data):
            root, (pictures, problems) = data.parent, _from_rows(data)
        else:
            raise
        if not pictures:
            raise
        labels = sorted({picture.label for picture in pictures})
        return Dataset(root, tuple(pictures), tuple(labels)), tuple(problems or [str(error)])


def _from_folders(data: Path) -> tuple[list[LabelledPicture], list[str]]:
    pictures, problems = [], []
    for path in picture_files(data):
        split, *classes = (None, *path.relative_to(data).parts[:-1])
        if len(classes) > 1 and str(classes[0]).casefold() in SPLIT_NAMES:
            split = SPLIT_NAMES[str(classes.pop(0)).casefold()]
        if classes:
            pictures.append(LabelledPicture(path, unicodedata.normalize("NFC", str(classes[0])), split))
        else:
            problems.append(f"{path}: has no class; put each class in its own folder inside {data}")
    return pictures, problems


def _from_rows(file: Path) -> tuple[list[LabelledPicture], list[str]]:
    pictures: dict[str, LabelledPicture] = {}
    problems = []
    with open(file, encoding="utf-8-sig", errors="replace", newline="") as stream:
        reader = csv.DictReader(stream, skipinitialspace=True)
        try:
            reader.fieldnames = [name.strip().casefold() for name in reader.fieldnames or ()]
            for row in reader:
                name, label = (row.get("path") or ""), (row.get("label") or "").strip()
                split = (row.get("split") or "").strip().casefold()
                where = f"{file}: row {reader.line_num}"
                known = pictures.get(os.path.normpath(file.parent / name))
                if not name or not os.path.isfile(file.parent / name):
                    problems.append(f"{where}: no file {name!r} in {file.parent}")
                elif not label.isprintable() or not label:
                    problems.append(f"{where}: a label must be one line of printable characters (received: {label!r})")
                elif split and split not in SPLIT_NAMES:
                    problems.append(f"{where}: the split {split!r} is neither train, val nor test")
                elif known is not None and (known.label, known.split) != (label, SPLIT_NAMES.get(split)):
                    problems.append(f"{where}: {name} has another label or split above")
                else:
                    picture = LabelledPicture(
                        file.parent / name, unicodedata.normalize("NFC", label), SPLIT_NAMES.get(split)
                    )
                    pictures.setdefault(os.path.normpath(picture.path), picture)
        except csv.Error as error:
            problems.append(f"{file}: row {reader.line_num}: cannot be read as CSV: {error}")
    return list(pictures.values()), problems
