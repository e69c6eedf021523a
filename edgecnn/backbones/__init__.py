"""Backbones: the networks that turn a picture into features.

One file per family, which exposes `BACKBONES`, a tuple of `Backbone`; a new file is found by listing the package.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgecnn_runtime.errors import EdgecnnError, UsageError

if TYPE_CHECKING:
    import keras


class ImageNetWeights(Protocol):
    """Where a backbone's ImageNet weights come from, and how a file of them is read; never any code."""

    @property
    def pip_package(self) -> str | None:
        """The distribution on the package index that brings the weights; None where the publisher serves them."""

    def at_hand(self) -> bool:
        """Whether the weights are on this machine, so that loading them needs no network."""

    def load_imagenet(self, model: keras.Model) -> None:
        """Set the ImageNet weights, fetching them first where need be.

        Raises:
            EdgecnnError: they are not installed, cannot be fetched, or are damaged.
        """

    def load_file(self, model: keras.Model, path: Path) -> None:
        """Set the weights that `path` holds.

        Raises:
            EdgecnnError: the file is missing, damaged, or belongs to another network.
        """


@dataclass(frozen=True)
class Backbone:
    """One network: what it costs, where its weights come from, how it is built.

    Attributes:
        name: what `--backbone` names, and the name of the model that is built.
        size_px: default input height and width, in pixels.
        min_size_px: smallest height and width that builds, in pixels.
        crop_fraction: part of the picture's shorter side that the central crop keeps, as the weights want it.
        parameters: number of floats without a classification top, at `size_px`.
        macs: multiply-accumulates of all convolutions and dense layers for one picture of `size_px`, without a top.
        imagenet: where ImageNet weights come from; None for a network that is trained from scratch.
        published_top1: ImageNet validation accuracy in percent that was published for these weights with their own top.
        network: builds the network with random weights from height and width (see `build` for what it maps).
        classifier: builds the network with a 1000-class top, where the ImageNet weights include one.
    """

    name: str
    size_px: int
    min_size_px: int
    crop_fraction: float
    parameters: int
    macs: int
    imagenet: ImageNetWeights | None
    published_top1: float | None
    network: Callable[[int, int], keras.Model]
    classifier: Callable[[int, int], keras.Model] | None = None

    def build(self, height: int, width: int, weights: str = "imagenet") -> keras.Model:
        """Build the network for pictures of `height` x `width` pixels.

        Args:
            weights: "imagenet"; "none" (random, from Keras' global seed); or the path of a file: the Keras application
                without top as its publisher saves it (.h5, .weights.h5, .keras), a backbone saved from here
                (.weights.h5, .keras), and for EfficientNet-Lite the publisher's .pth.

        Returns:
            A model named after the backbone. It maps RGB float32 (N, height, width, 3) with values 0-255 to a feature
            map (N, h, w, C), or to a vector (N, F) for networks that end in dense layers. The value range that the
            network wants is made inside it, by built-in layers only.

        Raises:
            EdgecnnError: the size is too small, or the weights are absent, damaged or of another network.
        """
        return self._with_weights(self.network, height, width, weights)

    def build_classifier(self, height: int, width: int, weights: str = "imagenet") -> keras.Model:
        """Build the ImageNet classifier; arguments as for `build`.

        Returns:
            A model that maps RGB float32 (N, height, width, 3) with values 0-255 to probabilities (N, 1000) (softmax,
            ImageNet-1k classes in the usual order of their WordNet ids).

        Raises:
            EdgecnnError: as `build`, and where this backbone's weights have no ImageNet classes.
        """
        if self.classifier is None:
            having = ", ".join(name for name, backbone in _catalogue().items() if backbone.classifier)
            raise UsageError(f"{self.name} has no ready ImageNet classifier: choose one of {having}, or train a head")
        return self._with_weights(self.classifier, height, width, weights)

    def weights_at_hand(self) -> bool:
        """Whether `weights="imagenet"` works without a network connection."""
        return self.imagenet is not None and self.imagenet.at_hand()

    def check(self, height: int, width: int, weights: str) -> None:
        """Raises UsageError where the network cannot be built at this size or has no such weights."""
        if min(height, width) < self.min_size_px:
            raise UsageError(
                f"{self.name} needs at least {self.min_size_px} x {self.min_size_px} pixels, not {height} x {width}"
            )
        if weights == "imagenet" and self.imagenet is None:
            raise UsageError(f"{self.name} has no ImageNet weights: use --weights none or --weights FILE")

    def _with_weights(
        self, network: Callable[[int, int], keras.Model], height: int, width: int, weights: str
    ) -> keras.Model:
        self.check(height, width, weights)
        if importlib.util.find_spec("tensorflow") is None:
            raise EdgecnnError("building a network needs TensorFlow: run `pip install 'edgecnn[cpu]'`")
        model = network(height, width)
        if weights == "imagenet" and self.imagenet is not None:
            self.imagenet.load_imagenet(model)
        elif weights != "none" and self.imagenet is not None:
            self.imagenet.load_file(model, Path(weights))
        elif weights != "none":
            from edgecnn.backbones._keras_weights import load_own_file

            load_own_file(model, Path(weights))
        return model


@functools.cache
def _catalogue() -> dict[str, Backbone]:
    families = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    backbones: list[Backbone] = []
    for family in families:
        backbones += importlib.import_module(f"{__name__}.{family}").BACKBONES
    return {backbone.name: backbone for backbone in sorted(backbones, key=lambda backbone: backbone.name)}


def names() -> tuple[str, ...]:
    """The names of all backbones, sorted."""
    return tuple(_catalogue())


def get(name: str) -> Backbone:
    """The backbone of that name.

    Raises:
        UsageError: there is none; the message names the closest ones.
    """
    catalogue = _catalogue()
    if name in catalogue:
        return catalogue[name]
    close = difflib.get_close_matches(name.lower().replace("-", "_"), catalogue, cutoff=0.5)
    remedy = f"did you mean {' or '.join(close)}?" if close else "`edgecnn backbones` lists them"
    raise UsageError(f"there is no backbone {name!r}: {remedy}")
