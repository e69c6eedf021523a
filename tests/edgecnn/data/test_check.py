"""Every kind of fault, planted into drawn pictures, is found; sound pictures give no finding."""

from __future__ import annotations

import shutil
import subprocess

import cv2
import numpy as np
import pytest
from PIL import Image

from edgecnn.data.check import check_data
from edgecnn.data.check_page import MAX_SHOWN, sections, write_page
from edgecnn_runtime.contract import Preprocessing
from edgecnn_runtime.errors import EdgecnnError

CLASSES = ("bag", "coat", "shoe")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def photo(seed, side=96):
    rng = np.random.default_rng(seed)
    coarse = rng.random((4, 4, 3), np.float32)
    fine = np.repeat(rng.random((32, 32, 1), np.float32), 3, 2)
    large = [cv2.resize(layer, (side, side), interpolation=cv2.INTER_CUBIC) for layer in (coarse, fine)]
    return np.clip(255 * (0.6 * large[0] + 0.4 * large[1]), 0, 255).astype(np.uint8)


def draw(folder, count=20, side=96):
    for kind, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(str(folder / name / f"{number:02}.png"), photo(1000 * kind + number, side))
    return folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("check") / "sound")


@pytest.fixture
def data(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "data")


def found(folder, look=None):
    return check_data(folder, Preprocessing(), 96, look, workers=2)


def kinds(checked):
    return {(finding.kind, finding.severity, finding.files) for finding in checked.findings}


def test_sound_pictures_give_no_finding(sound):
    checked = found(sound)
    assert checked.findings == ()
    assert checked.counts == dict.fromkeys(CLASSES, 20)
    assert (checked.left_out, checked.feigned) == ((), None)


def test_files_that_cannot_be_read(data):
    whole = (data / "bag" / "00.png").read_bytes()
    (data / "bag" / "00.png").write_bytes(whole[: len(whole) // 2])
    jpeg = cv2.imencode(".jpg", photo(9))[1].tobytes()
    (data / "bag" / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (data / "bag" / "text.jpg").write_text("no picture")
    (data / "bag" / "empty.png").write_bytes(b"")
    (data / "bag" / "gone.png").symlink_to(data / "nowhere.png")
    checked = found(data)
    assert kinds(checked) == {
        ("truncated", "error", ("bag/00.png",)),
        ("truncated", "error", ("bag/cut.jpg",)),
        ("unreadable", "error", ("bag/text.jpg",)),
        ("unreadable", "error", ("bag/empty.png",)),
        ("unreadable", "error", ("bag/gone.png",)),
        ("too few pictures", "warning", ()),
    }
    assert not any(str(data) in finding.detail for finding in checked.findings)


def test_files_that_are_not_what_their_names_say(data):
    (data / "bag" / "00.png").write_bytes(cv2.imencode(".jpg", photo(0))[1].tobytes())
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo(2001)).save(data / "coat" / "phone.jpg", exif=exif)
    assert kinds(found(data)) == {
        ("wrong extension", "warning", ("bag/00.png",)),
        ("EXIF-rotated", "note", ("coat/phone.jpg",)),
    }


def test_pictures_with_little_in_them(data):
    cv2.imwrite(str(data / "bag" / "tiny.png"), photo(3001, 40))
    cv2.imwrite(str(data / "bag" / "flat.png"), np.full((96, 96, 3), 200, np.uint8))
    cv2.imwrite(str(data / "bag" / "grey.png"), cv2.cvtColor(photo(3002), cv2.COLOR_BGR2GRAY))
    assert kinds(found(data)) == {
        ("tiny", "warning", ("bag/tiny.png",)),
        ("single-colour", "warning", ("bag/flat.png",)),
        ("grey among colour", "note", ("bag/grey.png",)),
    }


def test_what_most_pictures_have_is_said_once(tmp_path):
    checked = found(draw(tmp_path / "small", side=40))
    assert [(finding.kind, finding.severity, finding.files) for finding in checked.findings] == [("tiny", "note", ())]
    assert "60 pictures have a short side below 64 px, most of 40 px" in checked.findings[0].detail


def test_duplicates_within_and_across_classes(data):
    shutil.copy(data / "bag" / "00.png", data / "bag" / "copy.png")
    shutil.copy(data / "coat" / "01.png", data / "shoe" / "copy.png")
    cv2.imwrite(str(data / "bag" / "again.jpg"), cv2.imread(str(data / "bag" / "02.png")))
    cv2.imwrite(str(data / "shoe" / "again.jpg"), cv2.imread(str(data / "coat" / "03.png")))
    assert kinds(found(data)) == {
        ("exact duplicates in a class", "warning", ("bag/00.png", "bag/copy.png")),
        ("exact duplicates across classes", "error", ("coat/01.png", "shoe/copy.png")),
        ("near duplicates in a class", "warning", ("bag/02.png", "bag/again.jpg")),
        ("near duplicates across classes", "error", ("coat/03.png", "shoe/again.jpg")),
    }


def test_duplicates_across_splits(sound, tmp_path):
    shutil.copytree(sound, tmp_path / "split" / "train")
    (tmp_path / "split" / "test" / "bag").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "split" / "test" / "bag" / "leak.jpg"), cv2.imread(str(sound / "bag" / "05.png")))
    files = ("test/bag/leak.jpg", "train/bag/05.png")
    assert kinds(found(tmp_path / "split")) == {("near duplicates across splits", "error", files)}


