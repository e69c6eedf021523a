"""Bounds checks for TFLite flatbuffers: engines read them without looking.

Field numbers and types are those of the public schema (tensorflow/lite/schema/schema.fbs, version 3).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from edgecnn_runtime.backends._tflite_operators import (
    BINARY,
    CONVERSIONS,
    DATA_INPUT,
    ELEMENTWISE,
    MOVES,
    OPERATORS,
    PRODUCTS,
    SPLITS,
    STRIDED_OPTIONS,
    VECTOR_OPTIONS,
)
from edgecnn_runtime.errors import ModelError

_CUSTOM_OPERATOR = 32
# TensorType: bytes per element; what a classifier has no use for (strings, resources, variants) is refused.
_ELEMENT_BYTES = {0: 4, 1: 2, 2: 4, 3: 1, 4: 8, 6: 1, 7: 2, 9: 1, 10: 8, 15: 4, 16: 2}
_MAX_TENSOR_BYTES = 2**31
_MAX_DIMENSIONS = 8
# TensorType of quantized numbers: the limits of a zero point.
_ZERO_POINTS = {2: (0, 0), 3: (0, 255), 4: (0, 0), 7: (-(2**15), 2**15 - 1), 9: (-128, 127)}
_EIGHT_BITS = (3, 9)
_SMALLEST_SCALE = 2.0**-126  # smaller floats are not normal, and what is divided by them overflows
_LARGEST_RESCALING = 2.0**18  # engines abort where an input's step is 2^19 steps of the output


def check_tflite(data: bytes) -> None:
    """Walks model, subgraph, tensors, operators and buffers of a .tflite graph.

    Raises:
        ModelError: a reference leads outside the data, an index names nothing, a constant's size differs from its
            shape, a quantization makes no sense, an operator is not built in, lacks inputs or options or reads what is
            not yet computed, or there is not one subgraph with one input and one output.
    """
    try:
        _check(data)
    except (struct.error, IndexError, OverflowError, RecursionError) as error:
        raise _damaged() from error


def _damaged(what: str = "a reference leads outside the file") -> ModelError:
    return ModelError(f"the model is damaged ({what}); export it again")


class _Table:
    """A flatbuffer table whose extent and field offsets were checked."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position
        vtable = position - self._read("<i", position)
        self._vtable_size = self._read("<H", vtable)
        table_size = self._read("<H", vtable + 2)
        if self._vtable_size < 4 or vtable + self._vtable_size > len(data) or position + table_size > len(data):
            raise _damaged()
        self._offsets = [self._read("<H", vtable + 4 + 2 * i) for i in range((self._vtable_size - 4) // 2)]
        if any(offset >= table_size for offset in self._offsets if offset):
            raise _damaged()

    def _read(self, kind: str, position: int) -> int:
        if position < 0:
            raise _damaged()
        return int(struct.unpack_from(kind, self.data, position)[0])

    def scalar(self, field: int, kind: str, default: int = 0) -> int:
        offset = self._offsets[field] if field < len(self._offsets) else 0
        return self._read(kind, self.position + offset) if offset else default

    def target(self, field: int) -> int | None:
        offset = self._offsets[field] if field < len(self._offsets) else 0
        if not offset:
            return None
        return self.position + offset + self._read("<I", self.position + offset)

    def table(self, field: int) -> _Table | None:
        target = self.target(field)
        return None if target is None else _Table(self.data, target)

    def vector(self, field: int, item_bytes: int) -> tuple[int, int]:
        """(position of the first item, how many); (0, 0) when absent."""
        target = self.target(field)
        if target is None:
            return 0, 0
        count = self._read("<I", target)
        if target + 4 + count * item_bytes > len(self.data):
            raise _damaged()
        return target + 4, count

    def integers(self, field: int) -> tuple[int, ...]:
        start, count = self.vector(field, 4)
        return struct.unpack_from(f"<{count}i", self.data, start) if count else ()

    def tables(self, field: int) -> list[_Table]:
        start, count = self.vector(field, 4)
        places = [start + 4 * i for i in range(count)]
        return [_Table(self.data, place + self._read("<I", place)) for place in places]


@dataclass(frozen=True)
class _Tensor:
    """`scales` are the smallest and the largest one, None where the tensor is not quantized."""

    kind: int
    elements: int
    constant: bool
    scales: tuple[float, float] | None


def _check(data: bytes) -> None:
    if len(data) < 16 or data[4:8] != b"TFL3":
        raise ModelError("not a TFLite model")
    model = _Table(data, struct.unpack_from("<I", data, 0)[0])
    if model.scalar(0, "<I") != 3:
        raise _damaged("unknown schema version")
    sizes = [_buffer_bytes(buffer) for buffer in model.tables(4)]
    codes = [_operator_code(code) for code in model.tables(1)]
    for entry in model.tables(6):
        entry.vector(0, 1)
        if not 0 <= entry.scalar(1, "<I") < len(sizes):
            raise _damaged("metadata names no buffer")
    subgraphs = model.tables(2)
    if len(subgraphs) != 1:
        raise ModelError(f"a classifier has one graph (received: {len(subgraphs)})")
    _check_subgraph(subgraphs[0], sizes, codes)


def _buffer_bytes(buffer: _Table) -> int:
    if buffer.scalar(1, "<Q") > 1:
        raise ModelError("the model keeps its weights outside the flatbuffer, which is not supported")
    return buffer.vector(0, 1)[1]


def _operator_code(entry: _Table) -> int:
    entry.vector(1, 1)
    # The operator's number is the larger of the old 8-bit field and the new one (schema.fbs).
    code = max(entry.scalar(0, "<b"), entry.scalar(3, "<i"))
    if code == _CUSTOM_OPERATOR:
        raise ModelError("the model needs a custom or Flex operator; only built-in operators are run")
    if code not in OPERATORS:
        raise ModelError(f"the model needs operator number {code}, which is not among those of image classifiers")
    return code


def _check_subgraph(graph: _Table, sizes: list[int], codes: list[int]) -> None:
    tensors = [_check_tensor(tensor, sizes) for tensor in graph.tables(0)]
    inputs, outputs = graph.integers(1), graph.integers(2)
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(f"a classifier has one input and one output (received: {len(inputs)} and {len(outputs)})")
    graph.vector(4, 1)
    if any(not 0 <= index < len(tensors) for index in inputs + outputs):
        raise _damaged("the input or output is a tensor that does not exist")
    settled = {index for index, tensor in enumerate(tensors) if tensor.constant} | set(inputs)
    for operator in graph.tables(3):
        if not 0 <= (number := operator.scalar(0, "<I")) < len(codes):
            raise _damaged("an operator has no code")
        reads = _check_operator(operator, codes[number], tensors)
        settled.update(reads)
        writes = operator.integers(2)
        # Engines plan memory for graphs in which every tensor is written once, before it is read.
        if not writes or len(set(writes)) != len(writes) or settled.intersection(writes):
            raise _damaged("operators overwrite each other's results")
        settled.update(writes)


def _check_operator(operator: _Table, code: int, tensors: list[_Tensor]) -> list[int]:
    """Checks an operator by itself; the tensors that it reads."""
    needed, options = OPERATORS[code]
    reads, writes = operator.integers(1), operator.integers(2)
    if len(reads) < needed or -1 in reads[:needed]:
        raise _damaged("an operator lacks inputs")
    given = [index for index in reads if index != -1]
    if any(not 0 <= index < len(tensors) for index in (*given, *writes)):
        raise _damaged("an operator uses a tensor that does not exist")
    kind, table = operator.scalar(3, "<B"), operator.table(4)
    if options and (kind != options or table is None):
        raise _damaged("an operator lacks its options")
    if table is not None:
        _check_options(table, kind, code, len(writes))
    if operator.scalar(11, "<B"):
        raise ModelError("the model needs StableHLO operators, which are not supported")
    for field, item_bytes in ((5, 1), (7, 1), (8, 4)):
        operator.vector(field, item_bytes)
    source = reads[DATA_INPUT.get(code, 0)]
    for written in (tensors[index] for index in writes):
        if code not in CONVERSIONS and written.kind != tensors[source].kind:
            raise _damaged("an operator's result has another type than its data")
        if code in ELEMENTWISE and written.elements != tensors[source].elements:
            raise _damaged("an operator's result has another size than its data")
        if code in BINARY and any(
            tensors[index].kind != written.kind or tensors[index].elements > written.elements for index in given
        ):
            raise _damaged("an operator's two inputs do not fit its result")
        if written.kind in _EIGHT_BITS and code not in MOVES:
            _check_rescaling(code, [tensors[index] for index in given], written)
    return given


def _check_options(table: _Table, kind: int, code: int, outputs: int) -> None:
    if kind in VECTOR_OPTIONS:
        table.vector(0, 4)
    if kind in STRIDED_OPTIONS and min(table.scalar(1, "<i"), table.scalar(2, "<i")) < 1:
        raise _damaged("an operator has no stride")
    if code in SPLITS and table.scalar(0, "<i") != outputs:
        raise _damaged("an operator states another number of outputs than it has")


def _check_rescaling(code: int, reads: list[_Tensor], written: _Tensor) -> None:
    steps = [tensor.scales[1] for tensor in reads if tensor.scales and tensor.kind in _ZERO_POINTS]
    if written.scales is None or any(t.scales is None for t in reads if t.kind in _EIGHT_BITS):
        raise _damaged("an operator on 8-bit numbers lacks a scale")
    largest = math.prod(steps[:2]) if code in PRODUCTS else max(steps, default=0.0)
    if largest > _LARGEST_RESCALING * written.scales[0]:
        raise _damaged("the scales of an operator do not fit each other")


def _check_tensor(tensor: _Table, sizes: list[int]) -> _Tensor:
    shape, kind, buffer = tensor.integers(0), tensor.scalar(1, "<b"), tensor.scalar(2, "<I")
    tensor.vector(3, 1)
    if kind not in _ELEMENT_BYTES:
        raise ModelError(f"the model has a tensor of a type that is not supported (TensorType {kind})")
    if not 0 <= buffer < len(sizes) or len(shape) > _MAX_DIMENSIONS or any(side < 0 for side in shape):
        raise _damaged("a tensor without buffer or with an impossible shape")
    expected = math.prod(shape) * _ELEMENT_BYTES[kind]
    if expected > _MAX_TENSOR_BYTES or (sizes[buffer] and sizes[buffer] != expected):
        raise _damaged("a tensor's size differs from its data")
    tensor.vector(7, 4)
    quantization = tensor.table(4)
    scales = None if quantization is None else _check_quantization(quantization, shape, kind)
    return _Tensor(kind, math.prod(shape), bool(sizes[buffer]), scales)


def _check_quantization(table: _Table, shape: tuple[int, ...], kind: int) -> tuple[float, float] | None:
    for field in (0, 1):
        table.vector(field, 4)
    (start, count), (zeros, zero_count) = table.vector(2, 4), table.vector(3, 8)
    dimension = table.scalar(6, "<i")
    if count != zero_count or (count > 1 and (not 0 <= dimension < len(shape) or shape[dimension] != count)):
        raise _damaged("a tensor's quantization does not fit its shape")
    if not count or kind not in _ZERO_POINTS:
        return None
    scales = struct.unpack_from(f"<{count}f", table.data, start)
    low, high = _ZERO_POINTS[kind]
    if not all(_SMALLEST_SCALE <= scale < math.inf for scale in scales) or not all(
        low <= zero <= high for zero in struct.unpack_from(f"<{count}q", table.data, zeros)
    ):
        raise _damaged("a tensor's scale or zero point is impossible")
    return min(scales), max(scales)
