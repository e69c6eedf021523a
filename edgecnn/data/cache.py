"""Pictures decoded once, into memory-mapped arrays that later runs and other processes share.

An entry is one file: the pixels, an index in JSON (position -> why that file is left out), the index's length in eight
bytes. It is written to a temporary file beside and renamed, so it is whole or absent, and two writers do no harm.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgecnn_runtime import decode, preprocess
from edgecnn_runtime.contract import Preprocessing
from edgecnn_runtime.decode import Picture
from edgecnn_runtime.errors import EdgecnnError, PictureError

CACHE_VERSION = 1
CACHE_LIMIT_BYTES = 4 * 10**9
_CHUNK = 64  # bounds the decoded pictures that wait to be written
_TEMPORARY = ".tmp-"
_TEMPORARY_AGE_S = 86_400

_Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DecodedPictures:
    """Preprocessed pictures, in the order of the paths.

    Attributes:
        pictures: ``(N, H, W, 3)`` uint8, RGB, 0-255, read-only; a memory map, or an array where no cache can be kept.
        readable: index of each picture among the paths.
        unreadable: index among the paths and one line why, for each file that is left out.
        hashes: SHA-256 (hex) of each readable file's bytes.
    """

    pictures: Picture
    readable: tuple[int, ...]
    unreadable: tuple[tuple[int, str], ...]
    hashes: tuple[str, ...]


class _ChangedError(Exception):
    """A file is no longer what was hashed."""


@dataclass(frozen=True)
class _Job:
    paths: list[Path]
    hashes: list[str]
    preprocessing: Preprocessing
    height: int
    width: int
    progress: _Progress | None

    def key(self) -> str:
        parts = {
            "version": CACHE_VERSION,
            # Decoders differ by OpenCV version, pixels by the code that computes them.
            "opencv": cv2.__version__,
            "code": [inspect.getsource(module) for module in (decode, preprocess)],
            "preprocessing": asdict(self.preprocessing),
            "size": [self.height, self.width],
            "files": self.hashes,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def decode_all(self) -> Generator[Picture | str, None, None]:
        """For each file the picture, ``(height, width, 3)``, or one line why it is left out."""
        # OpenCV's own threads stay as they are: their number is process-wide, and they cost busy workers nothing.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(self.paths), _CHUNK):
                part = slice(start, start + _CHUNK)
                for done, result in enumerate(pool.map(self._decode, self.paths[part], self.hashes[part]), start + 1):
                    yield result
                    if self.progress:
                        self.progress(done, len(self.paths))

    def _decode(self, path: Path, expected_hash: str) -> Picture | str:
        try:
            data = decode.read_bytes(path)
        except PictureError as error:
            raise _ChangedError from error
        if hashlib.sha256(data).hexdigest() != expected_hash:
            raise _ChangedError
        try:
            picture = decode.decode(data, str(path))
        except PictureError as error:
            return str(error).removeprefix(f"{path}: ")  # the entry is about contents; they may lie elsewhere next time
        return preprocess.preprocess(picture, self.preprocessing, self.height, self.width)


def decode_pictures(
    paths: Sequence[Path],
    preprocessing: Preprocessing,
    height: int,
    width: int,
    cache_dir: Path | None = None,
    progress: _Progress | None = None,
    limit_bytes: int = CACHE_LIMIT_BYTES,
) -> DecodedPictures:
    """Decodes and preprocesses pictures, or maps what an earlier call has written.

    The cache is keyed by the contents of the files in their order, the preprocessing, the size, and the decoder; a
    damaged entry is written anew. Where the cache folder cannot be written, one line on stderr says so and the
    pictures stay in memory.

    Args:
        paths: picture files.
        preprocessing: from the contract.
        height, width: input size of the network in pixels.
        cache_dir: None for `default_cache_dir`.
        progress: called in the calling thread with (done, total) after each picture; not when the cache has them.
        limit_bytes: after writing, the least recently used entries are removed until the rest is no larger. The entry
            just written stays. A process that still maps a removed entry keeps its pictures.

    Raises:
        EdgecnnError: no picture can be read (the first reason is named), or files keep changing while they are read.
    """
    for _ in range(3):
        found, missing = _hash_files(paths)
        job = _Job([paths[i] for i in found], list(found.values()), preprocessing, height, width, progress)
        try:
            pictures, failed = _cached(job, cache_dir or default_cache_dir(), limit_bytes)
        except _ChangedError:
            continue
        positions = list(found)
        unreadable = missing | {positions[i]: f"{paths[positions[i]]}: {reason}" for i, reason in failed.items()}
        readable = tuple(index for index in positions if index not in unreadable)
        if not readable:
            reason = unreadable[min(unreadable)] if unreadable else "there are none"
            raise EdgecnnError(f"no readable picture among {len(paths)}: {reason}")
        return DecodedPictures(
            pictures, readable, tuple(sorted(unreadable.items())), tuple(found[index] for index in readable)
        )
    raise EdgecnnError("the pictures change while they are read; wait until they are complete, then start again")


def default_cache_dir() -> Path:
    """$EDGECNN_CACHE, else $XDG_CACHE_HOME/edgecnn, else ~/.cache/edgecnn."""
    if own := os.environ.get("EDGECNN_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "edgecnn"


def data_hash(hashes: Sequence[str], labels: Sequence[str]) -> str:
    """SHA-256 (hex) over the pairs of content hash and label, whatever their order. ValueError if lengths differ."""
    pairs = sorted(zip(hashes, labels, strict=True))
    return hashlib.sha256("".join(f"{content} {label}\n" for content, label in pairs).encode()).hexdigest()


def _hash_files(paths: Sequence[Path]) -> tuple[dict[int, str], dict[int, str]]:
    """Index -> SHA-256 of the file's bytes; index -> one line why it cannot be read."""

    def digest(path: Path) -> tuple[bool, str]:
        try:
            return True, hashlib.sha256(decode.read_bytes(path)).hexdigest()
        except PictureError as error:
            return False, str(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(digest, paths))
    found = {index: text for index, (read, text) in enumerate(results) if read}
    return found, {index: text for index, (read, text) in enumerate(results) if not read}


