"""Grad-CAM: which parts of a picture spoke for the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from edgecnn.training.head import LEVEL
from edgecnn_runtime.decode import Picture

if TYPE_CHECKING:
    import keras

_STRENGTH = 0.55  # of the colour over the picture, where the map is 1


def heatmaps(model: keras.Model, pixels: Picture, classes: npt.NDArray[np.integer]) -> npt.NDArray[np.float32] | None:
    """Grad-CAM (Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks", equations 1 and 2) on the
    last feature map, or with the pooling `levels` on all that are pooled: the channels, weighted by their mean
    gradient of the class's score before softmax or sigmoid.

    Args:
        model: backbone, pooling, and a head that ends in a dense layer, itself a model or not.
        pixels: ``(N, H, W, 3)`` uint8 RGB.
        classes: ``(N,)`` int, the class of each picture that is asked about.

    Returns:
        ``(N, H, W)`` float32 in [0, 1], each map scaled to a maximum of 1 before it is enlarged to the picture's size
        (0 throughout where nothing spoke for the class); None for a network without a feature map.
    """
    import keras
    import tensorflow as tf

    *body, head = model.layers
    last = [layer for layer in body if len(layer.output.shape) == 4][-1]
    if isinstance(last, keras.layers.InputLayer):
        return None
    levels = [layer.input for layer in body if layer.name.startswith(LEVEL)]
    dense, inside = head, None
    if isinstance(head, keras.Model):
        dense = head.layers[-1]
        inside = keras.Model(head.input, dense.input)
    network = keras.Model(model.input, [levels or last.output, body[-1].output])
    inputs = tf.constant(pixels, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(inputs)  # a frozen backbone alone would leave no trace on the tape
        maps, vector = network(inputs, training=False)
        if levels:  # one map of all channels, whose average is the vector: a map is not asked about through the next
            maps = tf.concat(maps, -1)
            vector = tf.reduce_mean(maps, (1, 2))
        vector = vector if inside is None else inside(vector, training=False)
        scores = tf.cast(vector, tf.float32) @ dense.kernel + dense.bias  # mixed precision computes in 16 bits
        if scores.shape[1] == 1:  # one output speaks for the second class, and its negative for the first
            scores = tf.concat([-scores, scores], 1)
        score = tf.gather(scores, classes, batch_dims=1)
    gradient = np.asarray(tape.gradient(score, maps), np.float32)
    weights = gradient.mean(axis=(1, 2), keepdims=True)
    small = np.maximum((weights * np.asarray(maps, np.float32)).sum(-1), 0.0)
    small = small / np.maximum(small.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
    height, width = pixels.shape[1:3]
    return np.stack([cv2.resize(each, (width, height), interpolation=cv2.INTER_LINEAR) for each in small])


def overlay(picture: Picture, heat: npt.NDArray[np.float32]) -> Picture:
    """The map over its picture, dark where nothing spoke and yellow where most did.

    Args:
        picture: ``(H, W, 3)`` uint8 RGB.
        heat: ``(H, W)`` float32 in [0, 1].

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    levels = np.rint(np.clip(heat, 0.0, 1.0) * 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.addWeighted(picture, 1.0 - _STRENGTH, colours, _STRENGTH, 0.0), np.uint8)
