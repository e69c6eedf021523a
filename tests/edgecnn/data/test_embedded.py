from __future__ import annotations

import gzip
import io
import struct
import threading
import zipfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.data import embedded
from edgecnn.data.embedded import draw_embedded
from edgecnn_runtime.dataset import read_dataset
from edgecnn_runtime.decode import decode, read_picture
from edgecnn_runtime.errors import EdgecnnError


def test_the_archive_is_what_it_says() -> None:
    assert embedded.ARCHIVE.stat().st_size <= 2_000_000
    with zipfile.ZipFile(embedded.ARCHIVE) as archive:
        names = archive.namelist()
        pixels = {decode(archive.read(name), name).tobytes() for name in names}
        dates = {info.date_time for info in archive.infolist()}
    assert names == sorted(names)
    assert dates == {(1980, 1, 1, 0, 0, 0)}
    assert len(pixels) == len(names) == 2500  # no picture twice, in whatever split
    found = Counter(tuple(name.split("/")[:2]) for name in names)
    sizes = {"train": 140, "val": 30, "test": 80}
    assert found == {(split, label): size for split, size in sizes.items() for label in draw_embedded.LABELS}


def test_unpack_gives_an_ordinary_data_set(tmp_path: Path) -> None:
    root = embedded.unpack(tmp_path)
    dataset = read_dataset(root)
    assert dataset.labels == tuple(sorted(draw_embedded.LABELS))
    assert Counter(picture.split for picture in dataset.pictures) == {"train": 1400, "val": 300, "test": 800}
    picture = read_picture(dataset.pictures[0].path)
    assert picture.shape == (28, 28, 3)
    assert (picture[..., 0] == picture[..., 2]).all()
    assert [path.name for path in tmp_path.iterdir()] == [root.name]


def test_unpack_mends_and_leaves_alone(tmp_path: Path) -> None:
    root = embedded.unpack(tmp_path)
    whole, damaged, lost = sorted((root / "val/bag").iterdir())[:3]
    before = whole.stat().st_mtime_ns
    damaged.write_bytes(b"")
    lost.unlink()
    (root / "own.txt").touch()
    assert embedded.unpack(tmp_path) == root
    assert whole.stat().st_mtime_ns == before
    assert read_picture(damaged).shape == read_picture(lost).shape == (28, 28, 3)
    assert (root / "own.txt").exists()


def test_unpack_several_at_once(tmp_path: Path) -> None:
    roots: list[Path] = []
    threads = [threading.Thread(target=lambda: roots.append(embedded.unpack(tmp_path / "new"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert roots == [tmp_path / "new/fashion-mnist"] * 3
    assert len(list((tmp_path / "new").rglob("*.png"))) == 2500
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_unpack_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EdgecnnError, match="cannot be written: Not a directory"):
        embedded.unpack(tmp_path / "file")


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 256))
def test_encode_png_is_lossless(height: int, width: int, levels: int) -> None:
    generator = np.random.default_rng(height * 31 + width * 7 + levels)
    picture = generator.integers(0, levels, (height, width)).astype(np.uint8)
    decoded = cv2.imdecode(np.frombuffer(draw_embedded.encode_png(picture), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded, picture)


def write_idx(folder: Path, part: str, pictures: np.ndarray, labels: np.ndarray) -> None:
    images = struct.pack(">4I", 0x803, *pictures.shape) + pictures.tobytes()
    (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    classes = struct.pack(">2I", 0x801, labels.size) + labels.tobytes()
    (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(classes))


def test_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw_embedded, "PARTS", {"train": (("train", 3), ("val", 2)), "t10k": (("test", 2),)})
    generator = np.random.default_rng(0)
    labels = np.arange(70, dtype=np.uint8) % 10
    pictures = generator.integers(0, 256, (70, 28, 28)).astype(np.uint8)
    pictures[10] = pictures[0]
    write_idx(tmp_path, "train", pictures, labels)
    write_idx(tmp_path, "t10k", pictures[::-1], labels[::-1])
    with pytest.raises(EdgecnnError, match="too few different pictures of 't-shirt' in t10k"):
        draw_embedded.draw(tmp_path)
    others = generator.integers(0, 256, (30, 28, 28)).astype(np.uint8)
    others[20] = pictures[20]
    others = np.concatenate([others, generator.integers(0, 256, (10, 28, 28)).astype(np.uint8)])
    write_idx(tmp_path, "t10k", others, labels[:40])
    archive = draw_embedded.draw(tmp_path)
    assert archive == draw_embedded.draw(tmp_path)
    names = zipfile.ZipFile(io.BytesIO(archive)).namelist()
    assert [name for name in names if "/t-shirt/" in name] == [
        "test/t-shirt/00000.png",
        "test/t-shirt/00010.png",
        "train/t-shirt/00000.png",
        "train/t-shirt/00020.png",
        "train/t-shirt/00030.png",
        "val/t-shirt/00040.png",
        "val/t-shirt/00050.png",
    ]
    with pytest.raises(EdgecnnError, match="apt install dataset-fashion-mnist"):
        draw_embedded.draw(tmp_path / "missing")


@pytest.mark.skipif(not draw_embedded.SOURCE.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_draw_gives_the_archive_again() -> None:
    drawn = io.BytesIO(draw_embedded.draw(draw_embedded.SOURCE))
    with zipfile.ZipFile(drawn) as new, zipfile.ZipFile(embedded.ARCHIVE) as old:
        assert new.namelist() == old.namelist()
        for name in new.namelist():
            np.testing.assert_array_equal(decode(new.read(name), name), decode(old.read(name), name))
