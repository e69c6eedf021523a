"""Classifier: an artifact and its contract, from picture to typed result."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecnn_runtime.artifact import read_artifact as read_artifact
from edgecnn_runtime.artifact import write_artifact as write_artifact
from edgecnn_runtime.backends import PIXELS, Backend, BackendModule, Outputs, Scaling
from edgecnn_runtime.backends._trial import trial
from edgecnn_runtime.contract import Contract
from edgecnn_runtime.decode import Picture, decode, read_bytes
from edgecnn_runtime.errors import ModelError
from edgecnn_runtime.metrics import Probabilities as Probabilities
from edgecnn_runtime.preprocess import ColorOrder, preprocess


@dataclass(frozen=True)
class Score:
    """A class and its probability in [0, 1]."""

    label: str
    probability: float


@dataclass(frozen=True)
class Timings:
    """Wall time in milliseconds; `decode_ms` is 0 for an array."""

    decode_ms: float
    preprocess_ms: float
    inference_ms: float

    @property
    def total_ms(self) -> float:
        """Sum of the parts."""
        return self.decode_ms + self.preprocess_ms + self.inference_ms


@dataclass(frozen=True)
class Result:
    """What the model says about one picture.

    Attributes:
        label: the most probable class, or None where its probability is below the reject threshold.
        probability: of the most probable class, in [0, 1].
        probabilities: ``(classes,)`` float32 in the order of the labels; sum 1 but for the rounding
            of 8-bit outputs.
        labels: the contract's labels.
    """

    label: str | None
    probability: float
    probabilities: Probabilities
    labels: tuple[str, ...]
    timings: Timings

    def top(self, k: int = 5) -> tuple[Score, ...]:
        """The `k` most probable classes, most probable first; ties in the order of the labels."""
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return tuple(Score(self.labels[i], float(self.probabilities[i])) for i in order)


class Classifier:
    """A model ready to classify. Not safe for two threads at once: `clone` gives each its own.

    Attributes:
        contract: what the model expects and means.
        reject_threshold: an answer less probable than this, in [0, 1], is no answer; at first the contract's.
    """

    def __init__(
        self,
        graph: bytes,
        contract: Contract,
        module: BackendModule,
        threads: int = 1,
        scaling: Scaling = PIXELS,
        logits: bool = False,
    ) -> None:
        self.contract = contract
        self.reject_threshold = contract.decision.reject_threshold
        self._rebuild = (graph, contract, module, threads, scaling, logits)
        self._logits = logits
        self._backend: Backend = module.load(graph, threads, scaling)
        expected = (contract.height, contract.width, contract.outputs)
        received = (self._backend.height, self._backend.width, self._backend.outputs)
        if received != expected:
            raise ModelError(
                f"the model has input {received[0]}x{received[1]} px and {received[2]} outputs, "
                f"stated are {expected[0]}x{expected[1]} px and {expected[2]}"
            )

    @classmethod
    def load(cls, path: str | Path, threads: int = 1) -> Classifier:
        """Loads an artifact of edgecnn.

        Args:
            threads: how many threads one inference uses.

        Raises:
            ModelError: the file is missing, damaged, altered, newer, or its engine is not installed.
        """
        graph, contract, module = read_artifact(path)
        try:
            return cls(graph, contract, module, threads)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error

    @classmethod
    def load_foreign(
        cls, path: str | Path, contract: Contract, scaling: Scaling, threads: int = 1, logits: bool = False
    ) -> Classifier:
        """Loads a model that carries no contract, by what the caller states of it.

        Args:
            contract: input size, labels, preprocessing.
            scaling: the values that the network wants for the pixel values 0 and 255.
            logits: whether the outputs are logits; else they are probabilities.

        Raises:
            ModelError: as `load`, and when the model has a contract, is of another size or class count, or crashes the
                engine in a trial run in another process.
        """
        graph, contract, module = read_artifact(path, contract)
        try:
            trial(graph, Path(path).suffix)
            return cls(graph, contract, module, threads, scaling, logits)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error

    def clone(self) -> Classifier:
        """The same model in an engine of its own, for another thread."""
        other = Classifier(*self._rebuild)
        other.reject_threshold = self.reject_threshold
        return other

    def classify(self, image: Picture | str | Path | bytes, color: ColorOrder = "rgb") -> Result:
        """Classifies one picture.

        Args:
            image: a file's path, a file's bytes, or ``(H, W, 3)`` uint8, 0-255, channels in the order `color`.
            color: for arrays; frames of OpenCV are "bgr".

        Raises:
            PictureError: the picture cannot be read.
            ModelError: the engine failed or gave numbers that are no probabilities.
        """
        start = time.perf_counter()
        decoded = start
        if not isinstance(image, np.ndarray):
            name = "picture" if isinstance(image, bytes) else str(image)
            image = decode(image if isinstance(image, bytes) else read_bytes(image), name)
            color = "rgb"
            decoded = time.perf_counter()
        pixels = self.preprocess(image, color)
        prepared = time.perf_counter()
        probabilities = self.infer(pixels)
        end = time.perf_counter()
        best = int(np.argmax(probabilities))
        probability = float(probabilities[best])
        accepted = probability >= self.reject_threshold
        return Result(
            label=self.contract.labels[best] if accepted else None,
            probability=probability,
            probabilities=probabilities,
            labels=self.contract.labels,
            timings=Timings((decoded - start) * 1e3, (prepared - decoded) * 1e3, (end - prepared) * 1e3),
        )

    def preprocess(self, picture: Picture, color: ColorOrder = "rgb") -> Picture:
        """A decoded picture to what the network sees; see `edgecnn_runtime.preprocess.preprocess`."""
        return preprocess(picture, self.contract.preprocessing, self.contract.height, self.contract.width, color)

    def infer(self, pixels: Picture) -> Probabilities:
        """``(height, width, 3)`` uint8 RGB, preprocessed, to ``(classes,)`` float32 in [0, 1]. Raises ModelError."""
        return _probabilities(self._backend.run(pixels), self.contract, self._logits)

    @property
    def subject_sha256(self) -> str:
        """What goldens are measured of, see `edgecnn_runtime.contract.Contract.subject_sha256`."""
        return self.contract.subject_sha256(self._rebuild[0])

    def selftest(self) -> float:
        """Runs the goldens through decoding, preprocessing and inference.

        Returns:
            The largest difference of a probability, as a fraction of its tolerance; 0 without goldens.

        Raises:
            ModelError: a difference is larger than its tolerance: this device computes something else than the lab;
                or the graph or the labels are not those that the goldens were measured of.
        """
        worst, subject = 0.0, self.subject_sha256 if self.contract.goldens else ""
        for golden in self.contract.goldens:
            if golden.subject_sha256 not in ("", subject):
                raise ModelError(
                    "self-test failed: the model or the order of its labels is not what was measured at export; "
                    "copy the file again or export it again"
                )
            result = self.classify(golden.picture())
            difference = float(np.abs(result.probabilities - np.array(golden.probabilities, np.float32)).max())
            worst = max(worst, difference / golden.tolerance)
        if worst > 1.0:
            raise ModelError(
                f"self-test failed: a probability differs by {worst:.1f} times its tolerance from what was measured "
                "at export; the engine or OpenCV on this device computes something else"
            )
        return worst


def _probabilities(outputs: Outputs, contract: Contract, logits: bool) -> Probabilities:
    """Postprocessing: the one place where a network's outputs become probabilities."""
    if not np.isfinite(outputs).all():
        raise ModelError("the model gave numbers that are not finite; it is damaged or was exported wrongly")
    if logits:
        shifted = np.exp(outputs - outputs.max())
        outputs = shifted / shifted.sum()
    if contract.activation == "sigmoid":
        outputs = np.array([1.0 - outputs[0], outputs[0]], np.float32)
    # Rounding of 8-bit outputs adds up to half a step per class, so the sum may be off by more than a float's error.
    if outputs.min() < -0.01 or not math.isclose(float(outputs.sum()), 1.0, abs_tol=0.02 + outputs.size / 512):
        raise ModelError(
            f"the model's outputs are no probabilities (sum {outputs.sum():.3g}); for logits state --logits"
        )
    return np.minimum(apply_temperature(np.maximum(outputs, 0.0), contract.decision.temperature), np.float32(1.0))


def apply_temperature(probabilities: Probabilities, temperature: float) -> Probabilities:
    """Temperature scaling (Guo et al. 2017, "On Calibration of Modern Neural Networks").

    On probabilities p it is p^(1/T), normalised, which equals dividing the logits by T. The most probable class stays.

    Args:
        probabilities: ``(…, classes)`` float32, not negative.

    Returns:
        The same shape and type.
    """
    if temperature == 1.0:
        return probabilities
    scaled = probabilities ** np.float32(1.0 / temperature)
    return np.asarray(scaled / np.maximum(scaled.sum(-1, keepdims=True), np.finfo(np.float32).tiny), np.float32)
