"""ONNX: the contract lies in the model's metadata_props; the engine is ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn_runtime.backends import Outputs, Scaling
from edgecnn_runtime.backends._protobuf import check_onnx, metadata_record, operators, split_metadata
from edgecnn_runtime.errors import ModelError, first_line

if TYPE_CHECKING:
    from edgecnn_runtime.decode import Picture

CONTRACT_KEY = "edgecnn.contract"


def split(data: bytes) -> tuple[bytes, str | None]:
    """The model without its contract and, for an artifact of edgecnn, the contract's text. Raises ModelError."""
    graph, text = split_metadata(data, CONTRACT_KEY.encode())
    try:
        return graph, None if text is None else text.decode()
    except UnicodeDecodeError as error:
        raise ModelError("the contract inside the file is damaged; export the model again") from error


def join(graph: bytes, contract: str, labels: tuple[str, ...]) -> bytes:
    """Appends the contract as one metadata_props entry; the labels are in it."""
    return graph + metadata_record(CONTRACT_KEY.encode(), contract.encode())


def check_structure(graph: bytes) -> None:
    """See `edgecnn_runtime.backends._protobuf.check_onnx`."""
    check_onnx(graph)


def load(graph: bytes, threads: int, scaling: Scaling) -> OnnxBackend:
    """Gives a checked model to the engine. Raises ModelError."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError("no ONNX engine is installed: run \"pip install 'edgecnn-runtime[onnx]'\"") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Else idle threads turn in circles for milliseconds after each inference: between the frames of a camera that took
    # three times the processor that inference takes.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 4  # what it would print about a bad model is said once, by the ModelError
    try:
        # Without a fallback it does not print about one on stdout.
        session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"], enable_fallback=False
        )
    except Exception as error:  # its exceptions share no base class of their own
        raise ModelError(f"the ONNX engine refuses the model: {first_line(error)}") from error
    return OnnxBackend(session, scaling)


def describe(graph: bytes) -> tuple[str, dict[str, Any]]:
    """How many operators the graph has, and how many of them only turn maps about."""
    found = operators(graph)
    turns = found.count("Transpose")
    return f"{len(found)} operators, {turns} of them Transpose", {"operators": len(found), "transposes": turns}


class OnnxBackend:
    """An ONNX model in its session. See `edgecnn_runtime.backends.Backend`."""

    def __init__(self, session: Any, scaling: Scaling) -> None:
        sources, sinks = session.get_inputs(), session.get_outputs()
        if len(sources) != 1 or len(sinks) != 1:
            raise ModelError(f"a classifier has one input and one output (received: {len(sources)} and {len(sinks)})")
        shape = list(sources[0].shape)
        self._channels_first = len(shape) == 4 and shape[1] == 3
        if len(shape) != 4 or (shape[1] if self._channels_first else shape[3]) != 3:
            raise ModelError(
                f"a classifier takes one picture, (1, height, width, 3) or (1, 3, height, width) (received: {shape})"
            )
        height, width = shape[2:] if self._channels_first else shape[1:3]
        if not isinstance(height, int) or not isinstance(width, int):
            raise ModelError(f"the model does not say its input size (received: {shape}); export it with a fixed size")
        if sources[0].type not in ("tensor(float)", "tensor(uint8)"):
            raise ModelError(f"the model's input has type {sources[0].type}; float and uint8 are supported")
        self.height, self.width = height, width
        self._session, self._input = session, sources[0].name
        dtype = np.float32 if sources[0].type == "tensor(float)" else np.uint8
        self._table = scaling.table().astype(dtype)
        self.outputs = self.run(np.zeros((height, width, 3), np.uint8)).size

    def run(self, picture: Picture) -> Outputs:
        """One inference; see `edgecnn_runtime.backends.Backend.run`."""
        pixels = self._table[picture]
        if self._channels_first:
            pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        try:
            (output,) = self._session.run(None, {self._input: pixels[np.newaxis]})
        except Exception as error:
            raise ModelError(f"the ONNX engine failed: {first_line(error)}") from error
        return np.asarray(output, np.float32).reshape(-1)
