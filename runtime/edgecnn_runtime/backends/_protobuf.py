"""The few fields of an ONNX file that must be known before an engine sees it, read with the standard library.

Field numbers are those of the public onnx.proto; the wire format is documented with Protocol Buffers.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgecnn_runtime.errors import ModelError

Field = tuple[int, int, int, int]  # number, first byte of the record, first byte of the value, end

_MODEL_GRAPH, _MODEL_METADATA, _MODEL_FUNCTIONS = 7, 14, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14
_NODE_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_MAX_DEPTH = 8
# onnxruntime's own operators that its quantizer and optimizer write; all live inside the engine.
_DOMAINS = (b"", b"ai.onnx", b"com.microsoft")


def fields(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """The records of a message. Raises ModelError where one leads outside it."""
    end = len(data) if end is None else end
    position = start
    while position < end:
        record = position
        key, position = _varint(data, position, end)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value = position
            _, position = _varint(data, position, end)
        elif wire in (1, 5):
            value, position = position, position + (8 if wire == 1 else 4)
        elif wire == 2:
            length, value = _varint(data, position, end)
            position = value + length
        else:
            raise ModelError("the ONNX model is damaged; export it again")
        if position > end or number == 0:
            raise ModelError("the ONNX model is damaged (a record leads outside the file); export it again")
        yield number, record, value, position


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ModelError("the ONNX model is damaged (a number leads outside the file); export it again")


def split_metadata(data: bytes, key: bytes) -> tuple[bytes, bytes | None]:
    """Takes the `metadata_props` entry named `key` out of a model: (the other bytes, its value or None)."""
    kept: list[bytes] = []
    found = None
    for number, record, value, end in fields(data):
        if number == _MODEL_METADATA:
            entry = {n: data[v:e] for n, _, v, e in fields(data, value, end)}
            if entry.get(1) == key:
                if found is not None:
                    raise ModelError("the ONNX model has two contracts; export it again")
                found = entry.get(2, b"")
                continue
        kept.append(data[record:end])
    return b"".join(kept), found


def metadata_record(key: bytes, value: bytes) -> bytes:
    """One `metadata_props` entry: appended to a serialized model it becomes part of it (messages concatenate)."""
    entry = b"".join(_delimited(number, item) for number, item in ((1, key), (2, value)))
    return _delimited(_MODEL_METADATA, entry)


def _delimited(number: int, payload: bytes) -> bytes:
    length, encoded = len(payload), bytearray()
    while True:
        encoded.append((length & 0x7F) | (0x80 if length > 0x7F else 0))
        length >>= 7
        if not length:
            return bytes([number << 3 | 2]) + bytes(encoded) + payload


def check_onnx(data: bytes) -> None:
    """Raises ModelError where records are damaged, weights lie in other files, or an operator is not built in."""
    graphs = [(value, end) for number, _, value, end in fields(data) if number == _MODEL_GRAPH]
    if len(graphs) != 1:
        raise ModelError("not an ONNX model: it has no graph")
    if any(number == _MODEL_FUNCTIONS for number, _, _, _ in fields(data)):
        raise ModelError("the ONNX model brings functions of its own, which are not supported")
    _check_graph(data, *graphs[0], depth=0)


def operators(data: bytes) -> list[str]:
    """The types of the graph's nodes, in their order."""
    graphs = [(value, end) for number, _, value, end in fields(data) if number == _MODEL_GRAPH]
    nodes = [(v, e) for start, end in graphs for number, _, v, e in fields(data, start, end) if number == _GRAPH_NODE]
    kinds = [data[v:e] for start, end in nodes for number, _, v, e in fields(data, start, end) if number == _NODE_TYPE]
    return [kind.decode("utf-8", "replace") for kind in kinds]


def _check_graph(data: bytes, start: int, end: int, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ModelError("the ONNX model nests graphs too deeply")
    for number, _, value, stop in fields(data, start, end):
        if number == _GRAPH_INITIALIZER:
            _check_tensor(data, value, stop)
        elif number == _GRAPH_SPARSE:
            raise ModelError("the ONNX model has sparse weights, which are not supported")
        elif number == _GRAPH_NODE:
            _check_node(data, value, stop, depth)


def _check_node(data: bytes, start: int, end: int, depth: int) -> None:
    for number, _, value, stop in fields(data, start, end):
        if number == _NODE_DOMAIN and data[value:stop] not in _DOMAINS:
            raise ModelError(f"the ONNX model needs operators of {data[value:stop][:40]!r}; only built-in ones are run")
        if number != _NODE_ATTRIBUTE:
            continue
        for kind, _, item, item_end in fields(data, value, stop):
            if kind in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                _check_tensor(data, item, item_end)
            elif kind in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                _check_graph(data, item, item_end, depth + 1)


def _check_tensor(data: bytes, start: int, end: int) -> None:
    for number, _, value, _ in fields(data, start, end):
        if number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_DATA_LOCATION and data[value] != 0):
            raise ModelError("the ONNX model keeps weights in another file, which is not supported")