def test_files_that_are_passed_over_are_counted(data):
    (data / ".cache").mkdir()
    for name in ("bag/notes.txt", "bag/old.TXT", "coat/raw.cr2", "coat/README", "shoe/.hidden", ".cache/x.txt"):
        (data / name).write_bytes(b"x")
    (data / "bag" / "00.png").rename(data / "bag" / "00.jfif")  # which browsers call a JPEG
    (other,) = [finding for finding in found(data).findings if finding.kind == "other files"]
    assert (other.severity, other.detail) == ("note", "not looked at: 2 .txt, 1 .cr2, 1 without a suffix")


def test_few_and_unbalanced(data):
    for number in range(2, 20):
        (data / "shoe" / f"{number:02}.png").unlink()
    for number in range(7, 20):
        (data / "coat" / f"{number:02}.png").unlink()
    assert [(finding.kind, finding.severity, finding.detail) for finding in found(data).findings] == [
        ("too few pictures", "error", "shoe: 2"),
        ("too few pictures", "warning", "coat: 7"),
        ("imbalance", "note", "bag has 20 pictures, shoe 2: 10.0 times as many"),
    ]
    (data / "shoe" / "01.png").unlink()
    assert found(data).findings[-1].severity == "warning"


def test_wrong_labels_and_feigned_accuracy(data):
    for number in range(20):
        cv2.imwrite(str(data / "bag" / f"copy{number:02}.jpg"), cv2.imread(str(data / "bag" / f"{number:02}.png")))
    (data / "bag" / "07.png").unlink()
    (data / "bag" / "copy07.jpg").rename(data / "shoe" / "07x.jpg")
    truth = np.array([0] * 38 + [1] * 20 + [2] * 21)
    rng = np.random.default_rng(0)
    looks = (6 * np.eye(3)[truth] + rng.normal(size=(79, 3))).astype(np.float32)
    looks[38 + 20 + 8] = [6, 0, 0]  # shoe/07x.jpg, after 00 to 07
    checked = found(data, lambda pixels: looks[: len(pixels)])
    wrong = [finding for finding in checked.findings if finding.kind == "suspected label"]
    assert [(finding.files, finding.guess) for finding in wrong] == [(("shoe/07x.jpg",), "bag")]
    assert checked.feigned is not None


