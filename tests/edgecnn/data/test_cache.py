from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn.data import cache
from edgecnn.data.cache import DecodedPictures, data_hash, decode_pictures, default_cache_dir, release
from edgecnn_runtime.contract import Preprocessing
from edgecnn_runtime.decode import read_picture
from edgecnn_runtime.errors import EdgecnnError
from edgecnn_runtime.preprocess import preprocess

SIZE = (24, 32)
ENTRY_BYTES = 24 * 32 * 3

PROGRAM = """
import hashlib, sys, time
from pathlib import Path
from edgecnn.data.cache import decode_pictures
from edgecnn_runtime.contract import Preprocessing

def progress(done, total):
    if done == int(sys.argv[3]):
        print("writing", flush=True)
        time.sleep(60)

print("ready", flush=True)
sys.stdin.readline()
decoded = decode_pictures(sorted(Path(sys.argv[1]).iterdir()), Preprocessing(), 24, 32, Path(sys.argv[2]), progress)
print(type(decoded.pictures).__name__, hashlib.sha256(decoded.pictures.tobytes()).hexdigest(), flush=True)
"""


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return draw(tmp_path / "photos", 7)


def draw(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(count)
    for number in range(count):
        picture = generator.integers(0, 256, (40 + number % 9, 50, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number:03}.png"), picture)
    return sorted(folder.iterdir())


def run(paths: list[Path], folder: Path, filters: tuple[str, ...] = (), **options: int) -> DecodedPictures:
    return decode_pictures(paths, Preprocessing(filters), *SIZE, folder, **options)


def expected(paths: list[Path]) -> np.ndarray:
    return np.stack([preprocess(read_picture(path), Preprocessing(), *SIZE) for path in paths])


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "decoded").iterdir())


def start(photos: Path, folder: Path, stop_at: int = -1) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(photos), str(folder), str(stop_at)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_pixels_are_those_of_the_runtime(photos: list[Path], tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    decoded = decode_pictures(photos, Preprocessing(), *SIZE, tmp_path / "cache", lambda *call: calls.append(call))
    assert isinstance(decoded.pictures, np.memmap)
    assert not decoded.pictures.flags.writeable
    np.testing.assert_array_equal(decoded.pictures, expected(photos))
    assert decoded.readable == tuple(range(7))
    assert decoded.unreadable == ()
    assert decoded.hashes == tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in photos)
    assert calls == [(done, 7) for done in range(1, 8)]


def test_more_pictures_than_one_batch(tmp_path: Path) -> None:
    photos = draw(tmp_path / "many", 150)
    np.testing.assert_array_equal(run(photos, tmp_path / "cache").pictures, expected(photos))


def test_decoded_once(photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(photos, tmp_path)
    monkeypatch.setattr(cache.decode, "decode", lambda *_: pytest.fail("decoded again"))
    second = run(photos, tmp_path)
    np.testing.assert_array_equal(first.pictures, second.pictures)
    moved = [path.rename(tmp_path / f"moved-{path.name}") for path in photos]
    np.testing.assert_array_equal(run(moved, tmp_path).pictures, first.pictures)


def test_key(photos: list[Path], tmp_path: Path) -> None:
    run(photos, tmp_path)
    run(photos[::-1], tmp_path)
    run(photos, tmp_path, filters=("gray",))
    decode_pictures(photos, Preprocessing(), 32, 24, tmp_path)
    photos[0].write_bytes(photos[1].read_bytes())
    np.testing.assert_array_equal(run(photos, tmp_path).pictures, expected(photos))
    assert len(entries(tmp_path)) == 5


def test_unreadable_files_are_left_out(photos: list[Path], tmp_path: Path) -> None:
    photos[1].write_bytes(b"no picture")
    photos[3].unlink()
    photos[6].write_bytes(photos[6].read_bytes()[:-40])
    good = [photos[index] for index in (0, 2, 4, 5)]
    for _ in range(2):
        decoded = run(photos, tmp_path)
        assert decoded.readable == (0, 2, 4, 5)
        assert [index for index, _ in decoded.unreadable] == [1, 3, 6]
        expected_words = ("not a picture", "No such file", "truncated")
        for (index, reason), said in zip(decoded.unreadable, expected_words, strict=True):
            assert reason.startswith(f"{photos[index]}: ")
            assert reason.count(str(photos[index])) == 1
            assert said in reason
            assert "\n" not in reason
        np.testing.assert_array_equal(decoded.pictures, expected(good))
        assert len(decoded.hashes) == 4


def test_no_readable_picture_is_one_error(tmp_path: Path) -> None:
    files = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    files[0].write_bytes(b"nothing")
    for _ in range(2):
        with pytest.raises(EdgecnnError, match=r"no readable picture among 2: .*a\.jpg: not a picture"):
            run(files, tmp_path / "cache")
    with pytest.raises(EdgecnnError, match="no readable picture among 0"):
        run([], tmp_path / "cache")


def test_a_file_that_changes_meanwhile_is_read_anew(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hash_files = cache._hash_files
    changes = [photos[0].unlink, lambda: photos[1].write_bytes(photos[2].read_bytes())]

    def hash_then_change(paths: list[Path]) -> tuple[dict[int, str], dict[int, str]]:
        result = hash_files(paths)
        if changes:
            changes.pop()()
        return result

    monkeypatch.setattr(cache, "_hash_files", hash_then_change)
    decoded = run(photos, tmp_path)
    assert decoded.readable == (1, 2, 3, 4, 5, 6)
    np.testing.assert_array_equal(decoded.pictures, expected(photos[1:]))
    assert len(entries(tmp_path)) == 1
    changes += [lambda n=number: photos[2].write_bytes(b"%d" % n) for number in range(3)]
    with pytest.raises(EdgecnnError, match="change while they are read"):
        run(photos[2:], tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:5],
        lambda data: data[1:],
        lambda data: data[:-9],
        lambda data: b"\0" + data,
        lambda data: b"\0" * len(data),
        lambda data: data[:-10] + b"[]" + data[-8:],
        lambda data: data[:-8] + b"\xff" * 8,
        lambda data: data[: -10 - ENTRY_BYTES] + (text := b'{"99": "x"}') + len(text).to_bytes(8, "little"),
    ],
)
def test_a_damaged_entry_is_written_anew(photos: list[Path], tmp_path: Path, damage: object) -> None:
    run(photos, tmp_path)
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))  # type: ignore[operator]
    np.testing.assert_array_equal(run(photos, tmp_path).pictures, expected(photos))
    assert entry.read_bytes() == whole


