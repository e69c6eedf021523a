"""Training: from labelled pictures to a run folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgecnn import backbones
from edgecnn.data.cache import DecodedPictures, data_hash, decode_pictures
from edgecnn.data.split import split_pictures
from edgecnn.training import recipes
from edgecnn.training.head import add_pooling, build_head, join
from edgecnn.training.run import SPLITS, Config, Run, SplitPicture, weights_sha256
from edgecnn_runtime.dataset import read_dataset
from edgecnn_runtime.decode import Picture
from edgecnn_runtime.errors import EdgecnnError
from edgecnn_runtime.metrics import wilson_interval
from edgecnn_runtime.quiet import quiet

if TYPE_CHECKING:
    import keras

Progress = Callable[[str, int, int], None]  # what is done, how much of it, how much in all


@dataclass(frozen=True)
class Pictures:
    """The readable pictures of a data set, decoded and split.

    Attributes:
        root: the folder that the entries' paths are relative to.
        pixels: ``(N, H, W, 3)`` uint8 RGB, preprocessed.
        truth: ``(N,)`` int, index of the label.
        unreadable: (path, reason) of the files left out.
    """

    root: Path
    labels: tuple[str, ...]
    entries: tuple[SplitPicture, ...]
    pixels: Picture
    truth: npt.NDArray[np.int64]
    unreadable: tuple[tuple[str, str], ...]

    def of(self, split: str) -> npt.NDArray[np.int64]:
        """Indexes of the pictures of a split."""
        return np.flatnonzero(np.array([entry.split == split for entry in self.entries]))


@dataclass(frozen=True)
class Trained:
    """What training gives."""

    model: keras.Model
    history: dict[str, list[float]]
    metrics: dict[str, Any]
    probabilities: Mapping[str, npt.NDArray[np.float32]]  # split -> (n, classes)


def load_pictures(config: Config, progress: Progress | None = None) -> Pictures:
    """Reads, decodes and splits the data of a new run. Raises EdgecnnError for data that cannot be trained on."""
    dataset = read_dataset(Path(config.data))
    decoded = _decode([picture.path for picture in dataset.pictures], config, progress)
    chosen = [dataset.pictures[index] for index in decoded.readable]
    labels = [picture.label for picture in chosen]
    splits = split_pictures(
        labels, config.seed, [picture.split for picture in chosen], decoded.hashes, classes=dataset.labels
    )
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
    return Pictures(dataset.root, dataset.labels, entries, decoded.pictures, truth, unreadable)


def reload_pictures(run: Run, data: Path | None = None, progress: Progress | None = None) -> Pictures:
    """The pictures of a finished run, from its data or from where they lie now.

    Raises EdgecnnError when a picture is missing or is no longer the one that the run saw.
    """
    root = data or Path(run.config.data)
    root = root.parent if root.suffix.lower() == ".csv" and not root.is_dir() else root
    if missing := next((root / entry.path for entry in run.pictures if not (root / entry.path).is_file()), None):
        raise EdgecnnError(f"{missing}: a picture of the run is not there; if they were moved, say where with --data")
    decoded = _decode([root / entry.path for entry in run.pictures], run.config, progress)
    if decoded.unreadable:
        index, reason = decoded.unreadable[0]
        raise EdgecnnError(f"{run.pictures[index].path}: a picture of the run cannot be read any more ({reason})")
    for entry, content in zip(run.pictures, decoded.hashes, strict=True):
        if entry.sha256 != content:
            raise EdgecnnError(f"{root / entry.path}: is not the picture that the run was trained with; train again")
    truth = np.array([run.labels.index(entry.label) for entry in run.pictures], np.int64)
    return Pictures(root, run.labels, run.pictures, decoded.pictures, truth, ())


def _decode(paths: Sequence[Path], config: Config, progress: Progress | None) -> DecodedPictures:
    report = None if progress is None else (lambda done, total: progress("decoding", done, total))
    return decode_pictures(paths, config.preprocessing, config.height, config.width, progress=report)


def _relative(path: Path, root: Path) -> str:
    try:
        return path.relative_to(root).as_posix()
    except ValueError:  # a CSV may name pictures anywhere
        return path.as_posix()


def train(config: Config, pictures: Pictures, workers: int, progress: Progress | None = None) -> Trained:
    """Trains by the recipe of the config. Deterministic on one machine's CPU for one config and data."""
    with quiet():  # TensorFlow announces itself
        import keras
        import tensorflow as tf

    if config.head.activation == "sigmoid" and len(pictures.labels) != 2:
        raise EdgecnnError(f"--output sigmoid is for two classes; {config.data} has {len(pictures.labels)}")
    start = time.perf_counter()
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    with quiet():
        network = backbones.get(config.backbone).build(config.height, config.width, config.weights)
    features = int(np.prod(add_pooling(network).output_shape[1:]))
    head = build_head(features, len(pictures.labels), config.head)
    history, probabilities = recipes.get(config.recipe)(config, pictures, network, head, workers, progress)
    model = join(network, head)
    return Trained(model, history, _metrics(config, pictures, probabilities, model, start), probabilities)


def _metrics(
    config: Config,
    pictures: Pictures,
    probabilities: Mapping[str, npt.NDArray[np.float32]],
    model: keras.Model,
    start: float,
) -> dict[str, Any]:
    accuracy: dict[str, float | None] = dict.fromkeys(SPLITS)
    interval: dict[str, tuple[float, float]] = {}
    for split, values in probabilities.items():
        if len(values):
            right = int((values.argmax(1) == pictures.truth[pictures.of(split)]).sum())
            accuracy[split] = right / len(values)
            interval[split] = wilson_interval(right, len(values))
    return {
        "accuracy": accuracy,
        "interval": interval,
        "pictures": {split: len(pictures.of(split)) for split in SPLITS},
        "unreadable": [list(entry) for entry in pictures.unreadable],
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
            network = backbones.get(config.backbone).build(config.height, config.width, "none")
            features = int(np.prod(add_pooling(network).output_shape[1:]))
            model = join(network, build_head(features, len(run.labels), config.head))
            model.load_weights(path)
    except EdgecnnError:
        raise
    except Exception as error:  # h5py, zipfile and Keras raise what they like
        raise EdgecnnError(f"{path}: the model is missing or damaged; train it again") from error
    if weights_sha256(model) != run.metrics.get("weights_sha256"):
        raise EdgecnnError(f"{path}: these are not the weights that the run was trained to; train it again")
    return model
