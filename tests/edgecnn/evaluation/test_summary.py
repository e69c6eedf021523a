"""The report of a small real run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn import backbones
from edgecnn.evaluation.summary import write_run_report
from edgecnn.training.head import HeadOptions, add_pooling, build_head, join, predict
from edgecnn.training.run import SPLITS, Config, Run, SplitPicture
from edgecnn.training.train import Pictures

SIDE = 32
LABELS = ("cat", "dog", "<owl>")
MODEL_SECTIONS = {"Where it looked", "The network"}


def pictures(test: int = 12) -> Pictures:
    splits = ["train"] * 6 + ["val"] * 3 + ["test"] * test
    truth = np.arange(len(splits)) % 3
    return Pictures(
        root=Path("photos"),
        labels=LABELS,
        entries=tuple(
            SplitPicture(f"{LABELS[t]}/{number}.jpg", LABELS[t], split, "0" * 64)
            for number, (t, split) in enumerate(zip(truth, splits, strict=True))
        ),
        pixels=np.random.default_rng(0).integers(0, 256, (len(splits), SIDE, SIDE, 3), np.uint8),
        truth=truth,
        unreadable=(),
    )


def run(folder: Path, backbone: str, given: Pictures) -> Run:
    metrics = {
        "accuracy": {"train": None, "val": 0.5, "test": 0.5},
        "interval": {"val": [0.2, 0.8], "test": [0.2, 0.8]},
        "pictures": {split: len(given.of(split)) for split in SPLITS},
        "unreadable": [],
        "data_sha256": "da" * 32,
        "weights_sha256": "fe" * 32,
        "parameters": 1234,
        "train_s": 1.5,
        "temperature": 1.25,
        "reject_threshold": 0.3,
    }
    config = Config("photos", backbone, SIDE, SIDE, weights="none", command="edgecnn train 'my photos'")
    return Run(folder, config, LABELS, given.entries, {}, metrics)


def model(backbone: str, activation: str = "softmax") -> Any:
    import keras

    keras.utils.set_random_seed(0)
    network = backbones.get(backbone).build(SIDE, SIDE, "none")
    features = int(np.prod(add_pooling(network).output_shape[1:]))
    return join(network, build_head(features, len(LABELS), HeadOptions(activation)))


def headings(text: str) -> set[str]:
    return set(re.findall("<h2>(.*?)</h2>", text))


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "basic_cnn"])
def test_a_report_shows_its_model(tmp_path: Path, backbone: str) -> None:
    given, network = pictures(), model(backbone)
    test = predict(network, [given.pixels[i] for i in given.of("test")])
    write_run_report(run(tmp_path, backbone, given), given, {"test": test}, "owls", model=network)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert headings(text) >= MODEL_SECTIONS
    assert f"{network.count_params():,} parameters</summary>" in text
    assert text.count('alt="The same with what spoke for the answer"') == 4
    assert text.count('alt="Channel ') == 32
    assert "with temperature\N{NO-BREAK SPACE}1.25" in text
    assert "<code>edgecnn train &#39;my photos&#39;</code>" in text
    assert "fe" * 32 in text
    assert re.search("<dt>keras</dt><dd><code><bdi>3", text)


def test_a_report_without_a_model_has_all_the_rest(tmp_path: Path) -> None:
    given = pictures()
    test = np.random.default_rng(1).dirichlet(np.ones(3), 12).astype(np.float32)
    write_run_report(run(tmp_path, "basic_cnn", given), given, {"test": test}, "owls")
    found = headings((tmp_path / "report.html").read_text("utf-8"))
    assert not found & MODEL_SECTIONS
    assert found >= {"Class by class", "How far its probabilities can be believed", "Surest mistakes", "The pictures"}


def test_mistakes_stand_surest_first(tmp_path: Path) -> None:
    given = pictures(test=4)
    test = np.array([[0.1, 0.6, 0.3], [0.2, 0.7, 0.1], [0.9, 0.05, 0.05], [0.5, 0.4, 0.1]], np.float32)
    write_run_report(run(tmp_path, "basic_cnn", given), given, {"test": test}, "owls")
    text = (tmp_path / "report.html").read_text("utf-8")
    section = text[text.index("Surest mistakes") : text.index("Examples from")]
    assert re.findall(r"<bdi>([^<]*\.jpg)</bdi>", section) == ["&lt;owl&gt;/11.jpg", "cat/9.jpg"]


def test_a_faultless_run_has_no_mistakes_to_show(tmp_path: Path) -> None:
    given, network = pictures(), model("mobilenet_v2")
    test = np.eye(3, dtype=np.float32)[given.truth[given.of("test")]]
    write_run_report(run(tmp_path, "mobilenet_v2", given), given, {"test": test}, "owls", model=network)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "Surest mistakes" not in headings(text)
    assert text.count('alt="The same with what spoke for the answer"') == 4