def test_the_total_is_bounded(photos: list[Path], tmp_path: Path) -> None:
    found: list[Path] = []
    for age, photo in enumerate(photos[:3]):
        run([photo], tmp_path)
        (new,) = set(entries(tmp_path)) - set(found)
        os.utime(new, (1000 + age, 1000 + age))
        found.append(new)
    mapped = run(photos[:1], tmp_path)  # used again: the second is the oldest now
    limit = 3 * (ENTRY_BYTES + 100)
    last = run(photos[3:4], tmp_path, limit_bytes=limit)
    assert [path.exists() for path in found] == [True, False, True]
    run(photos[:2], tmp_path, limit_bytes=1)
    assert len(entries(tmp_path)) == 1  # only the one just written
    np.testing.assert_array_equal(mapped.pictures, expected(photos[:1]))
    np.testing.assert_array_equal(last.pictures, expected(photos[3:4]))


def test_a_cache_that_cannot_be_written(photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos[2].write_bytes(b"no picture")
    (tmp_path / "file").touch()
    decoded = run(photos, tmp_path / "file")
    assert not isinstance(decoded.pictures, np.memmap)
    assert not decoded.pictures.flags.writeable
    np.testing.assert_array_equal(decoded.pictures, expected(photos[:2] + photos[3:]))
    message = capsys.readouterr().err
    assert "Not a directory" in message
    assert message.count("\n") == 1


def test_a_full_disk(photos: list[Path], tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 * ENTRY_BYTES, 3 * ENTRY_BYTES))

    command = [sys.executable, "-c", PROGRAM, str(photos[0].parent), str(tmp_path / "cache"), "-1"]
    result = subprocess.run(command, input="\n", capture_output=True, text=True, check=True, preexec_fn=limit)
    assert f"ndarray {hashlib.sha256(expected(photos).tobytes()).hexdigest()}" in result.stdout
    assert "File too large" in result.stderr
    assert entries(tmp_path / "cache") == []


@pytest.mark.parametrize("damaged", [False, True])
def test_two_processes_at_once(tmp_path: Path, damaged: bool) -> None:
    photos = draw(tmp_path / "photos", 200)
    folder = tmp_path / "cache"
    if damaged:
        run(photos, folder)
        entries(folder)[0].write_bytes(b"damaged")
    processes = [start(tmp_path / "photos", folder) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert set(outputs) == {f"memmap {hashlib.sha256(expected(photos).tobytes()).hexdigest()}\n"}
    assert len(entries(folder)) == 1


def test_killed_in_the_middle_of_writing(tmp_path: Path) -> None:
    photos = draw(tmp_path / "photos", 100)
    folder = tmp_path / "cache"
    process = start(tmp_path / "photos", folder, stop_at=80)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = entries(folder)
    assert left.name.startswith(".tmp-")
    assert left.stat().st_size > 50 * ENTRY_BYTES
    np.testing.assert_array_equal(run(photos, folder).pictures, expected(photos))
    assert left.exists()  # its writer could still be alive
    os.utime(left, (time.time() - 90_000,) * 2)
    run(photos[:1], folder)
    assert not left.exists()
    assert len(entries(folder)) == 2


def test_default_cache_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", "/a/b")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_cache_dir() == Path("/a/b")
    monkeypatch.delenv("EDGECNN_CACHE")
    assert default_cache_dir() == Path("/x/edgecnn")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache/edgecnn"


def test_data_hash_ignores_the_order() -> None:
    assert data_hash(["1", "2"], ["a", "b"]) == data_hash(["2", "1"], ["b", "a"])
    assert data_hash(["1", "2"], ["a", "b"]) != data_hash(["1", "2"], ["b", "a"])
    assert len(data_hash([], [])) == 64


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_released_pictures_take_no_memory_and_stay_readable(tmp_path: Path) -> None:
    def of_files_kb() -> int:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssFile:"))

    (tmp_path / "pixels").write_bytes(bytes(range(256)) * 200_000)
    with open(tmp_path / "pixels", "rb") as stream:
        pictures = np.memmap(stream, np.uint8, "r", shape=(50, 1000, 1024))
    total = int(pictures.sum())
    before_kb = of_files_kb()
    release(pictures)
    assert before_kb - of_files_kb() > 40_000
    assert int(pictures.sum()) == total
    release(np.zeros((2, 2), np.uint8))  # in memory: nothing to be done
