from __future__ import annotations

import os
import random
import unicodedata
from pathlib import Path

import pytest

from edgecnn_runtime.dataset import picture_files, read_dataset
from edgecnn_runtime.errors import EdgecnnError


def make(root: Path, *names: str) -> Path:
    """Empty files: a data set is read without opening its pictures."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write_csv(root: Path, text: str | bytes) -> Path:
    file = root / "data.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def rows(data: Path) -> list[tuple[str, str, str | None]]:
    dataset = read_dataset(data)
    return [(p.path.relative_to(dataset.root).as_posix(), p.label, p.split) for p in dataset.pictures]


def refused(data: Path) -> str:
    with pytest.raises(EdgecnnError) as caught:
        read_dataset(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_per_class(tmp_path: Path) -> None:
    make(tmp_path, "dog/b.jpg", "cat/z.PNG", "cat/old/1999/a.jpeg", "cat/notes.txt", "cat/.hidden.jpg", ".git/x.jpg")
    make(tmp_path, "readme.md", "dog/phone.HEIC")
    assert rows(tmp_path) == [
        ("cat/old/1999/a.jpeg", "cat", None),
        ("cat/z.PNG", "cat", None),
        ("dog/b.jpg", "dog", None),
        ("dog/phone.HEIC", "dog", None),
    ]
    assert read_dataset(tmp_path).labels == ("cat", "dog")


def test_the_order_depends_on_names_only(tmp_path: Path) -> None:
    names = [f"{label}/{number}.jpg" for label in ("été", "fan", "a b", "Z") for number in range(5)]
    expected = rows(make(tmp_path / "one", *names))
    random.Random(3).shuffle(names)
    assert rows(make(tmp_path / "two", *names)) == expected
    decomposed = [unicodedata.normalize("NFD", name) for name in names]
    found = rows(make(tmp_path / "three", *decomposed))
    assert [unicodedata.normalize("NFC", path) for path, _, _ in found] == [path for path, _, _ in expected]
    assert read_dataset(tmp_path / "three").labels == ("Z", "a b", "fan", "été")


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_split_folders(tmp_path: Path, val: str) -> None:
    make(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", f"{val}/cat/3.jpg", "test/dog/in/4.jpg")
    (tmp_path / "test/cat").mkdir()  # may lack a class
    assert sorted(rows(tmp_path)) == sorted(
        [
            ("train/cat/1.jpg", "cat", "train"),
            ("train/dog/2.jpg", "dog", "train"),
            (f"{val}/cat/3.jpg", "cat", "val"),
            ("test/dog/in/4.jpg", "dog", "test"),
        ]
    )


def test_a_test_folder_alone_is_enough_to_evaluate(tmp_path: Path) -> None:
    make(tmp_path, "test/cat/1.jpg", "test/dog/2.jpg")
    assert {split for _, _, split in rows(tmp_path)} == {"test"}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    make(tmp_path, "train/1.jpg", "train/steam/2.jpg", "bus/3.jpg")
    assert [label for _, label, _ in rows(tmp_path)] == ["bus", "train", "train"]
    assert {split for _, _, split in rows(tmp_path)} == {None}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["readme.md"], "no pictures"),
        (["1.jpg", "cat/2.jpg", "dog/3.jpg"], "1.jpg: has no class; put each class in its own folder"),
        (["1.jpg"], "put each class in its own folder"),
        (["cat/1.jpg"], "only one class ('cat')"),
        (["cat/1.jpg", "dog/2.jpg", "Empty One/notes.txt"], "Empty One: the class folder holds no pictures"),
        (["cat/a.txt", "dog/b.txt"], "no pictures"),
        (["train/cat/1.jpg", "train/dog/2.jpg", "test/cow/3.jpg"], "unknown label 'cow'"),
        (["train/cat/1.jpg", "train/dog/2.jpg", "test/3.jpg"], "3.jpg: has no class"),
        (["train/cat/1.jpg", "train/dog/2.jpg", "train/cow/x.txt"], "cow: the class folder holds no pictures"),
        (["train/cat/1.jpg", "test/dog/2.jpg", "extra/3.jpg"], "extra: lies beside 'test' but is neither"),
        (["a\nb/1.jpg", "dog/2.jpg"], "one line of printable characters"),
        ([" /1.jpg", "dog/2.jpg"], "one line of printable characters"),
    ],
)
def test_folders_refused(tmp_path: Path, names: list[str], said: str) -> None:
    with pytest.raises(EdgecnnError) as caught:
        read_dataset(make(tmp_path, *names))
    assert said in str(caught.value)


def test_other_paths_refused(tmp_path: Path) -> None:
    make(tmp_path, "data.zip")
    assert "no such folder or file" in refused(tmp_path / "missing")
    assert "folder with one folder per class" in refused(tmp_path / "data.zip")


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"dog"):
        os.makedirs(os.fsencode(tmp_path) + b"/" + name)
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name + b"/1.jpg")).touch()
    message = refused(tmp_path)
    assert "not valid UTF-8" in message
    message.encode()


def test_loops_of_links_do_no_harm(tmp_path: Path) -> None:
    make(tmp_path, "cat/1.jpg", "cat/deep/2.jpg", "dog/3.jpg")
    (tmp_path / "cat/deep/loop").symlink_to(tmp_path / "cat")
    (tmp_path / "cat/root").symlink_to(tmp_path)
    (tmp_path / "cat/again").symlink_to(tmp_path / "cat/deep")
    (tmp_path / "dog/self.jpg").symlink_to("self.jpg")
    (tmp_path / "whole").symlink_to(tmp_path)
    found = [(Path(path).name, label) for path, label, _ in rows(tmp_path)]
    assert sorted(found) == [("1.jpg", "cat"), ("2.jpg", "cat"), ("3.jpg", "dog"), ("self.jpg", "dog")]


def test_a_linked_class_folder_is_followed_and_a_pipe_is_not_opened(tmp_path: Path) -> None:
    store = make(tmp_path / "store", "cat/1.jpg")
    data = make(tmp_path / "data", "dog/2.jpg")
    (data / "cat").symlink_to(store / "cat")
    os.mkfifo(data / "dog/pipe.jpg")
    (data / "dog/gone.jpg").symlink_to(store / "nowhere.jpg")
    assert rows(data) == [("cat/1.jpg", "cat", None), ("dog/2.jpg", "dog", None), ("dog/gone.jpg", "dog", None)]


def test_picture_files(tmp_path: Path) -> None:
    make(tmp_path, "b.jpg", "a/c.webp", "a/.x/d.jpg", "._b.jpg", "z.avif", "notes.txt")
    assert picture_files(tmp_path) == [tmp_path / "a/c.webp", tmp_path / "b.jpg", tmp_path / "z.avif"]
    with pytest.raises(EdgecnnError, match="cannot be read: No such file"):
        picture_files(tmp_path / "missing")


def test_csv(tmp_path: Path) -> None:
    make(tmp_path, "photos/ä b.jpg", "photos/x,y.jpg", "2.jpg")
    text = "\ufeffSplit, Path ,label\ntrain,photos/ä b.jpg,cafe\u0301\n"
    text += ', "photos/x,y.jpg", hut \n\nVALID,./2.jpg,hut\nval,2.jpg,hut\n'
    assert rows(write_csv(tmp_path, text)) == [
        ("2.jpg", "hut", "val"),
        ("photos/x,y.jpg", "hut", None),
        ("photos/ä b.jpg", "café", "train"),
    ]
    assert rows(write_csv(tmp_path, "path,label\r\n2.jpg,a\r\nphotos/ä b.jpg,b\r\n"))[0] == ("2.jpg", "a", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column 'path'"),
        ("path;label\n1.jpg;a\n", "no column 'path'"),
        ("path,class\n1.jpg,a\n", "no column 'label'"),
        ("path,label\n", "no pictures"),
        ("path,label\n1.jpg,a\n2.jpg,a\n", "only one class"),
        ("path,label\n1.jpg,a\nnot here.jpg,b\n", "row 3: no file 'not here.jpg'"),
        ("path,label\n1.jpg,a\n,b\n", "row 3: no file ''"),
        ("path,label\n1.jpg,a\n2.jpg\n", "row 3: a label must be one line of printable characters"),
        ('path,label\n1.jpg,"a\nb"\n', "row 3: a label must be one line of printable characters"),
        ("path,label,split\n1.jpg,a,practice\n", "row 2: the split 'practice' is neither"),
        ("path,label\n1.jpg,a\n./1.jpg,b\n", "row 3: ./1.jpg is 'b' here and 'a' above"),
        ("path,label,split\n1.jpg,a,train\n1.jpg,a,test\n", "row 3: 1.jpg is in test here and in train above"),
        ("path,label,split\n1.jpg,a,train\n2.jpg,b,test\n", "unknown label 'b'"),
        (b"path,label\n1.jpg,caf\xe9\n", "not UTF-8"),
        ('path,label\n1.jpg,"a\n', "cannot be read as CSV"),
    ],
)
def test_csv_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    make(tmp_path, "1.jpg", "2.jpg")
    assert said in refused(write_csv(tmp_path, text))
