"""Recipes: named ways of training, each a function that trains network and head in place.

fast     the frozen backbone runs once, in the device's engine; the head is trained on its features
scratch  the whole network is trained, for networks without pretrained weights
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgecnn.training.augment import augment
from edgecnn.training.features import Features, extract, feature_graphs, relative_error
from edgecnn.training.head import (
    History,
    add_pooling,
    by_class,
    callbacks,
    compile_model,
    join,
    predict,
    train_head,
)
from edgecnn.training.run import SPLITS, Config
from edgecnn_runtime.errors import UsageError

if TYPE_CHECKING:
    import keras

    from edgecnn.training.train import Pictures

CALIBRATION_PICTURES = 32
# int8 features that are farther off than this are noise; EfficientNet-Lite0 was seen at 0.18 on photos of clothes and
# at 0.36 on tiny grey pictures, and both made a better head.
MAX_RELATIVE_ERROR = 0.7

Outcome = tuple[History, dict[str, npt.NDArray[np.float32]]]  # history; split -> probabilities (n, classes)
Recipe = Callable[[Config, "Pictures", "keras.Model", "keras.Model", int, Any], Outcome]


def get(name: str) -> Recipe:
    """The recipe of that name. Raises UsageError."""
    if name not in RECIPES:
        raise UsageError(f"no such recipe: {name} (known: {', '.join(RECIPES)})")
    return RECIPES[name]


def fast(
    config: Config, pictures: Pictures, network: keras.Model, head: keras.Model, workers: int, progress: Any
) -> Outcome:
    """The head on cached features: every training picture by the int8 backbone, every third also by the float one.

    The int8 backbone is twice as fast, and teaches the head what quantization does to features; the float one keeps
    it honest. It also sees `config.views` augmented views of every training picture. Where it is so far off that it
    would teach the head noise, the float backbone does it all.
    """
    train, val, test = (pictures.of(split) for split in SPLITS)
    calibration = np.random.default_rng(config.seed).permutation(train)[:CALIBRATION_PICTURES]
    floating, quantized = feature_graphs(add_pooling(network), [np.asarray(pictures.pixels[i]) for i in calibration])

    def look(graph: bytes, what: str, *indexes: npt.NDArray[np.int64], views: int = 0) -> list[Features]:
        """Features of each index array in turn, and of all views of the first."""
        report = None if progress is None else (lambda done, total: progress(what, done, total))
        extra = [(int(i), number) for number in range(1, views + 1) for i in indexes[0]]
        wanted = [(int(i), 0) for index in indexes for i in index] + extra
        features = extract(graph, pictures.pixels, wanted, config.seed, workers, report)
        return np.split(features, np.cumsum([len(index) for index in indexes]))

    third = train[::3]
    of_third, of_val, of_test, _ = look(floating, "float32", third, val, test)
    seen, seen_val, augmented = look(quantized, "int8", train, val, views=config.views)
    if relative_error(of_third, seen[::3]) <= MAX_RELATIVE_ERROR:
        fit = [(seen, train), (augmented, np.tile(train, config.views)), (of_third, third)]
        check = [(of_val, val), (seen_val, val)]
    else:
        whole, augmented = look(floating, "float32 again", train, views=config.views)
        fit = [(whole, train), (augmented, np.tile(train, config.views))]
        check = [(of_val, val)]
    history = train_head(
        head,
        (np.concatenate([features for features, _ in fit]), pictures.truth[np.concatenate([i for _, i in fit])]),
        (np.concatenate([features for features, _ in check]), pictures.truth[np.concatenate([i for _, i in check])]),
        config.head,
        epoch_progress(config, progress),
    )
    looked = {"train": fit[0][0], "val": of_val, "test": of_test}
    return history, {split: by_class([head.predict_on_batch(features)]) for split, features in looked.items()}


def scratch(
    config: Config, pictures: Pictures, network: keras.Model, head: keras.Model, workers: int, progress: Any
) -> Outcome:
    """Every layer is trained; with `config.views`, on a new random view of every picture in every epoch."""
    model = join(network, head)
    compile_model(model, config.head)
    train, val, test = (pictures.of(split) for split in SPLITS)
    fitted = model.fit(
        _batches(pictures, train, config, training=True),
        epochs=config.head.epochs,
        validation_data=_batches(pictures, val, config, training=False),
        callbacks=[*callbacks(config.head), *epoch_progress(config, progress)],
        verbose=0,
    )
    history = {name: [float(value) for value in values] for name, values in fitted.history.items()}
    parts = {"train": train, "val": val, "test": test}
    return history, {split: predict(model, [pictures.pixels[i] for i in index]) for split, index in parts.items()}


def _batches(pictures: Pictures, index: npt.NDArray[np.int64], config: Config, training: bool) -> Any:
    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        """Batches of float32 pictures 0-255 and labels; the order and the views depend on seed and epoch alone."""

        def __init__(self) -> None:
            super().__init__()
            self._epoch = 0
            self._order = self._shuffled()

        def _shuffled(self) -> npt.NDArray[np.int64]:
            return np.random.default_rng((config.seed, self._epoch)).permutation(index) if training else index

        def __len__(self) -> int:
            return -(-len(index) // config.head.batch_size)

        def on_epoch_end(self) -> None:
            self._epoch += 1
            self._order = self._shuffled()

        def __getitem__(self, batch: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
            chosen = self._order[batch * config.head.batch_size : (batch + 1) * config.head.batch_size]
            return np.stack([self._view(int(i)) for i in chosen]).astype(np.float32), pictures.truth[chosen]

        def _view(self, i: int) -> npt.NDArray[np.uint8]:
            pixels = np.asarray(pictures.pixels[i])
            if not (training and config.views):
                return pixels
            rng = np.random.default_rng((config.seed, self._epoch, i))
            return augment(pixels, rng, mirror=bool(rng.integers(2)))

    return Batches()


def epoch_progress(config: Config, progress: Any) -> tuple[Any, ...]:
    """A callback that reports epochs, or none."""
    import keras

    if progress is None:
        return ()
    total = config.head.epochs
    return (keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: progress("training", epoch + 1, total)),)


RECIPES: dict[str, Recipe] = {"fast": fast, "scratch": scratch}
