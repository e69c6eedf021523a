"""Everything that a training can be told: one dataclass a subject, each option with its help, range and default.

The command line, a TOML file and a run's config.json all speak of the same options by the same names. The defaults are
those of the recipe `fast`; `edgecnn.training.presets` says what the other recipes change.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

from edgecnn_runtime.errors import UsageError

_MOST_DEVICES = 64  # virtual ones are made up to the highest number, which takes long


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """A dataclass field that knows its help and its range (both ends included)."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": tuple(choices)})


class Checked:
    """Checks every field against its type, range and choices when it is made. Raises UsageError."""

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            check(item.name, getattr(self, item.name), type(self))


def check(name: str, value: Any, group: type) -> None:
    """Raises UsageError unless `value` may be the value of the option `name` of `group`."""
    flag = "--" + name.replace("_", "-")
    kind = get_type_hints(group)[name]
    rule = next(item.metadata for item in fields(group) if item.name == name)
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"{flag} is a {kind.__name__} (received: {value!r})")
    if rule["choices"] and value not in rule["choices"]:
        raise UsageError(f"{flag} is one of {', '.join(rule['choices'])} (received: {value})")
    low, high = rule["low"], rule["high"]
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        shown = f"{value:g}" if isinstance(value, float) else value  # a whole number may be too large for a float
        raise UsageError(f"{flag} must lie in [{low:g}, {high:g}] (received: {shown})")


@dataclass(frozen=True)
class HeadOptions(Checked):
    """What stands on the backbone's feature map."""

    output: str = option(
        "softmax", "sigmoid: two classes by one output with binary cross-entropy.", choices=("softmax", "sigmoid")
    )
    pooling: str = option(
        "levels",
        "Of the feature map; levels: averages of all maps that the last blocks compute, not of the last one alone.",
        choices=("average", "max", "flatten", "levels"),
    )
    hidden: int = option(0, "Units of a hidden dense layer (ReLU); 0 for none.", low=0, high=65536)
    normalization: str = option(
        "none", "Before the last layer; batch suits large batches, layer any.", choices=("none", "batch", "layer")
    )
    dropout: float = option(0.0, "Fraction of the features that a step leaves out.", low=0.0, high=0.95)
    l1: float = option(0.0, "Factor of the absolute weights in the loss.", low=0.0, high=10.0)
    l2: float = option(2e-2, "Factor of the squared weights in the loss.", low=0.0, high=10.0)

    @property
    def begins_dense(self) -> bool:
        """Whether the first weights that features meet are those of a dense layer."""
        return self.hidden > 0 or self.normalization == "none"