def _cached(job: _Job, cache_dir: Path, limit_bytes: int) -> tuple[Picture, dict[int, str]]:
    entry = cache_dir / "decoded" / f"{job.key()}.pictures"
    if loaded := _load(entry, job):
        return loaded
    reason = "the entry vanished"
    try:
        _write(entry, job)
        _trim(entry, limit_bytes)
    except OSError as error:
        reason = error.strerror or str(error)
    if loaded := _load(entry, job):
        return loaded
    print(f"edgecnn: cache {cache_dir} cannot be used ({reason}); pictures stay in memory", file=sys.stderr)
    failed: dict[int, str] = {}
    pictures = np.empty((len(job.paths), job.height, job.width, 3), np.uint8)
    for position, result in enumerate(job.decode_all()):
        if isinstance(result, str):
            failed[position] = result
        else:
            pictures[position - len(failed)] = result
    pictures = pictures[: len(job.paths) - len(failed)]
    pictures.flags.writeable = False
    return pictures, failed


def _load(entry: Path, job: _Job) -> tuple[Picture, dict[int, str]] | None:
    """The pictures and the positions of those left out; None when the entry is missing or damaged."""
    try:
        with open(entry, "rb") as stream:
            size = stream.seek(-8, os.SEEK_END) + 8
            length = int.from_bytes(stream.read(8), "little")
            stream.seek(size - 8 - length)
            index: Any = json.loads(stream.read(length))
            failed = {int(position): str(reason) for position, reason in index.items()}
            shape = (len(job.paths) - len(failed), job.height, job.width, 3)
            if not failed.keys() <= set(range(len(job.paths))) or size != int(np.prod(shape)) + length + 8:
                return None
            pictures = np.memmap(stream, np.uint8, "r", shape=shape) if shape[0] else np.empty(shape, np.uint8)
    except (OSError, ValueError, OverflowError, AttributeError, RecursionError):
        return None
    with contextlib.suppress(OSError):
        os.utime(entry)  # marks it as used, for `_trim`
    return pictures, failed


def release(pictures: Picture) -> None:
    """Hands the memory of decoded pictures back to the system, which keeps what was read as long as it has room; they
    stay readable, from the file."""
    if isinstance(pictures.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pictures.base.madvise(mmap.MADV_DONTNEED)


def _write(entry: Path, job: _Job) -> None:
    """Writes in order by plain calls: on a full disk they raise OSError, where a memory map would end the process."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=entry.parent)
    failed: dict[int, str] = {}
    try:
        with open(handle, "wb") as stream, contextlib.closing(job.decode_all()) as results:
            for position, result in enumerate(results):
                if isinstance(result, str):
                    failed[position] = result
                else:
                    stream.write(result.data)
            index = json.dumps(failed).encode()
            stream.write(index + len(index).to_bytes(8, "little"))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, entry)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _trim(keep: Path, limit_bytes: int) -> None:
    """Removes what dead writers left, and the least recently used entries above the limit."""
    entries: list[tuple[float, int, Path]] = []
    for path in keep.parent.iterdir():
        with contextlib.suppress(OSError):  # another process may remove it first
            status = path.stat()
            if not path.name.startswith(_TEMPORARY):
                entries.append((status.st_mtime, status.st_size, path))
            elif time.time() - status.st_mtime > _TEMPORARY_AGE_S:
                path.unlink()
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total > limit_bytes and path != keep:
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size
