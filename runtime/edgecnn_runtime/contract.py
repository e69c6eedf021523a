"""The contract: everything that the device must know about a model, carried inside the one artifact file.

The container (where in a .tflite or .onnx file the text lies) is the business of `edgecnn_runtime.backends`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from edgecnn_runtime.errors import ModelError

SCHEMA = 1
MAX_SIDE_PX = 4096

Fit = Literal["crop", "squash", "pad"]
Resampling = Literal["fast_area", "area", "linear"]
Activation = Literal["softmax", "sigmoid"]
GateOutcome = Literal["pass", "fail", "unproven"]
FILTERS = ("gray", "equalize", "clahe", "gaussian", "median", "canny")


def _check(condition: bool, rule: str, received: object) -> None:
    if not condition:
        raise ModelError(f"contract: {rule} (received: {received!r})")


def _check_printable(*texts: str) -> None:
    for text in texts:  # `info` prints them: an escape sequence would command the terminal
        _check(text.isprintable(), "a text must be one line of printable characters", text)


@dataclass(frozen=True)
class Preprocessing:
    """What happens to a picture between decoding and the network, in this order: filters, fit, resampling.

    Attributes:
        filters: names from `FILTERS`, applied in the stated order to the whole decoded picture.
        fit: ``crop`` takes the largest centred region of the input's aspect ratio, times `crop_fraction`; ``squash``
            takes the whole picture and ignores its aspect ratio; ``pad`` keeps it whole and adds grey (127) borders.
        crop_fraction: side of the region over the side of the largest one that fits, in (0, 1]; only for ``crop``.
        resampling: see `edgecnn_runtime.preprocess`.
    """

    filters: tuple[str, ...] = ()
    fit: Fit = "crop"
    crop_fraction: float = 1.0
    resampling: Resampling = "fast_area"

    def __post_init__(self) -> None:
        _check(
            all(name in FILTERS for name in self.filters), f"filters must be among {', '.join(FILTERS)}", self.filters
        )
        _check(self.fit in get_args(Fit), f"fit must be one of {', '.join(get_args(Fit))}", self.fit)
        _check(0.0 < self.crop_fraction <= 1.0, "crop_fraction must be in (0, 1]", self.crop_fraction)
        _check(
            self.resampling in get_args(Resampling),
            f"resampling must be one of {', '.join(get_args(Resampling))}",
            self.resampling,
        )


@dataclass(frozen=True)
class Decision:
    """How probabilities become an answer.

    Attributes:
        temperature: probabilities are sharpened (below 1) or softened (above 1) by it; 1 leaves them alone.
        reject_threshold: an answer less probable than this, in [0, 1], is no answer; 0 rejects nothing.
    """

    temperature: float = 1.0
    reject_threshold: float = 0.0

    def __post_init__(self) -> None:
        _check(0.01 <= self.temperature <= 100.0, "temperature must be in [0.01, 100]", self.temperature)
        _check(0.0 <= self.reject_threshold <= 1.0, "reject_threshold must be in [0, 1]", self.reject_threshold)


@dataclass(frozen=True)
class Accuracy:
    """Top-1 accuracy of this very artifact on labelled pictures that it never saw.

    Attributes:
        accuracy: fraction in [0, 1].
        interval: 95 % Wilson score interval, two fractions.
        pictures: how many were classified.
        agreement: fraction of pictures with the same top-1 as the Keras model, where that was measured.
    """

    accuracy: float
    interval: tuple[float, float]
    pictures: int
    agreement: float | None = None

    def __post_init__(self) -> None:
        low, high = self.interval
        _check(
            0.0 <= low <= self.accuracy <= high <= 1.0,
            "accuracy must lie in its interval",
            (self.accuracy, self.interval),
        )
        _check(self.pictures > 0, "pictures must be positive", self.pictures)


@dataclass(frozen=True)
class Gate:
    """How this very artifact did against the float model, on labelled pictures that neither training nor calibration
    saw; differences are float model minus artifact, in percentage points.

    Attributes:
        outcome: ``pass``: with 95 % the drop is at most `max_drop_points`; ``fail``: with 95 % it is more;
            ``unproven``: there were too few pictures to tell.
        interval: the drop's bounds, each of which holds with at least 95 %.
        pictures: how many.
    """

    outcome: GateOutcome
    max_drop_points: float
    drop_points: float
    interval: tuple[float, float]
    pictures: int

    def __post_init__(self) -> None:
        _check(self.outcome in get_args(GateOutcome), "a gate's outcome must be pass, fail or unproven", self.outcome)
        low, high = self.interval
        _check(low <= self.drop_points <= high, "a drop must lie in its interval", (self.drop_points, self.interval))
        _check(self.pictures > 0, "pictures must be positive", self.pictures)


@dataclass(frozen=True)
class Publication:
    """What the author states of a model, in free words, and nobody measures; empty where nothing is stated."""

    author: str = ""
    license: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        _check_printable(self.author, self.license, self.version)


@dataclass(frozen=True)
class Provenance:
    """Where the model comes from. `weights` says the source of the backbone's weights, `data_hash` is the SHA-256 over
    the training pictures and labels, `versions` maps package to version, `published_top1` is the accuracy in percent
    that the weights' authors state on ImageNet, for a model that was not trained here. `gate` is None where there was
    nothing to hold the artifact against."""

    backbone: str
    precision: str
    weights: str = ""
    data_hash: str = ""
    seed: int | None = None
    created: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    test: Accuracy | None = None
    published_top1: float | None = None
    gate: Gate | None = None
    publication: Publication = Publication()

    def __post_init__(self) -> None:
        stated = (self.backbone, self.precision, self.weights, self.data_hash, self.created)
        _check_printable(*stated, *self.versions, *self.versions.values())


@dataclass(frozen=True)
class Golden:
    """A tiny picture and what the model must say about it.

    Attributes:
        png: a PNG file (lossless, so that every decoder gives the same pixels), base64.
        probabilities: one per output class, in [0, 1], measured when the artifact was made.
        tolerance: largest allowed absolute difference of a probability.
        subject_sha256: see `Contract.subject_sha256`: what the probabilities were measured of; empty where the golden
            does not say so.
    """

    png: str
    probabilities: tuple[float, ...]
    tolerance: float
    subject_sha256: str = ""

    def __post_init__(self) -> None:
        _check(all(0.0 <= p <= 1.0 for p in self.probabilities), "golden probabilities must be in [0, 1]", "others")
        _check(0.0 < self.tolerance <= 0.5, "golden tolerance must be in (0, 0.5]", self.tolerance)
        _check(len(self.png) <= 200_000, "a golden picture must be tiny", f"{len(self.png)} characters")

    def picture(self) -> bytes:
        """The bytes of the PNG file. Raises ModelError where they are not base64."""
        try:
            return base64.b64decode(self.png, validate=True)
        except binascii.Error as error:
            raise ModelError("contract: a golden picture is damaged; export the model again") from error


@dataclass(frozen=True)
class Contract:
    """What a model expects and means. Input is always RGB, raw 0-255; any normalisation is inside the graph.

    Attributes:
        height, width: input size in pixels.
        labels: class names, in the order of the outputs; for one sigmoid output two, the second the positive one.
        activation: ``softmax`` (a probability per class) or ``sigmoid`` (one output: that of the second class).
        graph_sha256: SHA-256 of the artifact's bytes without the contract; empty until it is written into a file.
    """

    height: int
    width: int
    labels: tuple[str, ...]
    provenance: Provenance
    preprocessing: Preprocessing = Preprocessing()
    activation: Activation = "softmax"
    decision: Decision = Decision()
    goldens: tuple[Golden, ...] = ()
    graph_sha256: str = ""

    def __post_init__(self) -> None:
        _check(
            1 <= self.height <= MAX_SIDE_PX and 1 <= self.width <= MAX_SIDE_PX,
            f"height and width must be 1 to {MAX_SIDE_PX} px",
            (self.height, self.width),
        )
        _check(len(self.labels) >= 2, "at least two labels are needed", self.labels)
        _check(len(set(self.labels)) == len(self.labels), "labels must differ", self.labels)
        _check(
            all(label.strip() and label.isprintable() for label in self.labels),
            "a label must be one non-empty line of printable characters",
            next((label for label in self.labels if not label.strip() or not label.isprintable()), ""),
        )
        _check(self.activation in get_args(Activation), "activation must be softmax or sigmoid", self.activation)
        _check(self.activation == "softmax" or len(self.labels) == 2, "sigmoid means two labels", self.labels)
        _check(
            all(len(golden.probabilities) == len(self.labels) for golden in self.goldens),
            "a golden has one probability per label",
            [len(golden.probabilities) for golden in self.goldens],
        )

    @property
    def outputs(self) -> int:
        """How many numbers the network gives for a picture: one per label, or one for a sigmoid."""
        return 1 if self.activation == "sigmoid" else len(self.labels)

    def subject_sha256(self, graph: bytes) -> str:
        """SHA-256 of a graph and the labels in their order, by which a golden knows what it was measured of, whoever
        wrote another contract round it since."""
        return hashlib.sha256("\n".join((*self.labels, "")).encode() + graph).hexdigest()

    def to_json(self) -> str:
        """The contract as one JSON document, with a hash of itself so that an alteration is seen."""
        body = asdict(self)
        document = {"edgecnn_contract": SCHEMA, "contract": body, "sha256": _digest(body)}
        return json.dumps(document, ensure_ascii=False, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Contract:
        """Reads what `to_json` wrote. Raises ModelError when it is damaged, altered or from a newer version."""
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError("the contract inside the file is damaged; export the model again") from error
        if not isinstance(document, dict) or type(schema := document.get("edgecnn_contract")) is not int:
            raise ModelError("the contract inside the file is damaged; export the model again")
        if schema != SCHEMA:
            raise ModelError(
                f"the contract has schema {schema}, this edgecnn-runtime reads {SCHEMA}: "
                "run 'pip install --upgrade edgecnn-runtime', or export the model again"
            )
        body = document.get("contract")
        try:
            unaltered = document.get("sha256") == _digest(body)
        except RecursionError as error:
            raise ModelError("the contract inside the file is damaged; export the model again") from error
        if not unaltered:
            raise ModelError("the contract inside the file was altered; export the model again")
        return _build(cls, body, "contract")


def _digest(body: object) -> str:
    text = json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


T = TypeVar("T")


def _build(cls: type[T], value: object, where: str) -> T:
    """Builds a frozen dataclass from parsed JSON, checking every type; unknown and missing fields are errors."""
    if not isinstance(value, dict):
        raise ModelError(f"{where}: an object is needed (received: {type(value).__name__})")
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(value) - known):
        raise ModelError(f"{where}: unknown field {unknown[0]!r}; a newer edgecnn-runtime may know it")
    arguments = {name: _convert(hints[name], item, f"{where}.{name}") for name, item in value.items()}
    try:
        return cls(**arguments)
    except TypeError as error:
        raise ModelError(f"{where}: {str(error).split('() ')[-1]}") from error


def _convert(hint: Any, value: object, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if is_dataclass(hint):
        return _build(typing.cast(type, hint), value, where)
    if origin is tuple and isinstance(value, list):
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise ModelError(f"{where}: {len(arguments)} values are needed (received: {len(value)})")
        return tuple(_convert(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {name: _convert(arguments[1], item, where) for name, item in value.items()}
    if origin is Literal and isinstance(value, str):
        return value
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if abs(value) <= sys.float_info.max:  # neither NaN nor an integer that no float can hold
            return float(value)
        raise ModelError(f"{where}: a finite number is needed")
    if hint in (int, str) and type(value) is hint:
        return value
    raise ModelError(f"{where}: wrong type (received: {type(value).__name__})")
