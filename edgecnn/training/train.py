"""Training: from labelled pictures to a run folder."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgecnn.data.cache import DecodedPictures, data_hash, decode_pictures
from edgecnn.data.duplicates import Groups, group_numbers, near_duplicates
from edgecnn.data.split import split_pictures
from edgecnn.evaluation.calibration import fit_temperature, reject_threshold
from edgecnn.evaluation.figures import split_metrics
from edgecnn.training import recipes
from edgecnn.training.devices import prepare_devices
from edgecnn.training.head import at_size, build
from edgecnn.training.run import SPLITS, Config, Run, SplitPicture, weights_sha256, write_history
from edgecnn_runtime.classifier import apply_temperature
from edgecnn_runtime.dataset import read_dataset
from edgecnn_runtime.decode import Picture
from edgecnn_runtime.errors import EdgecnnError
from edgecnn_runtime.metrics import wilson_interval
from edgecnn_runtime.quiet import quiet

if TYPE_CHECKING:
    import keras

# Of more pictures than these only equal files are kept on one side of a drawn split: comparing takes minutes then, and
# `edgecnn check` does it.
MAX_COMPARED = 20_000

Progress = Callable[[str, int, int], None]  # what is done, how much of it, how much in all


def silent(what: str, done: int, total: int) -> None:
    """Progress that is not shown."""


@dataclass(frozen=True)
class Pictures:
    """The readable pictures of a data set, decoded and split.

    Attributes:
        root: the folder that the entries' paths are relative to.
        pixels: ``(N, H, W, 3)`` uint8 RGB, preprocessed.
        truth: ``(N,)`` int, index of the label.
        unreadable: (path, reason) of the files left out.
        groups: indexes of near-duplicates, where a split was drawn and they were looked for.
    """

    root: Path
    labels: tuple[str, ...]
    entries: tuple[SplitPicture, ...]
    pixels: Picture
    truth: npt.NDArray[np.int64]
    unreadable: tuple[tuple[str, str], ...]
    groups: Groups = ()

    def of(self, split: str) -> npt.NDArray[np.int64]:
        """Indexes of the pictures of a split."""
        return np.flatnonzero(np.array([entry.split == split for entry in self.entries]))


@dataclass(frozen=True)
class Trained:
    """What training gives."""

    model: keras.Model
    history: list[dict[str, float]]
    metrics: dict[str, Any]
    probabilities: Mapping[str, npt.NDArray[np.float32]]  # split -> (n, classes), of what was measured


def load_pictures(config: Config, progress: Progress = silent) -> Pictures:
    """Reads, decodes and splits the data of a new run. Raises EdgecnnError for data that cannot be trained on."""
    dataset = read_dataset(Path(config.data))
    for picture in dataset.pictures:
        if any("\ud800" <= character <= "\udfff" for character in str(picture.path)):  # splits.csv could not name it
            raise EdgecnnError(f"{str(picture.path)!a}: the name is not valid UTF-8; rename it")
    decoded = _decode([picture.path for picture in dataset.pictures], config, progress)
    chosen = [dataset.pictures[index] for index in decoded.readable]
    labels = [picture.label for picture in chosen]
    given = [picture.split for picture in chosen]
    groups: Groups = ()
    numbers = None
    if not {"val", "test"} <= set(given) and len(chosen) <= MAX_COMPARED:
        groups = near_duplicates(
            decoded.pictures, decoded.hashes, lambda done, total: progress("comparing", done, total)
        )
        numbers = group_numbers(groups, len(chosen))
    splits = split_pictures(labels, config.seed, given, decoded.hashes, dataset.labels, numbers)
    for split in ("val", "test"):
        if split not in splits:
            raise EdgecnnError(f"{config.data}: too few pictures to keep any for {split}; each class needs 3 or more")
    entries = tuple(
        SplitPicture(_relative(picture.path, dataset.root), picture.label, split, content)
        for picture, split, content in zip(chosen, splits, decoded.hashes, strict=True)
    )
    unreadable = tuple(
        (_relative(dataset.pictures[index].path, dataset.root), reason) for index, reason in decoded.unreadable
    )
    truth = np.array([dataset.labels.index(label) for label in labels], np.int64)
    return Pictures(dataset.root, dataset.labels, entries, decoded.pictures, truth, unreadable, groups)


def reload_pictures(
    run: Run,
    data: Path | None = None,
    progress: Progress = silent,
    moved: str = "if they moved, say where with --pictures",
) -> Pictures:
    """The pictures of a run, from its data or from where they lie now; `moved` is what to do where they do not.

    Raises EdgecnnError when a picture is missing or is no longer the one that the run saw.
    """
    root = data or Path(run.config.data)
    _name_new_classes(root, run)
    root = root.parent if root.suffix.lower() == ".csv" and not root.is_dir() else root
    there = {entry.label for entry in run.pictures if (root / entry.path).is_file()}
    if there and (lost := set(run.labels) - there):
        raise EdgecnnError(f"{root}: no picture of class {min(lost)!r} is there any more; restore them, or train again")
    if missing := next((root / entry.path for entry in run.pictures if not (root / entry.path).is_file()), None):
        raise EdgecnnError(f"{missing}: a picture of the run is not there; {moved}")
    decoded = _decode([root / entry.path for entry in run.pictures], run.config, progress)
    if decoded.unreadable:
        index, reason = decoded.unreadable[0]
        raise EdgecnnError(f"{run.pictures[index].path}: a picture of the run cannot be read any more ({reason})")
    for entry, content in zip(run.pictures, decoded.hashes, strict=True):
        if entry.sha256 != content:
            raise EdgecnnError(f"{root / entry.path}: is not the picture that the run was trained with; train again")
    truth = np.array([run.labels.index(entry.label) for entry in run.pictures], np.int64)
    return Pictures(root, run.labels, run.pictures, decoded.pictures, truth, ())


def _name_new_classes(data: Path, run: Run) -> None:
    """Says on stderr which classes the data have that the run does not know; the run's own keep their numbers."""
    try:
        labels = read_dataset(data).labels
    except EdgecnnError:
        return  # what is wrong with them is said when the run's pictures are looked for
    for label in labels:
        if label not in run.labels:
            print(f"edgecnn: class {label!r} in {data} is new; {run.folder} does not know it", file=sys.stderr)


