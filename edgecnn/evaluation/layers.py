"""A Keras model as a table of its layers, and what its first convolution makes of a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgecnn_runtime.decode import Picture

if TYPE_CHECKING:
    import keras

MAX_MAPS = 32


@dataclass(frozen=True)
class LayerRow:
    """One layer; `shape` is that of its output without the batch, `parameters` counts its own floats."""

    name: str
    type: str
    shape: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class FeatureMaps:
    """Channels of a layer's output for one picture.

    Attributes:
        layer: its name; it has `channels` channels in all.
        picture: ``(H, W, 3)`` uint8 RGB, what the network saw.
        maps: ``(K, h, w)`` uint8, the first channels, each stretched over 0-255 by itself.
    """

    layer: str
    channels: int
    picture: Picture
    maps: npt.NDArray[np.uint8]


def layer_rows(model: keras.Model) -> tuple[LayerRow, ...]:
    """Every layer in the order of the model; those of a model inside it stand in its place."""
    return tuple(
        LayerRow(layer.name, type(layer).__name__, tuple(layer.output.shape[1:]), layer.count_params())
        for layer in _flat(model)
    )


def _flat(model: keras.Model) -> Iterator[keras.Layer]:
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from (inner for inner in _flat(layer) if not isinstance(inner, keras.layers.InputLayer))
        else:
            yield layer


def first_feature_maps(model: keras.Model, picture: Picture) -> FeatureMaps | None:
    """What the first convolution gives for a picture ``(H, W, 3)`` uint8 RGB; None for a network without one."""
    import keras

    layer = next((layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)), None)
    if layer is None:
        return None
    output = keras.Model(model.input, layer.output)(picture[None].astype(np.float32), training=False)
    maps = np.asarray(output)[0, ..., :MAX_MAPS].transpose(2, 0, 1)
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    stretched = np.rint((maps - low) / np.maximum(high - low, 1e-12) * 255).astype(np.uint8)
    return FeatureMaps(layer.name, int(layer.output.shape[-1]), picture, stretched)
