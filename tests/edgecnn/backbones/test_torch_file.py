"""The reader of legacy torch files: reads tensors, refuses everything else, executes nothing."""

from __future__ import annotations

import random
import struct
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecnn.backbones._torch_file import read_tensors
from edgecnn_runtime.errors import ModelError

_HEADER = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}(X\x0d\x00\x00\x00little_endian\x88u."
_REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
_EMPTY = b"ccollections\nOrderedDict\n)R"


def _text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _tuple(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def _number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _storage(key: str, count: int, kind: str = "FloatStorage") -> bytes:
    described = _tuple(_text("storage"), f"ctorch\n{kind}\n".encode(), _text(key), _text("cpu"), _number(count), b"N")
    return described + b"Q"


def _tensor(storage: bytes, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> bytes:
    sizes = _tuple(*map(_number, shape)), _tuple(*map(_number, strides))
    return _REBUILD + _tuple(storage, _number(offset), *sizes, b"\x89", _EMPTY) + b"R"


def _file(entries: dict[str, bytes], storages: dict[str, np.ndarray]) -> bytes:
    items = b"".join(_text(name) + tensor for name, tensor in entries.items())
    keys = b"\x80\x02](" + b"".join(map(_text, storages)) + b"e."
    values = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in storages.values())
    return _HEADER + b"\x80\x02" + _EMPTY + b"(" + items + b"u." + keys + values


def _torch_file(tensors: dict[str, np.ndarray]) -> bytes:
    """A legacy torch file with these contiguous float32 and int64 tensors."""
    entries = {}
    for name, array in tensors.items():
        strides = tuple(stride // array.itemsize for stride in array.strides)
        kind = "LongStorage" if array.dtype == np.int64 else "FloatStorage"
        entries[name] = _tensor(_storage(name, array.size, kind), array.shape, strides)
    return _file(entries, dict(tensors))


@pytest.fixture
def good() -> bytes:
    floats = np.arange(6, dtype=np.float32).reshape(2, 3)
    return _torch_file({"a.weight": floats, "count": np.array(5, np.int64)})


def _read(tmp_path, content: bytes) -> dict[str, np.ndarray]:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    return read_tensors(path)


def test_reads_floats_and_integers(tmp_path, good):
    tensors = _read(tmp_path, good)
    np.testing.assert_array_equal(tensors["a.weight"], np.arange(6, dtype=np.float32).reshape(2, 3))
    assert tensors["count"] == 5


def test_reads_strides_and_offsets(tmp_path):
    values = np.arange(7, dtype=np.float32)
    content = _file({"t": _tensor(_storage("k", 7), (3, 2), (1, 3), offset=1)}, {"k": values})
    np.testing.assert_array_equal(_read(tmp_path, content)["t"], values[1:].reshape(2, 3).T)


def test_every_truncation_is_refused(tmp_path, good):
    for length in range(len(good)):
        with pytest.raises(ModelError) as caught:
            _read(tmp_path, good[:length])
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError):
        _read(tmp_path, good + b"\0")


def test_flipped_bytes_give_arrays_or_one_line(tmp_path, good):
    choose = random.Random(1)
    for position in range(len(good)):
        for value in {0, 255, ord("R"), good[position] ^ 1, choose.randrange(256)}:
            _arrays_or_error(tmp_path, good[:position] + bytes([value]) + good[position + 1 :])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 500), removed=st.integers(0, 40), added=st.binary(max_size=40))
def test_spliced_files_give_arrays_or_one_line(tmp_path, good, position, removed, added):
    position %= len(good)
    _arrays_or_error(tmp_path, good[:position] + added + good[position + removed :])


def _arrays_or_error(tmp_path, content: bytes) -> None:
    try:
        tensors = _read(tmp_path, content)
    except ModelError:
        return
    assert all(isinstance(array, np.ndarray) and array.nbytes <= len(content) for array in tensors.values())