def _decode(paths: Sequence[Path], config: Config, progress: Progress) -> DecodedPictures:
    def report(done: int, total: int) -> None:
        progress("decoding", done, total)

    return decode_pictures(paths, config.preprocessing, config.height, config.width, progress=report)


def _relative(path: Path, root: Path) -> str:
    try:
        return path.relative_to(root).as_posix()
    except ValueError:  # a CSV may name pictures anywhere
        return path.as_posix()


def train(
    config: Config,
    pictures: Pictures,
    folder: Path,
    workers: int,
    progress: Progress = silent,
    tensorboard: bool = False,
    begun: Callable[[], None] = lambda: None,
) -> Trained:
    """Trains by the recipe of the config. Deterministic on one machine's CPU for one config and data.

    Args:
        folder: where checkpoints and history.csv are kept; what is found there is gone on with.
        begun: called when nothing but training is left to do.
    """
    start = time.perf_counter()
    with _job(config, pictures, folder, workers, progress, tensorboard) as job:
        begun()
        index, probabilities = recipes.train(job)
    if not all(np.isfinite(values).all() for values in probabilities.values()):
        raise EdgecnnError(
            "the training has diverged, its answers are no numbers: lower --learning-rate and add --overwrite"
        )
    truth = {split: pictures.truth[index[split]] for split in SPLITS}
    metrics = {**_metrics(config, pictures, truth, probabilities, job.model, start), **job.notes}
    return Trained(job.model, job.history, metrics, probabilities)


