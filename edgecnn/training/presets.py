"""The recipes' presets, and how options from a file and the command line come upon them."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from edgecnn import backbones
from edgecnn.training.options import GROUP_OF, GROUPS, Augmentation, unknown
from edgecnn.training.run import TUNING_RECIPES, Config
from edgecnn_runtime.contract import Fit, Preprocessing
from edgecnn_runtime.errors import EdgecnnError, UsageError

_LIGHT = {"flip": "horizontal", "crop": 0.5, "contrast": 0.15, "brightness": 0.08}
_TUNED = {
    **_LIGHT,
    "dropout": 0.3,
    "l2": 0.0,
    "optimizer": "adamw",
    "learning_rate": 3e-4,
    "schedule": "cosine",
    "warmup": 1.0,
    "batch_size": 32,
    "patience": 0,
    "label_smoothing": 0.1,
}

# What each recipe changes of the defaults in `edgecnn.training.options`. How it trains stands in
# `edgecnn.training.recipes`.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "fast": {},
    "standard": {**_TUNED, "weight_decay": 0.02, "epochs": 8, "averaging": 0.99, "unfreeze": "top"},
    "best": {
        **_TUNED,
        "learning_rate": 2e-4,
        "weight_decay": 0.02,
        "epochs": 8,
        "averaging": 0.99,
        "randaugment": 9.0,
        "mixup": 0.2,
        "cutmix": 1.0,
        "soup": 3,
    },
    "scratch": {
        **_LIGHT,
        "pooling": "average",
        "dropout": 0.3,
        "l2": 0.0,
        "learning_rate": 1e-3,
        "batch_size": 64,
        "epochs": 60,
        "patience": 10,
        "schedule": "plateau",
        "label_smoothing": 0.0,
    },
    "course": {
        "flip": "horizontal",
        "rotation": 0.2,
        "zoom": 0.1,
        "translation": 0.1,
        "pooling": "average",
        "hidden": 512,
        "dropout": 0.5,
        "l2": 0.0,
        "learning_rate": 1e-3,
        "schedule": "plateau",
        "batch_size": 32,
        "epochs": 12,
        "patience": 10,
        "min_delta": 0.001,
        "label_smoothing": 0.0,
        "unfreeze": "10",
    },
}

FEW_PICTURES = 300
FEW_OF_A_CLASS = 15
# The features that the pooling `levels` gives of so many fill the memory: some 30 kB a picture.
MANY_PICTURES = 20_000
# Beyond this many pictures an epoch teaches more than repeating it: standard then makes fewer epochs.
STANDARD_VIEWS = 30_000
# Of the size that the backbone was pretrained with. `standard`: half the pixels, and so about half the time, in
# training and on the device. `best`: the whole picture, padded, with as many pixels on its object as a crop would have.
INPUT_FRACTIONS = {"standard": 5 / 7, "best": 9 / 7}
TUNED_FRACTION = 7 / 9  # of the input of `best`: for most backbones the size that they were pretrained with
_SIZE_STEP_PX = 32

_OWN = ("recipe", "backbone", "weights", "size", "fit", "crop_fraction", "filter", "seed", "views", "reject_at")
_AUGMENTATION = tuple(item.name for item in fields(Augmentation))
_VIEWS = Augmentation(flip="horizontal", rotation=0.03, zoom=0.15, translation=0.06, contrast=0.15, brightness=0.08)


def read_options(path: Path) -> dict[str, Any]:
    """The options that a TOML file gives by their names; tables only group them. Raises EdgecnnError."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise EdgecnnError(f"{path}: cannot be read as TOML: {reason}") from error
    given: dict[str, Any] = {}
    for name, value in document.items():
        for inner, content in value.items() if isinstance(value, dict) else ((name, value),):
            key = inner.replace("-", "_")
            if key not in (*_OWN, *GROUP_OF):
                raise UsageError(f"{path}: no such option: {unknown(key, [*_OWN, *GROUP_OF])}")
            if key in given:
                raise UsageError(f"{path}: {key} stands there twice")
            given[key] = content
    return given