def test_a_check_that_cannot_be_made_is_named(sound):
    def look(pixels):
        raise EdgecnnError("no weights")

    checked = found(sound, look)
    assert checked.findings == ()
    assert checked.left_out == ("suspected labels were not looked for: no weights",)


def test_what_training_refuses_is_a_finding(data):
    (data / "empty").mkdir()
    checked = found(data)
    assert [(finding.kind, finding.severity) for finding in checked.findings] == [("structure", "error")]
    assert "empty: the class folder holds no pictures" in checked.findings[0].detail
    cv2.imwrite(str(data / "loose.png"), photo(1))
    assert any("loose.png: has no class" in finding.detail for finding in found(data).findings)
    shutil.rmtree(data / "coat")
    shutil.rmtree(data / "shoe")
    assert found(data).counts == {"bag": 20}


def test_every_bad_row_of_a_csv_is_named(data):
    rows = ["path,label,split", *(f"{name}/{n:02}.png,{name}," for name in CLASSES for n in range(20))]
    rows += ["nowhere.png,bag,", "bag/00.png,coat,", "bag/01.png,bag,sometimes", "bag/02.png,,"]
    (data / "data.csv").write_text("\n".join(rows))
    checked = found(data / "data.csv")
    assert checked.counts == dict.fromkeys(CLASSES, 20)
    assert [finding.kind for finding in checked.findings] == ["structure"] * 4
    for row, finding in enumerate(checked.findings, 62):
        assert f"row {row}" in finding.detail


def test_nothing_to_examine_is_one_error(tmp_path):
    with pytest.raises(EdgecnnError, match="no such folder"):
        found(tmp_path / "nowhere")
    (tmp_path / "bag").mkdir()
    with pytest.raises(EdgecnnError, match="no pictures"):
        found(tmp_path)


def test_page_shows_the_pictures_and_escapes_names(data, tmp_path):
    (data / "bag").rename(data / "<b>&bag")
    shutil.copy(data / "<b>&bag" / "00.png", data / "coat" / "copy.png")
    (data / "coat" / "broken.png").write_bytes(b"")
    checked = found(data)
    write_page(tmp_path / "page.html", checked, "Check of <data>")
    html = (tmp_path / "page.html").read_text("utf-8")
    assert html.count("data:image/jpeg;base64,") == 2
    assert "<b>&bag" not in html
    assert "&lt;b&gt;&amp;bag/00.png" in html
    assert "broken.png" in html
    assert "http" not in html.replace("http-equiv", "")
    assert [section.severity for section in sections(checked)] == ["error", "error"]
    with pytest.raises(EdgecnnError, match="cannot be written"):
        write_page(tmp_path / "nowhere" / "page.html", checked, "x")


def test_page_stays_small(data, tmp_path):
    for number in range(MAX_SHOWN + 5):
        cv2.imwrite(str(data / "bag" / f"flat{number}.png"), np.full((96, 96, 3), number, np.uint8))
    write_page(tmp_path / "page.html", found(data), "x")
    html = (tmp_path / "page.html").read_text("utf-8")
    assert html.count("<img") == MAX_SHOWN
    assert f"The first {MAX_SHOWN} are shown" in html


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("width", [400, 1200])
def test_page_fits_the_window(data, tmp_path, width):
    shutil.copy(data / "bag" / "00.png", data / "bag" / ("long" * 40 + ".png"))
    write_page(tmp_path / "page.html", found(data), "x")
    html = (tmp_path / "page.html").read_text("utf-8")
    html = html.replace("default-src 'none'; ", "").replace(
        "</body>", "<script>document.title = document.documentElement.scrollWidth + ' of ' + innerWidth</script></body>"
    )
    (tmp_path / "probe.html").write_text(html)
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},800", "--dump-dom"]
    process = subprocess.run(
        [*command, (tmp_path / "probe.html").as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    title = process.stdout.split("<title>")[1].split("</title>")[0]
    scroll, inner = map(int, title.split(" of "))
    assert scroll <= inner