def find_learning_rate(
    config: Config, pictures: Pictures, workers: int, progress: Progress = silent
) -> tuple[list[tuple[float, float]], float]:
    """The loss by learning rate, and the rate to begin with; see `edgecnn.training.rate_finder`."""
    from edgecnn.training.rate_finder import find_rate

    with _job(config, pictures, Path(), workers, progress, False) as job:
        return find_rate(job)


@contextlib.contextmanager
def _job(
    config: Config, pictures: Pictures, folder: Path, workers: int, progress: Progress, tensorboard: bool
) -> Iterator[recipes.Job]:
    """The networks to be trained, on the devices that were asked for."""
    with quiet():  # TensorFlow announces itself
        import keras
        import tensorflow as tf

    strategy = prepare_devices(config.machine)
    keras.utils.set_random_seed(config.seed)
    if not config.machine.xla:  # Keras compiles nothing where every operator must be deterministic
        tf.config.experimental.enable_op_determinism()
    with strategy.scope():
        with quiet():
            network, head, model = build(config, len(pictures.labels), config.weights)
            tuned = at_size(model, config.tuning.train_size) if config.tuning.train_size else model
        try:
            yield recipes.Job(
                config, pictures, network, head, model, tuned, folder, workers, progress,
                each_epoch=lambda rows: write_history(folder, rows), tensorboard=tensorboard,
            )  # fmt: skip
        finally:
            keras.mixed_precision.set_global_policy("float32")


def _metrics(
    config: Config,
    pictures: Pictures,
    truth: Mapping[str, npt.NDArray[np.int64]],
    probabilities: Mapping[str, npt.NDArray[np.float32]],
    model: keras.Model,
    start: float,
) -> dict[str, Any]:
    accuracy: dict[str, float | None] = dict.fromkeys(SPLITS)
    interval: dict[str, tuple[float, float]] = {}
    for split, values in probabilities.items():
        if len(values):
            right = int((values.argmax(1) == truth[split]).sum())
            accuracy[split] = right / len(values)
            interval[split] = wilson_interval(right, len(values))
    temperature = fit_temperature(probabilities["val"], truth["val"])
    decision: dict[str, Any] = {"temperature": temperature, "reject_threshold": 0.0, "reject_note": "", "answered": 1.0}
    if config.reject_at:
        try:
            softened = apply_temperature(probabilities["val"], temperature)
            found = reject_threshold(softened, truth["val"], config.reject_at)
            decision |= {"reject_threshold": found.threshold, "answered": found.coverage}
        except EdgecnnError as error:  # the training is not lost for that
            decision["reject_note"] = str(error)
    return {
        "accuracy": accuracy,
        "interval": interval,
        **decision,
        "test": split_metrics(probabilities["test"], truth["test"], pictures.labels, temperature),
        "pictures": {split: len(pictures.of(split)) for split in SPLITS},
        "unreadable": pictures.unreadable,
        "groups": pictures.groups,
        "data_sha256": data_hash([e.sha256 for e in pictures.entries], [e.label for e in pictures.entries]),
        "weights_sha256": weights_sha256(model),
        "parameters": model.count_params(),
        "train_s": round(time.perf_counter() - start, 1),
    }


def load_model(run: Run) -> keras.Model:
    """Builds the run's network and loads its weights; no code from the file is executed.

    Raises EdgecnnError when the file is missing, damaged, or does not hold the weights that were trained.
    """
    config = run.config
    path = run.folder / "model.keras"
    try:
        with quiet():
            model = build(config, len(run.labels), "none")[2]
            model.load_weights(path)
    except EdgecnnError:
        raise
    except Exception as error:  # h5py, zipfile and Keras raise what they like
        raise EdgecnnError(f"{path}: the model is missing or damaged; train it again") from error
    if weights_sha256(model) != run.metrics.get("weights_sha256"):
        raise EdgecnnError(f"{path}: these are not the weights that the run was trained to; train it again")
    return model
