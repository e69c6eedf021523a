"""A page on which one sees what augmentation makes of the pictures, and what it may spoil."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecnn.pages import environment, write_page
from edgecnn.training.augment import augment, mix
from edgecnn.training.options import Augmentation
from edgecnn_runtime.decode import Picture

VIEWS = 7
MIXTURES = 8
_FULL_TURN = 0.25  # from a quarter on, up and down may change places
_SIDES = re.compile(r"\b(left|right|izquierd[ao]|derech[ao]|links|rechts|gauche|droite)\b", re.IGNORECASE)
_UP_DOWN = re.compile(r"\b(up|down|top|bottom|arriba|abajo|oben|unten|haut|bas)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """A picture as it is and random views of it, all ``(H, W, 3)`` uint8 RGB."""

    label: str
    name: str
    picture: Picture
    views: tuple[Picture, ...]


def warnings(options: Augmentation, labels: Sequence[str]) -> list[str]:
    """One line for each way in which a view may be of another class than its picture, as the labels have it."""
    words = [label.replace("_", " ").replace("-", " ") for label in labels]
    signs = [label for label in labels if len(label.strip()) == 1]
    sided = [label for label, word in zip(labels, words, strict=True) if _SIDES.search(word)]
    upright = [label for label, word in zip(labels, words, strict=True) if _UP_DOWN.search(word)]
    found = []
    if options.flip != "none" and signs:
        found.append(f"flip: mirrored letters and digits are none, or others (classes {', '.join(signs)})")
    if options.flip in ("horizontal", "both") and sided:
        found.append(f"flip: left becomes right (classes {', '.join(sided)})")
    if options.flip in ("vertical", "both") and upright:
        found.append(f"flip: up becomes down (classes {', '.join(upright)})")
    if options.rotation >= _FULL_TURN and (signs or sided or upright):
        found.append(f"rotation: upside down, a 6 is a 9 (classes {', '.join([*signs, *sided, *upright])})")
    return found


def write_augment_page(
    path: Path,
    title: str,
    options: Augmentation,
    labels: Sequence[str],
    pictures: Sequence[tuple[str, str, Picture]],
    seed: int,
    side_px: int,
) -> None:
    """Writes the page, whole or not at all. Equal arguments give equal pages.

    Args:
        labels: all classes of the data, which the warnings are about.
        pictures: label, name and pixels ``(H, W, 3)`` uint8 RGB, preprocessed, of those to show.
        side_px: height and width of the views.

    Raises:
        EdgecnnError: the file cannot be written.
    """
    rows = []
    for number, (label, name, picture) in enumerate(pictures):
        rngs = (np.random.default_rng((seed, number, view)) for view in range(VIEWS))
        views = tuple(augment(picture, options, rng, side_px, side_px) for rng in rngs)
        rows.append(Row(label, name, picture, views))
    html = (
        environment("evaluation")
        .get_template("augment.html.jinja")
        .render(
            title=title,
            switched=[(name, value) for name, value in vars(options).items() if value != getattr(Augmentation(), name)],
            warnings=warnings(options, labels),
            rows=rows,
            mixtures=_mixtures(options, rows, seed),
        )
    )
    write_page(path, html)


def _mixtures(options: Augmentation, rows: Sequence[Row], seed: int) -> list[tuple[Picture, str]]:
    """Mixed pictures, and the shares of the classes in them."""
    if not (options.mixup or options.cutmix) or len(rows) < 2:
        return []
    labels = list(dict.fromkeys(row.label for row in rows))
    pixels = np.stack([row.views[0] for row in rows]).astype(np.float32)
    targets = np.stack([np.eye(len(labels), dtype=np.float32)[labels.index(row.label)] for row in rows])
    found = []
    for number in range(MIXTURES):
        mixed, shares = mix(pixels.copy(), targets, options, np.random.default_rng((seed, 1, number)))
        place = number % len(rows)
        parts = [f"{label} {share:.0%}" for label, share in zip(labels, shares[place], strict=True) if share > 0.005]
        found.append((mixed[place].astype(np.uint8), " + ".join(parts)))
    return found