def make_config(data: Path, given: Mapping[str, Any], pictures: Mapping[str, int]) -> tuple[Config, str]:
    """What a run is to do.

    Args:
        data: folder or CSV.
        given: options by name, from a file and the command line; the rest comes from the recipe.
        pictures: label -> how many pictures it has, all splits together.

    Returns:
        The config, and one line that says what was chosen and why.

    Raises:
        UsageError: an option has no such value, or options do not go together.
    """
    given = dict(given)
    backbone = backbones.get(_text(given, "backbone", "efficientnet_lite0"))
    recipe, why = _text(given, "recipe", "auto"), "as asked"
    weights = _text(given, "weights", "none" if backbone.imagenet is None or recipe == "scratch" else "imagenet")
    if weights not in ("imagenet", "none"):
        weights = os.path.abspath(weights)
    if recipe == "auto":
        recipe, why = _choose(weights, pictures)
    if recipe not in PRESETS:
        raise UsageError(
            f"--recipe: no such recipe: {unknown(recipe, ['auto', *PRESETS])} (auto, {', '.join(PRESETS)})"
        )
    by_size = _by_size(recipe, sum(pictures.values()))
    merged = {**PRESETS[recipe], **by_size, **given}
    if merged.get("schedule") == "plateau" and "warmup" not in given:
        merged["warmup"] = 0.0
    if isinstance(merged.get("unfreeze"), int):  # as a file may have it
        merged["unfreeze"] = str(merged["unfreeze"])
    # Networks without published weights may end in dense layers, whose weights depend on the size, as flatten's do.
    any_size = backbone.imagenet is not None and merged.get("pooling") != "flatten"
    share = INPUT_FRACTIONS.get(recipe, 1.0) if any_size or recipe == "standard" else 1.0
    size = _whole(given, "size", _scaled(backbone.size_px, share, backbone), 8, 4096)
    if recipe == "best" and any_size:
        smaller = _scaled(size, TUNED_FRACTION, backbone)
        merged = {"train_size": smaller if smaller < size else 0, **merged}
    fit = _text(given, "fit", "pad" if recipe == "best" and "crop_fraction" not in given else "crop")
    if fit not in get_args(Fit):
        raise UsageError(f"--fit is crop, squash or pad (received: {fit})")
    views = _whole(given, "views", 0, 0, 50)
    crop_fraction = given.get("crop_fraction", 1.0)
    if not isinstance(crop_fraction, int | float) or isinstance(crop_fraction, bool) or not 0.1 <= crop_fraction <= 1:
        raise UsageError(f"--crop-fraction must lie in [0.1, 1] (received: {crop_fraction!r})")
    filters = given.get("filter", ())
    if not isinstance(filters, list | tuple) or not all(isinstance(name, str) for name in filters):
        raise UsageError(f"filter is a list of names (received: {filters!r})")
    groups = {
        group: kind(**{item.name: merged[item.name] for item in fields(kind) if item.name in merged})
        for group, kind in GROUPS.items()
    }
    if views and groups["augmentation"] == Augmentation():
        groups["augmentation"] = _VIEWS
    if groups["tuning"].soup > 1 and recipe not in TUNING_RECIPES:
        raise UsageError(f"--soup is for the recipes {' and '.join(TUNING_RECIPES)} (received: {recipe})")
    if groups["tuning"].train_size:
        _check_train_size(groups["tuning"].train_size, recipe, size, backbone, groups["head"].pooling)
    if groups["head"].output == "sigmoid" and len(pictures) != 2:
        raise UsageError(f"--output sigmoid is for two classes; {data} has {len(pictures)}")
    config = Config(
        data=os.path.abspath(data),
        backbone=backbone.name,
        height=size,
        width=size,
        weights=weights,
        recipe=recipe,
        views=views,
        seed=_whole(given, "seed", 0, 0, 2**31 - 1),
        preprocessing=Preprocessing(tuple(filters), fit, float(crop_fraction) if fit == "crop" else 1.0),  # type: ignore[arg-type]
        **groups,
    )
    changed = {name: value for name, value in by_size.items() if value != PRESETS[recipe].get(name)}
    chosen = [f"--{name} {value}" for name, value in changed.items() if name not in given]
    so_many = f"; for so many pictures {' and '.join(chosen)}" if chosen else ""
    return config, f"{sum(pictures.values()):,} pictures, {len(pictures)} classes: recipe {recipe}, {why}{so_many}"


