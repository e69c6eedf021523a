from __future__ import annotations

import base64
import dataclasses
import html as html_text
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn.evaluation.layers import FeatureMaps, LayerRow
from edgecnn.evaluation.report import ArtifactRow, Calibration, Example, Heatmap, Report, write_report
from edgecnn_runtime.errors import EdgecnnError
from edgecnn_runtime.metrics import reliability_bins

HOSTILE = "<script>alert(1)</script>\"'&{{ 7*7 }}\u202e"
OPTIONAL = {
    "artifacts": "Exported files",
    "history": "Training",
    "calibration": "How far its probabilities can be believed",
    "mistakes": "Surest mistakes",
    "heatmaps": "Where it looked",
    "examples": "Examples from the test pictures",
    "pictures": "The pictures",
    "unreadable": "Files that could not be read",
    "commands": "Go on from here",
}
EMPTY = {"history": {}, "pictures": {}, "calibration": None}


def report(labels: tuple[str, ...] = ("cat", "dog"), text: str = "plain") -> Report:
    classes = len(labels)
    confusion = np.eye(classes, dtype=np.int64) * 9
    confusion[0, 1] = 1
    picture = np.random.default_rng(0).integers(0, 255, (300, 500, 3), np.uint8)
    interval = (0.901, 0.999)
    wrong = Example(picture[:28, :28], labels[0], labels[1], 0.6, text)
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7]], np.float32)
    bins = reliability_bins(probabilities, np.array([0, 0]))
    return Report(
        title=text,
        facts=((text, text),),
        history={"epoch": [1, 2], "loss": [1.0, 0.5], "val_loss": [1.0, 0.6], "accuracy": [0.5, 0.9]},
        labels=labels,
        confusion=confusion,
        accuracy={"val": (0.8, (0.7, 0.9)), "test": (0.947, interval)},
        artifacts=(
            ArtifactRow("tflite", "int8", 3.6, 0.943, interval, 0.4, 0.98, 0.11, 2.0, f"{text}.tflite"),
            ArtifactRow("onnx", "int8", 3.6, 0.95, interval, -0.3, 1.0, 0.0, math.nan, f"{text}.onnx", "unproven"),
        ),
        examples=(
            Example(picture, labels[0], labels[0], 0.9, text),
            wrong,
        ),
        calibration=Calibration(1.5, bins, bins, 0.0612, 0.0298, 0.7, 0.855, 0.053),
        mistakes=(wrong,),
        heatmaps=(Heatmap(wrong, wrong.picture), Heatmap(Example(picture, *labels[:2], 0.6, text), picture)),
        layers=(LayerRow(text, "Conv2D", (150, 250, 4), 1234), LayerRow(f"{text}2", "Dense", (2,), 10)),
        feature_maps=FeatureMaps(text, 4, picture, np.zeros((4, 150, 250), np.uint8)),
        pictures={"train": (1200, *[7] * (classes - 1)), "val": [3] * classes, "test": [0] * classes},
        unreadable=((f"{text}.heic", text),),
        command=f"edgecnn train {text}",
        provenance=((text, text), ("SHA-256", "ab" * 32)),
        commands=(f"edgecnn export {text}",),
    )


def written(folder: Path, given: Report) -> str:
    write_report(folder / "report.html", given)
    assert [path.name for path in folder.iterdir()] == ["report.html"]
    return (folder / "report.html").read_text("utf-8")


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.headings: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [
            value or "" for name, value in attributes if name in ("src", "href", "xlink:href", "srcset")
        ]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "h2" and data.strip():
            self.headings.append(data.strip())


def test_hostile_text_is_shown_and_never_markup(tmp_path: Path) -> None:
    plain = Elements(written(tmp_path, report()))
    text = written(tmp_path, report((HOSTILE, f"{HOSTILE} 2"), HOSTILE))
    assert Elements(text).tags == plain.tags
    assert "script" not in plain.tags
    assert "alert(1)" in text
    assert "{{ 7*7 }}" in text
    assert "alert(1)</script>" not in text


def test_nothing_comes_from_elsewhere(tmp_path: Path) -> None:
    text = written(tmp_path, report())
    assert all(reference.startswith(("data:image/", "#")) for reference in Elements(text).references)
    assert not re.search(r"@import|url\((?!#)", text)
    assert set(re.findall(r"https?://[^\"'<\s]+", text)) == {
        "http://www.w3.org/1999/xlink",
        "http://www.w3.org/2000/svg",
    }


def test_the_gates_verdict_stands_beside_each_file(tmp_path: Path) -> None:
    text = written(tmp_path, report())
    assert re.findall(r"<td class=\"word\">(–|pass|unproven|REFUSED)</td>", text) == ["–", "unproven"]


def test_equal_reports_give_equal_files(tmp_path: Path) -> None:
    assert written(tmp_path, report()) == written(tmp_path, report())


