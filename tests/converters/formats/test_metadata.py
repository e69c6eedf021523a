"""What other people's software reads of a file: MediaPipe of a .tflite, plain onnx of an .onnx, as the guide says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from bench._networks import CLASSES, MOBILE, living_model, soft_pictures
from edgecnn_converters import formats
from edgecnn_converters.artifacts import make_artifact
from edgecnn_converters.freeze import freeze
from edgecnn_runtime import Classifier
from edgecnn_runtime.backends import module_for
from edgecnn_runtime.classifier import read_artifact
from edgecnn_runtime.contract import Contract, Provenance, Publication

GUIDE = Path(__file__).parents[3] / "docs" / "guide.md"
MEDIAPIPE = "mediapipe==1.2.2"
LABELS = ("señal dos", "one", "寿司")
# Runs the program in every folder of its arguments.
EACH = "import os, sys\nfor folder in sys.argv[2:]:\n    print('#')\n    os.chdir(folder)\n    exec(sys.argv[1], {})\n"


def _program(package: str) -> str:
    """The guide's Python program that imports `package`."""
    programs = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (found,) = [program for program in programs if f"import {package}" in program]
    return str(found)


def _run(python: Path | str, program: str, *folders: Path) -> list[list[str]]:
    """What the program prints in every folder, in lines."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PYTHONUTF8": "1"}
    command = [str(python), "-c", EACH, program, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=own, timeout=300)
    assert done.returncode == 0, done.stderr
    return [part.splitlines() for part in done.stdout.split("#\n")[1:]]


def _mediapipe_agrees(python, function, contract, calibration, pictures, folder, within):
    """For every precision: MediaPipe says of each picture what this runtime says of it. Returns the labels said."""
    folders, expected = [], []
    for precision in formats.get("tflite").PRECISIONS:
        made = make_artifact(function, contract, "tflite", precision, calibration, None, None, folder, 1)
        classifier = Classifier.load(made.path)
        for number, picture in enumerate(pictures):
            own = folder / f"{precision}-{number}"
            own.mkdir()
            shutil.copy(made.path, own / "model.tflite")
            # Without loss, and of the input's size, so that both see the same pixels.
            coded = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
            (own / "photo.jpg").write_bytes(coded)
            folders.append(own)
            expected.append(classifier.classify(coded).top(len(contract.labels)))
    answers = _run(python, _program("mediapipe"), *folders)
    for lines, top in zip(answers, expected, strict=True):
        scores = {label: float(score) for score, label in (line.split(maxsplit=1) for line in lines)}
        assert lines[0].split(maxsplit=1)[1] == top[0].label
        assert scores == pytest.approx({each.label: each.probability for each in top}, abs=within)
    return {top[0].label for top in expected}


@pytest.mark.slow
@pytest.mark.parametrize("small", ["softmax"], indirect=True)
def test_mediapipe_says_what_this_runtime_says(small, tmp_path, make_python):
    contract = replace(small.contract, labels=LABELS)
    surest = [small.pictures[number] for number in small.expected.argmax(0)]  # of each label
    python = make_python(MEDIAPIPE)
    assert len(_mediapipe_agrees(python, small.function, contract, small.pictures, surest, tmp_path, 0.002)) > 1


@pytest.mark.all
@pytest.mark.parametrize("name", MOBILE)
def test_mediapipe_reads_every_file_of_a_mobile_backbone(name, tmp_path, make_python):
    pictures = soft_pictures(16, 96)
    function = freeze(living_model(name, 96, pictures), 96, 96)
    labels = tuple(f"thing {number}" for number in range(CLASSES))
    contract = Contract(96, 96, labels, Provenance(backbone=name, precision="", weights="none"))
    _mediapipe_agrees(make_python(MEDIAPIPE), function, contract, pictures, pictures[:3], tmp_path, 0.002)


def test_plain_onnx_reads_the_labels(small, tmp_path):
    made = make_artifact(small.function, small.contract, "onnx", "float32", (), None, None, tmp_path, 1)
    made.path.rename(tmp_path / "model.onnx")
    assert _run(sys.executable, _program("onnx"), tmp_path) == [[str(list(small.contract.labels))]]


def test_onnx_says_its_pixels_and_its_author(small):
    import onnx

    author = replace(small.contract.provenance, publication=Publication("Ana Núñez", version="9.9"))
    graph = formats.get("onnx").convert(small.function, "float32", ())
    described = formats.get("onnx").add_metadata(graph, replace(small.contract, provenance=author))
    model = onnx.load_from_string(described)
    onnx.checker.check_model(model)
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "Image.BitmapPixelFormat": "Rgb8",
        "Image.ColorSpaceGamma": "SRGB",
        "Image.NominalPixelRange": "NominalRange_0_255",
        "model_author": "Ana Núñez",
        "model_name": "small",
        "model_version": "9.9",
        "labels": "\n".join(small.contract.labels),
    }
    assert model.graph == onnx.load_from_string(graph).graph


def _tflite_metadata(graph: bytes) -> bytes:
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(graph)
    (entry,) = [entry for entry in model.metadata if entry.name == b"TFLITE_METADATA"]
    return bytes(model.buffers[entry.buffer].data)


def test_tflite_metadata_states_what_is_known_alone(small, tmp_path):
    made = make_artifact(small.function, small.contract, "tflite", "float32", (), None, None, tmp_path, 1)
    graph, contract, _ = read_artifact(made.path)
    metadata = _tflite_metadata(graph)
    assert metadata[4:8] == b"M001"
    # A sigmoid has one output and two labels: a reader would give the one the other's name.
    assert (b"labels.txt" in metadata) == (contract.activation == "softmax")
    for text in (b"small-float32", b"Tells %d kinds of pictures apart" % len(contract.labels), b"squash"):
        assert text in metadata
    stated = Publication("Ana Núñez", "CC-BY-4.0", "1.2")
    signed = replace(contract, provenance=replace(contract.provenance, publication=stated))
    plain = formats.get("tflite").convert(small.function, "float32", ())
    more = _tflite_metadata(formats.get("tflite").add_metadata(plain, signed))
    for text in ("Ana Núñez", "CC-BY-4.0", "1.2"):
        assert text.encode() not in metadata
        assert text.encode() in more


@pytest.mark.parametrize("name", formats.names())
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_metadata_change_no_answer(small, name, precision):
    maker, module = formats.get(name), module_for(f"model.{name}")
    plain = maker.convert(small.function, precision, small.pictures)
    described = maker.add_metadata(plain, small.contract)
    module.check_structure(described)
    first, second = (Classifier(graph, small.contract, module) for graph in (plain, described))
    for picture in small.pictures[:4]:
        np.testing.assert_array_equal(first.infer(picture), second.infer(picture))
