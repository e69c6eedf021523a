"""Labelled pictures: a folder per class, train/val/test folders of them, or a CSV file."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecnn_runtime.decode import HEIC_SUFFIXES, SUFFIXES
from edgecnn_runtime.errors import EdgecnnError

# What a folder or a CSV may call a split, in lower case.
SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class LabelledPicture:
    """`path` as the user named it (not resolved), `label` in Unicode form NFC, `split` "train", "val", "test" or None
    where the data do not state one. Whether the picture can be decoded is not known yet."""

    path: Path
    label: str
    split: str | None


@dataclass(frozen=True)
class Dataset:
    """Labelled pictures, ordered by POSIX path relative to `root` (the folder, or the CSV file's folder); `labels` are
    the distinct labels in code point order, at least two."""

    root: Path
    pictures: tuple[LabelledPicture, ...]
    labels: tuple[str, ...]


def read_dataset(data: Path) -> Dataset:
    """Lists labelled pictures; opens none of them. The order depends on the names only.

    `data` is one of:

    - a folder with one folder per class; folders inside a class belong to the class;
    - a folder with ``train`` and any of ``val`` and ``test``, each with one folder per class (without ``train`` too,
      for an evaluation). ``val`` and ``test`` may lack a class, but have no others. `SPLIT_NAMES` are other names;
    - a CSV file, UTF-8, with the columns ``path`` (relative to the CSV file), ``label`` and optionally ``split``.

    Names that begin with a dot are left out. Links are followed, except to a folder above.

    Raises:
        EdgecnnError: `data` is missing or of another kind, holds no pictures, fewer than two classes, an empty class
            folder, pictures outside class folders, a label in ``val`` or ``test`` that ``train`` lacks, a label that
            is not one non-empty line; for a CSV file also a missing column or file, an unknown split, or one path with
            differing labels or splits.
    """
    if os.path.isdir(data):
        return _checked(data, data, list(_read_folders(data)))
    if not os.path.exists(data):
        raise EdgecnnError(f"{data}: no such folder or file")
    if data.suffix.lower() != ".csv":
        raise EdgecnnError(f"{data}: labelled pictures come as a folder with one folder per class, or as a .csv file")
    return _checked(data, data.parent, _read_csv(data))


def picture_files(folder: Path) -> list[Path]:
    """Picture files in `folder` and the folders in it, by suffix, ordered by POSIX path relative to `folder`.

    HEIC files are among them, so that their error is said when they are decoded. Names that begin with a dot are left
    out. Every folder is visited once and links to a folder above are not followed, so that loops of links do no harm.

    Raises:
        EdgecnnError: a folder is missing or cannot be read.
    """
    start = Path(os.path.realpath(folder))
    seen = {start, *start.parents}
    files: list[Path] = []
    pending = [folder]
    while pending:
        folders, found = _scan(pending.pop())
        files += found
        for inner in folders:
            real = Path(os.path.realpath(inner))
            if real not in seen:
                seen.add(real)
                pending.append(inner)
    return sorted(files, key=lambda path: _order(path, folder))


def _scan(folder: Path) -> tuple[list[Path], list[Path]]:
    """Folders (but for links to `folder` and those above it) and picture files, both without the hidden, sorted."""
    real = Path(os.path.realpath(folder))
    above = {real, *real.parents}
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise EdgecnnError(f"{folder}: cannot be read: {error.strerror}") from error
    folders, files = [], []
    for path in (folder / name for name in names):
        if os.path.isdir(path):
            if Path(os.path.realpath(path)) not in above:
                folders.append(path)
        # A broken link stays, to be reported as unreadable; a pipe or device would block the reader.
        elif path.suffix.lower() in SUFFIXES + HEIC_SUFFIXES and (os.path.isfile(path) or not os.path.exists(path)):
            files.append(path)
    return folders, files


def _read_folders(root: Path) -> Iterator[LabelledPicture]:
    folders = _class_folders(root)
    named = [folder for folder in folders if folder.name.casefold() in SPLIT_NAMES]
    # A class may be called "train": it then holds pictures, where a split holds class folders.
    splits = named if len(named) == len(folders) else [folder for folder in named if _holds_only_folders(folder)]
    if not splits:
        yield from _read_classes(folders, None)
        return
    if others := [folder for folder in folders if folder not in splits]:
        raise EdgecnnError(
            f"{others[0]}: lies beside {splits[0].name!r} but is neither train, val nor test; move it elsewhere"
        )
    for folder in splits:
        yield from _read_classes(_class_folders(folder), SPLIT_NAMES[folder.name.casefold()])


def _class_folders(folder: Path) -> list[Path]:
    folders, loose = _scan(folder)
    if loose:
        raise EdgecnnError(f"{loose[0]}: has no class; put each class in its own folder inside {folder}")
    return folders


def _holds_only_folders(folder: Path) -> bool:
    folders, files = _scan(folder)
    return bool(folders) and not files


def _read_classes(folders: Sequence[Path], split: str | None) -> Iterator[LabelledPicture]:
    empty: list[Path] = []
    full = False
    for folder in folders:
        files = picture_files(folder)
        full = full or bool(files)
        if not files:
            empty.append(folder)
        label = _label(folder.name, str(folder)) if files else ""
        yield from (LabelledPicture(path, label, split) for path in files)
    if full and empty and split in (None, "train"):  # val and test may lack a class
        raise EdgecnnError(f"{empty[0]}: the class folder holds no pictures; add some or remove the folder")


def _read_csv(file: Path) -> list[LabelledPicture]:
    pictures: dict[str, LabelledPicture] = {}
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True, strict=True)
            reader.fieldnames = [name.strip().casefold() for name in reader.fieldnames or ()]
            for column in ("path", "label"):
                if column not in reader.fieldnames:
                    raise EdgecnnError(f"{file}: no column {column!r}; the first row must be path,label[,split]")
            for row in reader:
                where = f"{file}: row {reader.line_num}"
                picture = _read_row(row, file.parent, where)
                known = pictures.setdefault(os.path.normpath(picture.path), picture)
                if known.label != picture.label:
                    raise EdgecnnError(f"{where}: {row['path']} is {picture.label!r} here and {known.label!r} above")
                if known.split != picture.split:
                    raise EdgecnnError(f"{where}: {row['path']} is in {picture.split} here and in {known.split} above")
    except UnicodeDecodeError as error:
        raise EdgecnnError(f"{file}: is not UTF-8; save it as CSV UTF-8") from error
    except (OSError, csv.Error) as error:
        raise EdgecnnError(f"{file}: cannot be read as CSV: {error}") from error
    return list(pictures.values())


def _read_row(row: dict[str, str | None], root: Path, where: str) -> LabelledPicture:
    name = row.get("path") or ""
    if not name or not os.path.isfile(root / name):
        raise EdgecnnError(f"{where}: no file {name!r} in {root}")
    split = (row.get("split") or "").strip().casefold()
    if split and split not in SPLIT_NAMES:
        raise EdgecnnError(f"{where}: the split {split!r} is neither train, val nor test")
    return LabelledPicture(root / name, _label((row.get("label") or "").strip(), where), SPLIT_NAMES.get(split))


def _label(text: str, where: str) -> str:
    """The label in NFC, by the rules of `edgecnn_runtime.contract`."""
    if any("\ud800" <= character <= "\udfff" for character in text):  # how Python keeps bytes that are not UTF-8
        raise EdgecnnError(f"{where!a}: the name is not valid UTF-8; rename it")
    if not text.strip() or not text.isprintable():
        place = where if where.isprintable() else ascii(where)
        raise EdgecnnError(f"{place}: a label must be one line of printable characters (received: {text!r})")
    return unicodedata.normalize("NFC", text)


def _order(path: Path, root: Path) -> tuple[str, str]:
    # NFC first: the same data must come in the same order from a file system that decomposes accents.
    relative = Path(os.path.relpath(path, root)).as_posix()
    return unicodedata.normalize("NFC", relative), relative


def _checked(data: Path, root: Path, pictures: list[LabelledPicture]) -> Dataset:
    if not pictures:
        raise EdgecnnError(f"{data}: no pictures in it ({', '.join(SUFFIXES)}); put each class in its own folder")
    pictures.sort(key=lambda picture: _order(picture.path, root))
    labels = {picture.label for picture in pictures}
    known = {picture.label for picture in pictures if picture.split not in ("val", "test")} or labels
    for picture in pictures:
        if picture.label not in known:
            raise EdgecnnError(f"{picture.path}: unknown label {picture.label!r}: no training picture has it")
    if len(labels) < 2:
        raise EdgecnnError(f"{data}: only one class ({picture.label!r}); a classifier needs at least two")
    return Dataset(root, tuple(pictures), tuple(sorted(labels)))
