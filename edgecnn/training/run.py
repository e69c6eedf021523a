"""The run folder: what `train` leaves and `export` reads.

config.json   what was asked for and where the pictures lie
labels.txt    class names, in the order of the outputs
splits.csv    path (relative to the data), label, split, SHA-256 of every picture
history.csv   one line per epoch
model.keras   the trained model; metrics.json holds the SHA-256 over its weight arrays
metrics.json  accuracy with interval, timings, hashes
report.html   all of it to look at
artifacts/    what `export` makes
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecnn.training.head import HeadOptions
from edgecnn_runtime.contract import Preprocessing
from edgecnn_runtime.errors import EdgecnnError

if TYPE_CHECKING:
    import keras

SCHEMA = 1
SPLITS = ("train", "val", "test")
METRICS = frozenset(
    ("accuracy", "interval", "pictures", "unreadable", "data_sha256", "weights_sha256", "parameters", "train_s")
)


@dataclass(frozen=True)
class Config:
    """What a run was asked for. `data` is the folder or CSV of the pictures, absolute."""

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


@contextmanager
def new_folder(target: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place when the block succeeds, and vanishes when it fails.

    Raises EdgecnnError when `target` exists and may not be replaced, or is no run folder.
    """
    check_new(target, overwrite)
    unique = uuid.uuid4().hex  # in containers a process often has the number of one that was killed before
    temporary = target.with_name(f".{target.name}.{unique}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if target.exists():
            old = target.with_name(f".{target.name}.{unique}.old")
            target.rename(old)
            temporary.rename(target)
            shutil.rmtree(old)
        else:
            temporary.rename(target)
    except OSError as error:
        raise EdgecnnError(f"{target}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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


def write_run(
    folder: Path,
    config: Config,
    labels: Sequence[str],
    pictures: Sequence[SplitPicture],
    history: Mapping[str, Sequence[float]],
    metrics: Mapping[str, Any],
    model: keras.Model,
) -> None:
    """Writes all but report and artifacts into `folder`."""
    _write_json(folder / "config.json", asdict(config))
    _write_json(folder / "metrics.json", dict(metrics))
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels), "utf-8")
    with open(folder / "splits.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([column.name for column in fields(SplitPicture)])
        writer.writerows([p.path, p.label, p.split, p.sha256] for p in pictures)
    with open(folder / "history.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["epoch", *history])
        writer.writerows([epoch, *row] for epoch, row in enumerate(zip(*history.values(), strict=True), 1))
    model.save(folder / "model.keras")


def _write_json(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_run(folder: Path) -> Run:
    """Reads a run folder; the model is read by `edgecnn.training.train.load_model`.

    Raises EdgecnnError when it is missing, incomplete, damaged or from a newer version.
    """
    try:
        document = json.loads((folder / "config.json").read_text("utf-8"))
        if document["schema"] != SCHEMA:
            raise EdgecnnError(f"{folder}: this run has schema {document['schema']}; this edgecnn reads {SCHEMA}")
        steps = document.pop("preprocessing")
        preprocessing = Preprocessing(**{**steps, "filters": tuple(steps["filters"])})
        config = Config(**{**document, "preprocessing": preprocessing, "head": HeadOptions(**document["head"])})
        metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
        if missing := METRICS - metrics.keys():
            raise KeyError(f"metrics.json without {min(missing)}")
        # Not splitlines: a label may hold characters that Unicode counts as line breaks.
        labels = tuple((folder / "labels.txt").read_text("utf-8").removesuffix("\n").split("\n"))
        with open(folder / "splits.csv", encoding="utf-8", newline="") as stream:
            pictures = tuple(SplitPicture(**row) for row in csv.DictReader(stream))
        with open(folder / "history.csv", encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        history = {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else ()) if name != "epoch"}
    except FileNotFoundError as error:
        name = Path(error.filename or "").name
        raise EdgecnnError(f"{folder}: not a run folder ({name} is missing); 'edgecnn train' makes one") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise EdgecnnError(f"{folder}: the run is damaged ({error}); train it again") from error
    known = len(labels) >= 2 and {p.label for p in pictures} == set(labels) and {p.split for p in pictures} <= {*SPLITS}
    if not known:
        raise EdgecnnError(f"{folder}: labels.txt and splits.csv do not agree; train it again")
    return Run(folder, config, labels, pictures, history, metrics)