@dataclass(frozen=True)
class Optimization(Checked):
    """How weights are found."""

    optimizer: str = option(
        "adam", "Adam, AdamW, SGD with momentum, RMSprop.", choices=("adam", "adamw", "sgd", "rmsprop")
    )
    learning_rate: float = option(1e-3, "The largest of the schedule.", low=1e-8, high=10.0)
    schedule: str = option(
        "cosine",
        "step: a tenth after half and three quarters; exponential and cosine: down to a hundredth; plateau: halved "
        "after 3 epochs without a lower validation loss.",
        choices=("constant", "step", "exponential", "cosine", "plateau"),
    )
    warmup: float = option(0.0, "Epochs in which the rate rises; not with plateau.", low=0.0, high=1000.0)
    weight_decay: float = option(0.0, "Of adamw.", low=0.0, high=1.0)
    batch_size: int = option(
        128, "Pictures in a step; on several devices rounded up to as many for each.", low=1, high=65536
    )
    epochs: int = option(20, "At most.", low=1, high=100000)
    patience: int = option(
        6, "Epochs without a lower validation loss before it stops; 0 for never.", low=0, high=100000
    )
    min_delta: float = option(0.0, "What counts as lower.", low=0.0, high=10.0)
    label_smoothing: float = option(0.05, "Share of the target that goes to all classes alike.", low=0.0, high=0.9)
    averaging: float = option(
        0.0,
        "Decay a step of an average of the weights, which is kept if it wins on validation; 0 for none.",
        low=0.0,
        high=0.99999,
    )
    balance: str = option(
        "none",
        "weights: a class's loss counts by its rarity; sampling: rare classes are drawn more often.",
        choices=("none", "weights", "sampling"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup and self.schedule == "plateau":
            raise UsageError("--warmup does not go with --schedule plateau; choose cosine")


@dataclass(frozen=True)
class Tuning(Checked):
    """What of the backbone is trained, where a recipe trains it."""

    unfreeze: str = option(
        "all", "How much is trained: none, block (the last), top (all but the large maps), all, or the last N layers."
    )
    train_size: int = option(
        0, "Side of the pictures that the backbone is tuned on, in px; 0: the input's.", low=0, high=4096
    )
    soup: int = option(
        1, "How many tunings, each with chances of its own, have their weights averaged (a model soup).", low=1, high=16
    )
    fine_tuning_rate: float = option(1e-5, "Learning rate of the second part of recipe course.", low=1e-8, high=1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unfreeze not in ("none", "block", "top", "all") and not self.unfreeze.isdecimal():
            raise UsageError(f"--unfreeze is none, block, top, all or a number of layers (received: {self.unfreeze})")


@dataclass(frozen=True)
class Augmentation(Checked):
    """What may happen to a training picture; every default is "not at all". See `edgecnn.training.augment`."""

    flip: str = option("none", "Mirrored half of the time.", choices=("none", "horizontal", "vertical", "both"))
    rotation: float = option(0.0, "Largest angle, as a fraction of a full turn.", low=0.0, high=0.5)
    zoom: float = option(0.0, "Largest change of size, as a fraction.", low=0.0, high=0.9)
    translation: float = option(0.0, "Largest shift, as a fraction of the side.", low=0.0, high=0.9)
    crop: float = option(1.0, "Smallest area of a random crop, as a fraction; 1 crops nothing.", low=0.05, high=1.0)
    contrast: float = option(0.0, "Largest change, as a fraction.", low=0.0, high=1.0)
    brightness: float = option(0.0, "Largest change, as a fraction of white.", low=0.0, high=1.0)
    color: float = option(0.0, "Largest change of saturation, as a fraction; hue moves with it.", low=0.0, high=1.0)
    randaugment: float = option(
        0.0, "Magnitude of two random operations (RandAugment); 0 for none.", low=0.0, high=30.0
    )
    mixup: float = option(0.0, "Alpha of MixUp; 0 for never.", low=0.0, high=10.0)
    cutmix: float = option(0.0, "Alpha of CutMix; 0 for never.", low=0.0, high=10.0)


@dataclass(frozen=True)
class Machine(Checked):
    """What it runs on."""

    precision: str = option(
        "float32", "mixed_float16 for a GPU's tensor cores.", choices=("float32", "mixed_float16", "mixed_bfloat16")
    )
    xla: bool = option(False, "Compile by XLA: for a GPU; on a CPU it is slower.")
    devices: str = option("auto", "auto, cpu, gpu, or several of one machine: gpu:0,1.")

    def __post_init__(self) -> None:
        super().__post_init__()
        kind, _, numbers = self.devices.partition(":")
        if self.devices != "auto" and (
            kind not in ("cpu", "gpu") or (":" in self.devices and not all(n.isdecimal() for n in numbers.split(",")))
        ):
            raise UsageError(f"--devices is auto, cpu, gpu or gpu:0,1 (received: {self.devices})")
        named = [int(number[:9]) for number in numbers.split(",") if number]
        if max(named, default=0) >= _MOST_DEVICES:
            raise UsageError(f"--devices numbers devices from 0 to {_MOST_DEVICES - 1} (received: {self.devices:.40})")
        if len(set(named)) < len(named):
            raise UsageError(f"--devices names each one once (received: {self.devices})")


GROUPS: Mapping[str, type] = {
    "head": HeadOptions,
    "optimization": Optimization,
    "tuning": Tuning,
    "augmentation": Augmentation,
    "machine": Machine,
}
GROUP_OF: Mapping[str, str] = {item.name: group for group, kind in GROUPS.items() for item in fields(kind)}


def unknown(name: str, known: Sequence[str]) -> str:
    """`name`, and what may have been meant."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"{name!r}" + (f"; did you mean {close[0]!r}?" if close else "")
