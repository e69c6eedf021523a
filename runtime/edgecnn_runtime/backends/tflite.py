"""TFLite: the contract lies in a zip appended to the flatbuffer; the engine is LiteRT, else tflite-runtime."""

from __future__ import annotations

import contextlib
import io
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn_runtime.backends import PIXELS, Outputs, Scaling
from edgecnn_runtime.backends._flatbuffer import check_tflite
from edgecnn_runtime.errors import ModelError, first_line
from edgecnn_runtime.quiet import quiet

if TYPE_CHECKING:
    from edgecnn_runtime.decode import Picture

CONTRACT_FILE = "edgecnn.json"
LABELS_FILE = "labels.txt"  # the name that other people's tools look for
_MAX_CONTRACT_BYTES = 4_000_000
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can hold: equal artifacts are equal files


def split(data: bytes) -> tuple[bytes, str | None]:
    """The flatbuffer and, where it is an artifact of edgecnn, the contract's text. Raises ModelError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as files:
            entries = files.infolist()
            graph = data[: min((entry.header_offset for entry in entries), default=0)]
            if CONTRACT_FILE not in files.namelist():
                return graph, None
            if any(entry.file_size > _MAX_CONTRACT_BYTES or entry.compress_type for entry in entries):
                raise ModelError("the contract inside the file is damaged; export the model again")
            return graph, files.read(CONTRACT_FILE).decode()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, zlib.error) as error:
        if data.rfind(b"PK\x05\x06") == -1 and CONTRACT_FILE.encode() not in data:
            return data, None
        raise ModelError("the model file is truncated or damaged; copy it again or export the model again") from error


def join(graph: bytes, contract: str, labels: tuple[str, ...]) -> bytes:
    """Appends labels and contract, stored and not compressed, so that any zip reader shows them."""
    file = io.BytesIO(graph)
    with zipfile.ZipFile(file, "a") as files:
        for name, text in ((LABELS_FILE, "\n".join(labels) + "\n"), (CONTRACT_FILE, contract)):
            files.writestr(zipfile.ZipInfo(name, _ZIP_DATE), text)
    return file.getvalue()


def check_structure(graph: bytes) -> None:
    """See `edgecnn_runtime.backends._flatbuffer.check_tflite`."""
    check_tflite(graph)


def load(graph: bytes, threads: int, scaling: Scaling) -> TfliteBackend:
    """Gives a checked flatbuffer to the engine. Raises ModelError."""
    try:
        with _hushed_once():
            interpreter = _interpreter_class()(model_content=graph, num_threads=threads)
            interpreter.allocate_tensors()
        return TfliteBackend(interpreter, scaling)
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"the TFLite engine refuses the model: {first_line(error)}") from error


def describe(graph: bytes) -> tuple[str, dict[str, Any]]:
    """Into how many partitions the graph falls that the delegate (XNNPACK) runs, and which operators are left to the
    interpreter: those cut the graph. Reading and writing the quantized input is no cut. Raises ModelError."""
    partitions, outside = _executed(load(graph, 1, PIXELS).operators())
    cuts = [name for name in outside if name not in ("QUANTIZE", "DEQUANTIZE")]
    words = f"{partitions} partition{'' if partitions == 1 else 's'} for the delegate"
    if cuts:
        counts = Counter(cuts).most_common()
        words += "; not taken by it: " + ", ".join(name if n == 1 else f"{n} {name}" for name, n in counts)
    return words, {"partitions": partitions, "outside": outside}


def _executed(operators: Sequence[Mapping[str, Any]]) -> tuple[int, list[str]]:
    """The list of operators keeps those that a delegate has taken. Executed are those alone that an output goes back to
    when every tensor that a delegate puts out is the delegate's."""
    delegates = [operator for operator in operators if operator["op_name"] == "DELEGATE"]
    makers = {int(t): operator for operator in (*operators, *delegates) for t in operator["outputs"]}
    read = {int(t) for operator in operators for t in operator["inputs"]}
    wanted = [t for t in makers if t not in read]
    seen: set[int] = set()
    executed = {}
    while wanted:
        tensor = wanted.pop()
        if tensor in seen or tensor not in makers:
            continue
        seen.add(tensor)
        executed[int(makers[tensor]["index"])] = str(makers[tensor]["op_name"])
        wanted += [int(t) for t in makers[tensor]["inputs"]]
    names = [executed[index] for index in sorted(executed)]
    return names.count("DELEGATE"), [name for name in names if name != "DELEGATE"]


def _interpreter_class() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError as error:
            raise ModelError("no TFLite engine is installed: run 'pip install ai-edge-litert'") from error
    return Interpreter


_first_load = threading.Lock()
_announced = False


@contextlib.contextmanager
def _hushed_once() -> Iterator[None]:
    """The engine announces its delegate on stderr when the process loads its first model; other threads wait for it."""
    global _announced
    if _announced:
        yield
        return
    with _first_load, quiet():
        yield
        _announced = True


class TfliteBackend:
    """A TFLite model in its interpreter. See `edgecnn_runtime.backends.Backend`."""

    def __init__(self, interpreter: Any, scaling: Scaling) -> None:
        (source,), (sink,) = interpreter.get_input_details(), interpreter.get_output_details()
        shape = [int(side) for side in source["shape"]]
        if len(shape) != 4 or shape[0] != 1 or shape[3] != 3:
            raise ModelError(
                f"a classifier takes one picture of shape (1, height, width, 3) (received: {tuple(shape)})"
            )
        self.height, self.width = shape[1], shape[2]
        self.outputs = int(np.prod(sink["shape"]))
        self._interpreter, self._input, self._output = interpreter, source["index"], sink["index"]
        self._dtype = source["dtype"]
        self._table = _pixel_table(self._dtype, source["quantization"], scaling)
        # A quantized number q stands for (q - zero_point) * scale. Dequantized here, once: an 8-bit probability
        # compared with a threshold, or with another artifact's, means nothing. Float outputs have scale 0.
        self._scale, self._zero_point = sink["quantization"]

    def run(self, picture: Picture) -> Outputs:
        """One inference; see `edgecnn_runtime.backends.Backend.run`."""
        pixels = picture.astype(self._dtype, copy=False) if self._table is None else self._table[picture]
        try:
            self._interpreter.set_tensor(self._input, pixels[np.newaxis])
            self._interpreter.invoke()
            output = self._interpreter.get_tensor(self._output).reshape(-1).astype(np.float32)
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"the TFLite engine failed: {first_line(error)}") from error
        if self._scale:
            output = (output - np.float32(self._zero_point)) * np.float32(self._scale)
        return np.asarray(output, np.float32)

    def operators(self) -> list[dict[str, Any]]:
        """The engine's own list, delegates at its end: index, op_name, inputs and outputs as numbers of tensors."""
        return list(self._interpreter._get_ops_details())


def _pixel_table(dtype: type, quantization: tuple[float, int], scaling: Scaling) -> Any:
    """``(256,)``: what the engine gets for each pixel value; None where that is the pixel value itself."""
    values = scaling.table()
    if dtype in (np.uint8, np.int8):
        scale, zero_point = quantization
        if scale <= 0:
            raise ModelError("the model's input is quantized without a scale; export it again")
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max)
    elif dtype is not np.float32:
        raise ModelError(f"the model's input has type {dtype.__name__}; float32, uint8 and int8 are supported")
    table = values.astype(dtype)
    return None if (table == np.arange(256)).all() else table