def test_sections_stand_in_order_and_empty_ones_are_absent(tmp_path: Path) -> None:
    always = ["This run", "What is taken for what", "Class by class"]
    model = {"layers": (), "feature_maps": None}
    made = {"command": "", "provenance": ()}
    headings = Elements(written(tmp_path, report())).headings
    assert headings == [
        *("This run", "Exported files", "Training", "What is taken for what", "Class by class"),
        *("How far its probabilities can be believed", "Surest mistakes", "Where it looked"),
        *("Examples from the test pictures", "The network", "The pictures", "Files that could not be read"),
        *("How it was made", "Go on from here"),
    ]
    absent = {heading: {field: EMPTY.get(field, ())} for field, heading in OPTIONAL.items()}
    absent |= {"The network": model, "How it was made": made}
    for heading, fields in absent.items():
        empty = dataclasses.replace(report(), **fields)
        assert Elements(written(tmp_path, empty)).headings == [name for name in headings if name != heading]
    bare = dataclasses.replace(
        report(), facts=(), **{name: value for fields in absent.values() for name, value in fields.items()}
    )
    assert Elements(written(tmp_path, bare)).headings == always


def test_the_model_and_its_making_are_shown(tmp_path: Path) -> None:
    text = written(tmp_path, report()).replace("\N{NO-BREAK SPACE}", " ")
    assert "All 2 layers, 1,244 parameters" in text
    assert "150 × 250 × 4" in text
    assert text.count('alt="Channel ') == 4
    assert '<td class="n">1,200</td><td class="n">3</td><td class="n">0</td><td class="n">1,203</td>' in text
    assert '<td class="n">1,207</td><td class="n">6</td><td class="n">0</td><td class="n">1,213</td>' in text
    assert "<code>edgecnn train plain</code>" in text
    assert "ab" * 32 in text
    assert "as trained: error 6.1 %" in text
    assert "with temperature 1.50: error 3.0 %" in text
    assert "Below a probability of 70.0 % the model gives no answer: it answers for 85.5 %" in text


def test_one_diagram_without_a_temperature(tmp_path: Path) -> None:
    given = report()
    assert given.calibration is not None
    plain = dataclasses.replace(given.calibration, temperature=1.0, reject_threshold=0.0)
    text = written(tmp_path, dataclasses.replace(given, calibration=plain))
    assert text.count('aria-label="Reliability diagram') == 1
    assert "gives no answer" not in text
    assert "temperature" not in text


def test_figures_are_written_for_people(tmp_path: Path) -> None:
    text = written(tmp_path, report()).replace("\N{NO-BREAK SPACE}", " ")
    assert "names <strong>94.7 %</strong> of the test pictures" in text
    assert "18 of 19 pictures" in text
    assert "between 90.1 % and\n99.9 % (95 % interval)" in text
    assert '>94.3 <span class="small">(90.1–99.9)</span>' in text
    assert ">−0.3</td>" in text
    assert ">–</td>" in text, "an unmeasured latency"
    assert '<td class="n">90.0<span class="small of">59.6–98.2</span></td>' in text, "recall of the first class"
    assert '<th scope="row">Average</th><td class="n">95.0</td>' in text
    assert "✓ right" in text
    assert "✗ wrong" in text


def test_pictures_keep_their_colours_and_become_small(tmp_path: Path) -> None:
    red = np.zeros((1080, 1920, 3), np.uint8)
    red[..., 0] = 250
    example = Example(red, "cat", "cat", 1.0, "red")
    text = written(tmp_path, dataclasses.replace(report(), examples=(example,), mistakes=(), heatmaps=()))
    data = base64.b64decode(re.search(r"data:image/jpeg;base64,([\w+/=]+)", text)[1])
    seen = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert seen.shape == (135, 240, 3)
    assert np.abs(seen[60, 100].astype(int) - (0, 0, 250)).max() < 8


def test_a_name_that_is_not_utf8_is_shown(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    assert r"caf\udce9.jpg" in written(tmp_path, dataclasses.replace(report(), unreadable=((name, "damaged"),)))


def test_a_thousand_classes_and_many_pictures_stay_small(tmp_path: Path) -> None:
    noisy = report().examples[0]
    labels = tuple(f"une étiquette très longue numéro {index}" for index in range(1000))
    text = written(tmp_path, dataclasses.replace(report(labels), examples=(noisy,) * 24))
    assert len(text.encode()) < 2_000_000


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="3 labels"):
        dataclasses.replace(report(), labels=("a", "b", "c"))
    with pytest.raises(ValueError, match="'test'"):
        dataclasses.replace(report(), accuracy={"val": (1.0, (0.9, 1.0))})


def test_a_report_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(EdgecnnError, match="cannot be written"):
        write_report(tmp_path / "absent" / "report.html", report())


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 30, 120])
def test_nothing_overflows_a_phone(tmp_path: Path, classes: int) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    labels = tuple(f"Überlänge-ohne-Trennstelle_{'x' * 60}_{index}" for index in range(classes))
    text = written(tmp_path, report(labels, "w" * 120)).replace("<details>", "<details open>")
    # The report may not run scripts; the page around it, of the same origin by srcdoc, measures it.
    page = tmp_path / "phone.html"
    page.write_text(
        f'<iframe width=375 height=800 srcdoc="{html_text.escape(text)}" onload="const page = contentDocument;'
        "document.title = page.documentElement.scrollWidth + ' of 375, ' + page.querySelectorAll('h2').length"
        '"></iframe>',
        "utf-8",
    )
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    command = [chromium, *flags.split(), "--disable-component-update", "--disable-sync", "--hide-scrollbars"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "<title>375 of 375, 14</title>" in dom, re.findall("<title>.*?</title>", dom)
