"""Draws fashion.zip from the IDX files of Fashion-MNIST: `python draw_embedded.py [FOLDER]`.

For each class the first 140 pictures of the 60,000 are train, the next 30 val, and the first 80 of the 10,000 test; the
source is shuffled already. A picture that equals an earlier one pixel for pixel is passed over. File names are the
indexes in the source. The same IDX files and zlib give the same bytes; another zlib gives the same pixels.
"""

from __future__ import annotations

import gzip
import io
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgecnn_runtime.errors import EdgecnnError

SOURCE = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
LABELS = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
PARTS = {"train": (("train", 140), ("val", 30)), "t10k": (("test", 80),)}

_STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_RLE, zlib.Z_HUFFMAN_ONLY, zlib.Z_FIXED)

Grey = npt.NDArray[np.uint8]


def draw(source: Path) -> bytes:
    """The zip file: PNGs ``train|val|test/<label>/<index>.png``, sorted, stored, dated 1980-01-01.

    Args:
        source: folder of the four ``*-ubyte.gz`` IDX files.

    Raises:
        EdgecnnError: a file is missing or no IDX file, or holds too few pictures of a class.
    """
    files: dict[str, bytes] = {}
    seen: set[bytes] = set()
    for part, splits in PARTS.items():
        pictures = read_idx(source / f"{part}-images-idx3-ubyte.gz", 3)
        labels = read_idx(source / f"{part}-labels-idx1-ubyte.gz", 1)
        for number, label in enumerate(LABELS):
            indexes = _unseen(pictures, np.flatnonzero(labels == number), seen)
            for split, count in splits:
                chosen = list(islice(indexes, count))
                if len(chosen) < count:
                    raise EdgecnnError(f"{source}: too few different pictures of {label!r} in {part}")
                files |= {f"{split}/{label}/{index:05}.png": encode_png(pictures[index]) for index in chosen}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in sorted(files.items()):
            info = zipfile.ZipInfo(name)  # dated 1980-01-01
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, data)
    return stream.getvalue()


def encode_png(picture: Grey) -> bytes:
    """The smallest PNG among all filters and zlib strategies. `picture` is ``(H, W)`` uint8 grey, 0-255."""
    height, width = picture.shape
    data = min((_deflate(rows, strategy) for rows in _filtered(picture) for strategy in _STRATEGIES), key=len)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _unseen(pictures: Grey, indexes: npt.NDArray[np.intp], seen: set[bytes]) -> Iterator[int]:
    for index in indexes:
        if (pixels := pictures[index].tobytes()) not in seen:
            seen.add(pixels)
            yield int(index)


def read_idx(path: Path, dimensions: int) -> Grey:
    """The uint8 array of a gzipped IDX file. Raises EdgecnnError."""
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise EdgecnnError(f"{path}: cannot be read ({error}); run 'apt install dataset-fashion-mnist'") from error
    start = 4 + 4 * dimensions
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _filtered(picture: Grey) -> Iterator[bytes]:
    """Scanlines with their filter bytes (PNG specification, section 9): each filter for all rows, then per row the one
    with the least sum of absolute differences."""
    height, width = picture.shape
    padded = np.zeros((height + 1, width + 1), np.int16)
    padded[1:, 1:] = picture
    left, up, corner = padded[1:, :-1], padded[:-1, 1:], padded[:-1, :-1]
    estimate = left + up - corner
    by_left, by_up, by_corner = (np.abs(estimate - near) for near in (left, up, corner))
    paeth = np.where((by_left <= by_up) & (by_left <= by_corner), left, np.where(by_up <= by_corner, up, corner))
    residuals = [(picture - guess).astype(np.uint8) for guess in (np.int16(0), left, up, (left + up) // 2, paeth)]
    filtered = np.stack([np.insert(rows, 0, kind, axis=1) for kind, rows in enumerate(residuals)])
    yield from (rows.tobytes() for rows in filtered)
    best = np.abs(filtered[:, :, 1:].view(np.int8).astype(np.int16)).sum(2).argmin(0)
    yield filtered[best, np.arange(height)].tobytes()


def _deflate(data: bytes, strategy: int) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, 15, 9, strategy)
    return stream.compress(data) + stream.flush()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def main() -> None:
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE
    try:
        (Path(__file__).parent / "fashion.zip").write_bytes(draw(source))
    except EdgecnnError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
