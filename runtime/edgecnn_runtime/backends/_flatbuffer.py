"""Bounds checks for TFLite flatbuffers: engines read them without looking.

Field numbers and types are those of the public schema (tensorflow/lite/schema/schema.fbs, version 3).
"""

from __future__ import annotations

import math
import struct

from edgecnn_runtime.errors import ModelError

_CUSTOM_OPERATOR = 32
# TensorType: bytes per element; what a classifier has no use for (strings, resources, variants) is refused.
_ELEMENT_BYTES = {0: 4, 1: 2, 2: 4, 3: 1, 4: 8, 6: 1, 7: 2, 9: 1, 10: 8, 15: 4, 16: 2}
_MAX_TENSOR_BYTES = 2**31


def check_tflite(data: bytes) -> None:
    """Walks model, subgraph, tensors, operators and buffers of a .tflite graph.

    Raises:
        ModelError: a reference leads outside the data, an index names nothing, a constant's size differs from its
            shape, an operator is not built in, or there is not one subgraph with one input and one output.
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


def _check(data: bytes) -> None:
    if len(data) < 16 or data[4:8] != b"TFL3":
        raise ModelError("not a TFLite model")
    model = _Table(data, struct.unpack_from("<I", data, 0)[0])
    if model.scalar(0, "<I") != 3:
        raise _damaged("unknown schema version")
    sizes = [_buffer_bytes(buffer) for buffer in model.tables(4)]
    codes = model.tables(1)
    for code in codes:
        code.vector(1, 1)
        # The operator's number is the larger of the old 8-bit field and the new one (schema.fbs).
        if max(code.scalar(0, "<b"), code.scalar(3, "<i")) == _CUSTOM_OPERATOR:
            raise ModelError("the model needs a custom or Flex operator; only built-in operators are run")
    for entry in model.tables(6):
        entry.vector(0, 1)
        if not 0 <= entry.scalar(1, "<I") < len(sizes):
            raise _damaged("metadata names no buffer")
    subgraphs = model.tables(2)
    if len(subgraphs) != 1:
        raise ModelError(f"a classifier has one graph (received: {len(subgraphs)})")
    _check_subgraph(subgraphs[0], sizes, len(codes))


def _buffer_bytes(buffer: _Table) -> int:
    if buffer.scalar(1, "<Q") > 1:
        raise ModelError("the model keeps its weights outside the flatbuffer, which is not supported")
    return buffer.vector(0, 1)[1]


def _check_subgraph(graph: _Table, sizes: list[int], codes: int) -> None:
    tensors = graph.tables(0)
    for tensor in tensors:
        _check_tensor(tensor, sizes)
    inputs, outputs = graph.integers(1), graph.integers(2)
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(f"a classifier has one input and one output (received: {len(inputs)} and {len(outputs)})")
    graph.vector(4, 1)
    used = list(inputs) + list(outputs)
    for operator in graph.tables(3):
        if not 0 <= operator.scalar(0, "<I") < codes:
            raise _damaged("an operator has no code")
        reads = operator.integers(1)
        if not reads:
            raise _damaged("an operator without inputs")
        used += [index for index in reads if index != -1] + list(operator.integers(2))
        operator.table(4)
        for field, item_bytes in ((5, 1), (7, 1), (8, 4)):
            operator.vector(field, item_bytes)
    if any(not 0 <= index < len(tensors) for index in used):
        raise _damaged("an operator uses a tensor that does not exist")


def _check_tensor(tensor: _Table, sizes: list[int]) -> None:
    shape, kind, buffer = tensor.integers(0), tensor.scalar(1, "<b"), tensor.scalar(2, "<I")
    tensor.vector(3, 1)
    if kind not in _ELEMENT_BYTES:
        raise ModelError(f"the model has a tensor of a type that is not supported (TensorType {kind})")
    if not 0 <= buffer < len(sizes) or any(side < 0 for side in shape):
        raise _damaged("a tensor without buffer or with a negative size")
    expected = math.prod(shape) * _ELEMENT_BYTES[kind]
    if expected > _MAX_TENSOR_BYTES or (sizes[buffer] and sizes[buffer] != expected):
        raise _damaged("a tensor's size differs from its data")
    tensor.vector(7, 4)
    if quantization := tensor.table(4):
        counts = [quantization.vector(field, item)[1] for field, item in ((0, 4), (1, 4), (2, 4), (3, 8))]
        dimension = quantization.scalar(6, "<i")
        if counts[2] != counts[3] or (
            counts[2] > 1 and (not 0 <= dimension < len(shape) or shape[dimension] != counts[2])
        ):
            raise _damaged("a tensor's quantization does not fit its shape")