_HUGE = struct.pack("<Q", 1 << 60)
_HOSTILE = {
    "os.system": b"cos\nsystem\n" + _tuple(_text("touch {canary}")) + b"R.",
    "posix by another name": b"cposix\nsystem\n" + _tuple(_text("touch {canary}")) + b"R.",
    "eval": b"cbuiltins\neval\n" + _tuple(_text("open('{canary}', 'w')")) + b"R.",
    "attribute of an allowed module": b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
    "stack global": _text("os") + _text("system") + b"\x93" + _tuple(_text("touch {canary}")) + b"R.",
    "instance": b"(" + _text("touch {canary}") + b"ios\nsystem\n.",
    "object": b"(cos\nsystem\n" + _text("touch {canary}") + b"o.",
    "new object": b"cos\nsystem\n" + _tuple(_text("touch {canary}")) + b"\x81.",
    "extension": b"\x82\x01.",
    "text persistent id": b"Pos.system\n.",
    "call of a call": _EMPTY + b")R.",
    "build on a global": _REBUILD + b"}b.",
    "huge memo index": b"}r\xff\xff\xff\xff.",
    "huge text": b"X\xff\xff\xff\xff.",
    "huge text 8": b"\x8d" + _HUGE + b".",
    "huge bytes": b"\x8e" + _HUGE + b".",
    "huge bytearray": b"\x96" + _HUGE + b".",
    "huge integer": b"\x8b\xff\xff\xff\x7f.",
    "huge frame": b"\x95" + _HUGE + b".",
    "many marks": b"(" * 200_000 + b".",
    "deep tuples": b")" + b"\x85" * 200_000 + b".",
    # Its hash would take 2^200 steps.
    "hash bomb as key": b"})q\x00" + b"h\x00h\x00\x86q\x00" * 200 + b"0}h\x00Ns.",
    "empty stack": b"R.",
    "mark missing": b"t.",
    "own member": b"}q\x00" + _text("a") + b"h\x00s.",
}


@pytest.mark.parametrize("attack", _HOSTILE)
def test_hostile_pickles_are_refused_and_never_run(attack, tmp_path):
    canary = tmp_path / "canary"
    pickle = b"\x80\x02" + _HOSTILE[attack].replace(b"{canary}", str(canary).encode())
    start = time.process_time()
    # In the dictionary's place, and at the very start.
    for content in (_HEADER + pickle + b"\x80\x02].", pickle):
        with pytest.raises(ModelError) as caught:
            _read(tmp_path, content)
        assert "\n" not in str(caught.value)
    assert time.process_time() - start < 20, "reading takes ever longer for a file of this size"
    assert not canary.exists()


@pytest.mark.parametrize(
    "tensor",
    [
        _tensor(_storage("k", 4), (1 << 30, 1 << 30), (0, 0)),
        _tensor(_storage("k", 4), (2, 2), (3, 1)),
        _tensor(_storage("k", 4), (2, 2), (2, 1), offset=1),
        _tensor(_storage("k", 4), (2, 2), (-2, 1)),
        _tensor(_storage("k", 4), (2, -2), (2, 1)),
        _tensor(_storage("k", 4), (2, 0), (2, 1)),
        _tensor(_storage("k", 4), (2, 2), (2,)),
        _tensor(_storage("k", 2_000_000_000), (2, 2), (2, 1)),
        _tensor(_storage("k", -4), (2, 2), (2, 1)),
        _tensor(_storage("k", 4, "LongStorage"), (2, 2), (2, 1)),
        _tensor(_storage("k", 4, "HalfStorage"), (2, 2), (2, 1)),
        _tensor(_storage("other", 4), (2, 2), (2, 1)),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tensor, tmp_path):
    with pytest.raises(ModelError, match=r"weights\.pth: not a legacy torch file"):
        _read(tmp_path, _file({"t": tensor}, {"k": np.zeros(4, np.float32)}))


def test_values_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(ModelError, match="not finite"):
        _read(tmp_path, _torch_file({"a": np.array([1, np.nan], np.float32)}))


def test_new_torch_format_and_absent_file_say_what_to_do(tmp_path):
    with pytest.raises(ModelError, match="_use_new_zipfile_serialization=False"):
        _read(tmp_path, b"PK\x03\x04" + b"\0" * 60)
    with pytest.raises(ModelError, match="cannot be read"):
        read_tensors(tmp_path / "absent.pth")
