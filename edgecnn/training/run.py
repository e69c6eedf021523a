"""The run folder: what `train` leaves and `export` reads.

config.json   what was asked for and where the pictures lie
labels.txt    class names, in the order of the outputs
splits.csv    path (relative to the data), label, split, SHA-256 of every picture
history.csv   one line per epoch
model.keras   the trained model; metrics.json holds the SHA-256 over its weight arrays
metrics.json  accuracy with interval, per class too, temperature, timings, hashes
report.html   all of it to look at
artifacts/    what `export` makes

While it is trained, RUN is called RUN.part and holds checkpoints; it takes its name when it is complete.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecnn.training.options import GROUPS, Augmentation, HeadOptions, Machine, Optimization, Tuning
from edgecnn_runtime.contract import Preprocessing
from edgecnn_runtime.errors import EdgecnnError, UsageError

if TYPE_CHECKING:
    import keras

SCHEMA = 2
SPLITS = ("train", "val", "test")
TUNING_RECIPES = ("standard", "best")  # the head first, then the backbone with it
MEASURED_OF_TRAIN = 300  # its accuracy only shows whether a model learns by heart
METRICS = frozenset(
    (
        "accuracy", "interval", "pictures", "unreadable", "data_sha256", "weights_sha256", "parameters", "train_s",
        "temperature", "reject_threshold",
    )
)  # fmt: skip
PART = ".part"


@dataclass(frozen=True)
class Config:
    """What a run was asked for. `data` is the folder or CSV of the pictures, absolute; `reject_at` the accepted share
    of wrong answers, 0 where every answer counts; `command` the words that were typed."""

    data: str
    backbone: str
    height: int
    width: int
    weights: str = "imagenet"
    recipe: str = "fast"
    views: int = 0
    seed: int = 0
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    head: HeadOptions = field(default_factory=HeadOptions)
    optimization: Optimization = field(default_factory=Optimization)
    tuning: Tuning = field(default_factory=Tuning)
    augmentation: Augmentation = field(default_factory=Augmentation)
    machine: Machine = field(default_factory=Machine)
    reject_at: float = 0.0
    command: str = ""
    schema: int = SCHEMA


@dataclass(frozen=True)
class SplitPicture:
    """A picture of the run: path relative to the data, label, split, SHA-256 of the file."""

    path: str
    label: str
    split: str
    sha256: str


@dataclass(frozen=True)
class Run:
    """A run folder that was read and checked."""

    folder: Path
    config: Config
    labels: tuple[str, ...]
    pictures: tuple[SplitPicture, ...]
    history: Mapping[str, Sequence[float]]
    metrics: Mapping[str, Any]


def part_of(folder: Path) -> Path:
    """Where a run is kept while it is trained."""
    return folder.with_name(folder.name + PART)


def begin_run(
    folder: Path,
    config: Config,
    labels: Sequence[str],
    pictures: Sequence[SplitPicture],
    overwrite: bool,
    metrics: Mapping[str, Any] | None = None,
) -> Path:
    """Makes the folder of a run that is to be trained, with all that is settled before training.

    Args:
        metrics: what is known of the data already; training adds to it.

    Returns:
        ``RUN.part``.

    Raises:
        EdgecnnError: `folder` exists and may not be replaced, or an interrupted training of it does, or one that is at
            work; or what lies at either is the data, or no run at all.
    """
    check_new(folder, overwrite)
    part, data = part_of(folder), Path(config.data).resolve()
    for target in (folder.resolve(), part.resolve()):
        if target in (data, *data.parents):
            raise EdgecnnError(f"{target} holds the data; name another folder with --out")
    if os.path.lexists(part) and not _is_part(part):
        raise EdgecnnError(f"{part} is not an interrupted training, so it is not overwritten; name another --out")
    if not overwrite and any(part.glob("*.npz")):  # without a checkpoint, nothing would be lost
        raise EdgecnnError(
            f"{part} holds an interrupted training; go on with 'edgecnn train --resume {folder}', or add --overwrite"
        )
    try:
        if part.exists():
            with at_work(folder):
                shutil.rmtree(part)
        part.mkdir(parents=True)
        _write_json(part / "config.json", asdict(config))
        _write_json(part / "metrics.json", dict(metrics or {}))
        (part / "labels.txt").write_text("".join(f"{label}\n" for label in labels), "utf-8")
        with open(part / "splits.csv", "w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow([column.name for column in fields(SplitPicture)])
            writer.writerows([p.path, p.label, p.split, p.sha256] for p in pictures)
    except OSError as error:
        raise EdgecnnError(f"{part}: cannot be written: {error.strerror}") from error
    return part


@contextlib.contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """Within the block no other process trains this run; the end of the process ends it too. Windows and some network
    drives have no such lock, and go without.

    Raises:
        EdgecnnError: another process does so already, or has just finished it.
    """
    part = part_of(folder)
    if sys.platform == "win32":
        yield
        return
    import fcntl

    try:
        descriptor = os.open(part, os.O_RDONLY)
    except OSError as error:  # it was finished a moment ago, by another process
        raise EdgecnnError(f"{part}: cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EdgecnnError(
                f"{part}: another training is at work there; wait for it, or name another folder"
            ) from error
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


def _is_part(part: Path) -> bool:
    return part.is_dir() and ((part / "config.json").is_file() or not any(part.iterdir()))


def finish_run(folder: Path, metrics: Mapping[str, Any], model: keras.Model) -> None:
    """Writes what training has found into ``RUN.part``."""
    import keras

    part = part_of(folder)
    _write_json(part / "metrics.json", dict(metrics))
    # Without what it was compiled with, which holds schedules that only this package could load.
    keras.Model(model.inputs, model.outputs, name=model.name).save(part / "model.keras")


def publish_run(folder: Path) -> None:
    """``RUN.part`` becomes ``RUN``, without its checkpoints; what was there before goes. Raises EdgecnnError."""
    part = part_of(folder)
    check_new(folder, overwrite=True)  # what came there in the meantime
    try:
        if folder.exists():
            old = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.old")
            folder.rename(old)
            part.rename(folder)
            shutil.rmtree(old)
        else:
            part.rename(folder)
    except OSError as error:
        raise EdgecnnError(f"{folder}: cannot be written: {error.strerror}; the run is in {part}") from error
    # Last: a kill before has lost nothing. The temporary files are of a kill while a checkpoint was written.
    for checkpoint in (*folder.glob("*.npz"), *folder.glob(".*.tmp")):
        with contextlib.suppress(OSError):  # one that stays takes room, no more
            checkpoint.unlink()


def check_new(target: Path, overwrite: bool) -> None:
    """Raises EdgecnnError when `target` exists and may not be replaced."""
    if not target.exists():
        return
    if not overwrite:
        raise EdgecnnError(f"{target} exists already; name another folder with --out, or add --overwrite")
    if not target.is_dir() or (any(target.iterdir()) and not (target / "config.json").is_file()):
        raise EdgecnnError(f"{target} is not a run folder, so it is not overwritten")


def weights_sha256(model: keras.Model) -> str:
    """SHA-256 over the weight arrays in order, with shape and type: equal for equal weights, unlike the saved file,
    which holds a date."""
    digest = hashlib.sha256()
    for array in model.get_weights():
        digest.update(f"{array.shape} {array.dtype}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def write_history(folder: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Writes history.csv anew, one line an epoch. Raises OSError."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    temporary = folder / ".history.csv.tmp"
    with open(temporary, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["epoch", *columns])
        writer.writerows([epoch, *(row.get(name, "nan") for name in columns)] for epoch, row in enumerate(rows, 1))
    temporary.replace(folder / "history.csv")


def _write_json(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_run(folder: Path) -> Run:
    """Reads a run folder; the model is read by `edgecnn.training.train.load_model`.

    Raises EdgecnnError when it is missing, incomplete, damaged or from a newer version.
    """
    if not folder.exists() and part_of(folder).exists():
        raise EdgecnnError(f"{folder}: its training was interrupted; go on with 'edgecnn train --resume {folder}'")
    return _read(folder, finished=True)


def read_part(folder: Path) -> Run:
    """Reads a run whose training was interrupted, without history; its metrics are what `begin_run` was told.

    Raises EdgecnnError.
    """
    part = part_of(folder)
    if not part.exists():
        if folder.name.endswith(PART) and folder.exists():
            raise EdgecnnError(f"{folder}: resume it by its name, --resume {folder.with_suffix('')}")
        state = "is complete" if (folder / "metrics.json").exists() else "does not exist"
        raise EdgecnnError(f"{folder}: nothing to resume: the run {state}")
    return _read(part, finished=False)


def _read(folder: Path, finished: bool) -> Run:
    try:
        config = _read_config(folder)
        metrics, history = json.loads((folder / "metrics.json").read_text("utf-8")), {}
        if finished:
            if missing := METRICS - metrics.keys():
                raise KeyError(f"metrics.json without {min(missing)}")
            with open(folder / "history.csv", encoding="utf-8", newline="") as stream:
                rows = list(csv.DictReader(stream))
            names = rows[0] if rows else ()
            history = {name: [float(row[name]) for row in rows] for name in names if name != "epoch"}
        # Not splitlines: a label may hold characters that Unicode counts as line breaks.
        labels = tuple((folder / "labels.txt").read_text("utf-8").removesuffix("\n").split("\n"))
        with open(folder / "splits.csv", encoding="utf-8", newline="") as stream:
            pictures = tuple(SplitPicture(**row) for row in csv.DictReader(stream))
    except FileNotFoundError as error:
        name = Path(error.filename or "").name
        raise EdgecnnError(f"{folder}: not a run folder ({name} is missing); 'edgecnn train' makes one") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error, UsageError) as error:
        raise EdgecnnError(f"{folder}: the run is damaged ({error}); train it again") from error
    # In their order they are the network's outputs: one that somebody has changed would be wrong, and nothing would
    # show it, since the float model would be wrong alike.
    if list(labels) != sorted(labels):
        raise EdgecnnError(f"{folder}: labels.txt is not in its order any more; sort its lines by code point")
    known = len({*labels}) == len(labels) >= 2 and {picture.label for picture in pictures} == {*labels}
    if not known or not {picture.split for picture in pictures} <= {*SPLITS}:
        raise EdgecnnError(f"{folder}: labels.txt and splits.csv do not agree; train it again")
    return Run(folder, config, labels, pictures, history, metrics)


def _read_config(folder: Path) -> Config:
    document = json.loads((folder / "config.json").read_text("utf-8"))
    if document["schema"] != SCHEMA:
        raise EdgecnnError(f"{folder}: this run has schema {document['schema']}; this edgecnn reads {SCHEMA}")
    steps = document.pop("preprocessing")
    groups = {name: kind(**document.pop(name)) for name, kind in GROUPS.items()}
    preprocessing = Preprocessing(**{**steps, "filters": tuple(steps["filters"])})
    return Config(**{**document, **groups, "preprocessing": preprocessing})