def unused(config: Config, given: Iterable[str]) -> list[str]:
    """Which of the options by these names the config's recipe does not look at, each with the reason."""
    recipe, fast = config.recipe, config.recipe == "fast"
    rules = (
        (fast and not config.views, _AUGMENTATION, "recipe fast augments nothing without --views"),
        (fast and config.views, ("mixup", "cutmix"), "recipe fast mixes no features"),
        (fast, ("averaging",), "recipe fast averages nothing"),
        (recipe in ("scratch", "course"), ("views",), f"recipe {recipe} has no such views"),
        (recipe in ("fast", "scratch"), ("unfreeze",), f"recipe {recipe} has nothing to unfreeze"),
        (recipe != "course", ("fine_tuning_rate",), "it is for recipe course"),
        (config.optimization.optimizer != "adamw", ("weight_decay",), "it is for --optimizer adamw"),
        (config.preprocessing.fit != "crop", ("crop_fraction",), "it is for --fit crop"),
        (not config.optimization.patience, ("min_delta",), "it is for --patience"),
    )
    names = set(given)
    found = [([name for name in those if name in names], why) for applies, those, why in rules if applies]
    return [
        f"{', '.join('--' + name.replace('_', '-') for name in those)}: not used, {why}"
        for those, why in found
        if those
    ]


def _choose(weights: str, pictures: Mapping[str, int]) -> tuple[str, str]:
    if weights == "none":
        return "scratch", "because the weights are random: every layer has to learn"
    total, fewest = sum(pictures.values()), min(pictures.values())
    if total < FEW_PICTURES or fewest < FEW_OF_A_CLASS:
        few = f"{total:,} pictures" if total < FEW_PICTURES else f"{fewest} pictures of a class"
        return "fast", f"because {few} are too few to change the backbone by"
    return "standard", "because that is enough to tune the backbone; --recipe fast is much quicker"


def _scaled(size: int, share: float, backbone: backbones.Backbone) -> int:
    """About so much of a side in px; rounding makes no larger share less than the side, and no smaller one more."""
    if share == 1.0:
        return size
    scaled = max(round(size * share / _SIZE_STEP_PX) * _SIZE_STEP_PX, backbone.min_size_px)
    return max(size, scaled) if share > 1 else min(size, scaled)


def _check_train_size(train_size: int, recipe: str, size: int, backbone: backbones.Backbone, pooling: str) -> None:
    if recipe not in TUNING_RECIPES:
        raise UsageError(f"--train-size is for the recipes {' and '.join(TUNING_RECIPES)} (received: {recipe})")
    if pooling == "flatten":
        raise UsageError("--train-size does not go with --pooling flatten, whose weights depend on the size")
    least = max(8, backbone.min_size_px)
    if not least <= train_size <= size:
        raise UsageError(
            f"--train-size of {backbone.name} is 0 or from {least} to the input's {size} (received: {train_size})"
        )


def _by_size(recipe: str, pictures: int) -> dict[str, Any]:
    """What depends on the size of the data."""
    chosen: dict[str, Any] = {}
    if recipe in ("fast", *TUNING_RECIPES) and pictures > MANY_PICTURES:
        chosen["pooling"] = "average"
    if recipe == "standard":
        chosen["epochs"] = max(2, min(PRESETS[recipe]["epochs"], round(STANDARD_VIEWS / max(pictures, 1))))
    return chosen


def _text(given: Mapping[str, Any], name: str, default: str) -> str:
    value = given.get(name, default)
    if not isinstance(value, str):
        raise UsageError(f"{name} is a text (received: {value!r})")
    return value


def _whole(given: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = given.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise UsageError(f"--{name} is a whole number from {low} to {high} (received: {value!r})")
    return value
