"""Features of a frozen backbone, computed once by the device's own engine.

The head is thus trained on what the device computes, several times faster than Keras predicts.
The int8 version of the same backbone gives a second look at every picture. A head that has seen both
learns what quantization does to features, and loses little when the backbone is quantized.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgecnn.training.augment import augment
from edgecnn.training.options import Augmentation
from edgecnn_converters.formats import tflite
from edgecnn_converters.freeze import freeze
from edgecnn_runtime.backends import PIXELS, Backend
from edgecnn_runtime.backends import tflite as engine
from edgecnn_runtime.decode import Picture
from edgecnn_runtime.parallel import map_ordered

if TYPE_CHECKING:
    import keras

Features = npt.NDArray[np.float32]
View = tuple[int, int]  # index of the picture, number of the view; view 0 is the picture as it is


def feature_graphs(network: keras.Model, calibration: Sequence[Picture]) -> tuple[bytes, bytes]:
    """The frozen backbone with its pooled features as output: TFLite graphs in float32 and in int8.

    Args:
        network: maps ``(N, H, W, 3)`` float32 RGB 0-255 to ``(N, features)``.
        calibration: preprocessed training pictures, each ``(H, W, 3)`` uint8 RGB.
    """
    function = freeze(network, *network.input_shape[1:3])
    return tflite.convert(function, "float32", ()), tflite.convert(function, "int8", calibration)


def relative_error(features: Features, other: Features) -> float:
    """How far apart two versions of features ``(N, F)`` are, as a fraction of how much the first ones vary."""
    spread = float(np.linalg.norm(features - features.mean(0)))
    return float(np.linalg.norm(features - other)) / max(spread, 1e-12)


def extract(
    graph: bytes,
    pixels: Sequence[Picture] | Picture,
    views: Sequence[View],
    augmentation: Augmentation,
    seed: int,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Features of pictures and of random views of them.

    Args:
        graph: from `feature_graph`.
        pixels: preprocessed pictures, ``(N, H, W, 3)`` uint8 RGB.
        views: which picture, which view; a view's chance depends on the seed, the picture and its number alone.
        workers: engines side by side, each with one thread.

    Returns:
        ``(len(views), features)`` float32.
    """

    def task(backend: Backend, view: View) -> Features:
        index, number = view
        picture = np.asarray(pixels[index])
        if number:
            picture = augment(picture, augmentation, np.random.default_rng((seed, index, number)), *picture.shape[:2])
        return backend.run(picture)

    return _run(graph, task, views, workers, progress)


def engine_outputs(
    model: keras.Model,
    pixels: Sequence[Picture] | Picture,
    index: Sequence[int] | npt.NDArray[np.int64],
    workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Outputs ``(len(index), outputs)`` float32 of a model for the preprocessed pictures at `index`, by its float
    TFLite graph: what the device computes, several times faster than Keras predicts."""
    graph = tflite.convert(freeze(model, *model.input_shape[1:3]), "float32", ())
    return _run(graph, lambda backend, at: backend.run(np.asarray(pixels[at])), list(index), workers, progress)


def _run(
    graph: bytes,
    task: Callable[[Backend, Any], Features],
    items: Sequence[Any],
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> Features:
    outputs: Features | None = None
    answers = map_ordered(lambda: engine.load(graph, 1, PIXELS), task, items, workers)
    for position, answer in enumerate(answers):
        if outputs is None:
            outputs = np.empty((len(items), answer.size), np.float32)
        outputs[position] = answer
        if progress is not None:
            progress(position + 1, len(items))
    return np.empty((0, 0), np.float32) if outputs is None else outputs
