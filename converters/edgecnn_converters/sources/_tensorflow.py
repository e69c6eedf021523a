"""What Keras models and SavedModels share: a function of TensorFlow's to a `Source`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn_converters.freeze import freeze
from edgecnn_converters.sources import (
    Floats,
    Pixels,
    Source,
    Stated,
    check_integer_input,
    count_outputs,
    picture_size,
)
from edgecnn_runtime.errors import EdgecnnError, ModelError, first_line

_BATCH = 32


def make_source(
    path: Path, network: Callable[[Any], Any], shape: Sequence[int | None], kind: Any, stated: Stated
) -> Source:
    """A network with its normalization before it and its softmax (or sigmoid) behind.

    Args:
        network: ``(N, height, width, channels)`` to ``(N, outputs)``, both tensors.
        shape: of its input, with None for what is not fixed; kind: the input's dtype.

    Raises:
        EdgecnnError: see `edgecnn_converters.sources.SourceModule.read`.
    """
    import tensorflow as tf

    if len(shape) != 4 or shape[0] not in (None, 1) or shape[3] not in (1, 3):
        raise ModelError(f"{path}: a classifier takes one picture, (1, height, width, 3 or 1) (received: {shape})")
    if tf.as_dtype(kind).is_integer:
        check_integer_input(path, stated)
    batch = _BATCH if shape[0] is None else 1
    channels = shape[3]
    height, width = picture_size(path, shape[1:3], stated.size)
    kernel, bias = stated.normalization.layer(channels)
    identity = stated.normalization.is_identity(channels)

    def run(pixels: Sequence[Pixels]) -> Floats:
        found = []
        for start in range(0, len(pixels), batch):
            values = np.stack(pixels[start : start + batch]).astype(np.float32) @ kernel + bias
            outputs = np.asarray(network(tf.cast(values, kind)), np.float32)
            found.append(outputs.reshape(len(values), -1))
        return np.concatenate(found)

    def classify(image: Any, training: bool) -> Any:
        # One operator, which int8 rounds once; a product and a sum would be rounded one after the other.
        x = image if identity else tf.nn.bias_add(tf.nn.conv2d(image, kernel[np.newaxis, np.newaxis], 1, "VALID"), bias)
        x = tf.cast(network(tf.cast(x, kind)), tf.float32)
        if x.shape.rank != 2:
            x = tf.reshape(x, (1, -1))
        if stated.logits:
            x = tf.sigmoid(x) if x.shape[1] == 1 else tf.nn.softmax(x)
        return x

    try:
        outputs = count_outputs(path, run, stated, (height, width))
        function = freeze(classify, height, width)
    except EdgecnnError:
        raise
    except Exception as error:  # TensorFlow and Keras raise what they like
        if "AssignVariableOp" in str(error):
            raise ModelError(
                f"{path}: the model changes its own variables when it runs, as layers of random augmentation do in a "
                "SavedModel; save it as .keras instead"
            ) from error
        raise ModelError(
            f"{path}: the model does not run on a picture of {height}x{width} px: {first_line(error)}"
        ) from error
    return Source(height, width, outputs, ("tflite", "onnx"), function, run, stated.logits)
