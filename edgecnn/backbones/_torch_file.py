"""Reads the tensors of a legacy torch file (`torch.save` before version 1.6) without torch and without unpickling.

The file is four pickles (magic number, protocol, system, the dictionary of tensors), a fifth with the storages' keys in
order, and then every storage: its element count as int64 and its raw values. The pickle opcodes are interpreted here as
plain data: the few names below stand for themselves, nothing is imported or called, anything else is refused.
"""

from __future__ import annotations

import io
import math
import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn_runtime.errors import ModelError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_MAX_BYTES = 1 << 30
_STORAGES: dict[str, np.dtype[Any]] = {"torch FloatStorage": np.dtype("<f4"), "torch LongStorage": np.dtype("<i8")}
_ORDERED_DICT = "collections OrderedDict"
_REBUILD = "torch._utils _rebuild_tensor"
_REBUILD_V2 = "torch._utils _rebuild_tensor_v2"
_REBUILD_PARAMETER = "torch._utils _rebuild_parameter"
_GLOBALS = {_ORDERED_DICT, _REBUILD, _REBUILD_V2, _REBUILD_PARAMETER, *_STORAGES}

_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_CONTAINERS: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
_TUPLES = {"TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}  # length; 0: down to the mark


class _RefusedError(ValueError):
    """The file holds something that a file of tensors does not need."""


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_tensors(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors of a legacy torch file, by name, as read-only float32 and int64 arrays; floats are finite.

    Raises:
        ModelError: the file is missing, truncated or altered, is no such file, or holds anything but tensors.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise _RefusedError("it is larger than 1 GiB")
        return _parse(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, LookupError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"{path}: not a legacy torch file of tensors ({reason}); get a fresh copy of it") from error


def _parse(data: bytes) -> dict[str, np.ndarray[Any, Any]]:
    if data.startswith(b"PK"):
        raise _RefusedError("it has torch's zip format; save it with _use_new_zipfile_serialization=False")
    stream = io.BytesIO(data)
    if (_interpret(stream), _interpret(stream)) != (_MAGIC, _PROTOCOL):
        raise _RefusedError("magic number or protocol differ")
    system = _interpret(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _RefusedError("it is not little-endian")
    tensors = _interpret(stream)
    if not isinstance(tensors, dict) or {type(tensor) for tensor in tensors.values()} != {_Tensor}:
        raise _RefusedError("it does not hold one dictionary of tensors")
    keys = _interpret(stream)
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if not isinstance(keys, list) or len(keys) != len(storages) or set(keys) != set(storages):
        raise _RefusedError("its storages do not match its tensors")
    values = _read_storages(data, stream.tell(), [storages[key] for key in keys])
    return {name: _view(tensor, values[tensor.storage]) for name, tensor in tensors.items()}


def _read_storages(data: bytes, position: int, storages: list[_Storage]) -> dict[_Storage, np.ndarray[Any, Any]]:
    values = {}
    for storage in storages:
        size = storage.count * storage.dtype.itemsize
        stated = int.from_bytes(data[position : position + 8], "little")
        position += 8
        if stated != storage.count or position + size > len(data):
            raise _RefusedError("a storage's size differs from what the file holds")
        array = np.frombuffer(data, storage.dtype, storage.count, position)
        if not np.isfinite(array).all():
            raise _RefusedError("a value is not finite")
        values[storage] = array
        position += size
    if position != len(data):
        raise _RefusedError("bytes follow the last storage")
    return values


def _view(tensor: _Tensor, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    last = tensor.offset + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
    # The element count bounds memory too: a stride of 0 could make a small file look like a huge tensor.
    if not 0 < math.prod(tensor.shape) <= values.size or last >= values.size:
        raise _RefusedError("a tensor reaches beyond its storage")
    strides = [stride * values.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides, writeable=False)


def _interpret(stream: io.BytesIO) -> Any:
    """Interpret one pickle as data. An opcode pushes at most one object, so memory stays in proportion to the file."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}

    def pop(count: int) -> list[Any]:
        if not 0 <= count <= len(stack):
            raise _RefusedError("a value is missing")
        taken = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        return taken

    for opcode, argument, _ in pickletools.genops(stream):
        name = opcode.name
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _CONTAINERS:
            stack.append(_CONTAINERS[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        elif name in _TUPLES:
            stack.append(tuple(pop(_TUPLES[name] or len(stack) - marks.pop())))
        elif name in ("SETITEM", "SETITEMS"):
            items = pop(2 if name == "SETITEM" else len(stack) - marks.pop())
            _set_items(stack[-1], items)
        elif name in ("APPEND", "APPENDS"):
            items = pop(1 if name == "APPEND" else len(stack) - marks.pop())
            _append(stack[-1], items)
        elif name == "GLOBAL":
            stack.append(_global(argument))
        elif name == "BINPERSID":
            stack.append(_storage(*pop(1)))
        elif name == "REDUCE":
            stack.append(_rebuild(*pop(2)))
        elif name == "BUILD":
            pop(1)  # the version numbers of torch's modules, which torch hangs on the dictionary
        elif name == "STOP":
            return stack.pop()
        elif name != "PROTO":
            raise _RefusedError(f"the pickle opcode {name} is not allowed")
    raise _RefusedError("a pickle has no end")


def _set_items(target: Any, items: list[Any]) -> None:
    # Names only: the hash of a nested tuple could take exponential time.
    if not isinstance(target, dict) or len(items) % 2 or not all(isinstance(key, str) for key in items[::2]):
        raise _RefusedError("a dictionary is not keyed by names")
    target.update(zip(items[::2], items[1::2], strict=True))


def _append(target: Any, items: list[Any]) -> None:
    if not isinstance(target, list) or not all(isinstance(item, str) for item in items):
        raise _RefusedError("a list does not hold names")
    target += items


def _global(name: Any) -> _Global:
    if name not in _GLOBALS:
        raise _RefusedError(f"the name {name!r} is not allowed")
    return _Global(name)


def _storage(description: Any) -> _Storage:
    match description:
        case ("storage", _Global() as kind, str(key), str(_), int(count), None) if kind.name in _STORAGES and count > 0:
            return _Storage(key, _STORAGES[kind.name], count)
    raise _RefusedError("a storage is described wrongly")


def _rebuild(function: Any, arguments: Any) -> Any:
    match function, arguments:
        case _Global(name=name), () if name == _ORDERED_DICT:
            return {}
        case _Global(name=name), (_Tensor() as tensor, _, _) if name == _REBUILD_PARAMETER:
            return tensor
        case _Global(name=name), (_Storage() as storage, offset, shape, strides, *_) if name in (_REBUILD, _REBUILD_V2):
            if all(isinstance(sizes, tuple) and len(sizes) <= 8 for sizes in (shape, strides)):
                numbers = (offset, *shape, *strides)
                if len(shape) == len(strides) and all(type(number) is int and number >= 0 for number in numbers):
                    return _Tensor(storage, offset, shape, strides)
    raise _RefusedError("a call is not one that rebuilds a tensor")
