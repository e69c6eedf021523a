"""`edgecnn bench` as a process, with both engines."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgecnn_runtime.classifier import read_artifact, write_artifact
from edgecnn_runtime.commands.bench import _counts
from edgecnn_runtime.timing import PARTS

QUICK = ("--seconds", 0, "--resolution", "160x120")


def bench(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgecnn_runtime", "bench", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120)


def document(*words: object) -> Any:
    done = bench(*words, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_both_engines_in_one_document(tiny_artifact: Path, tiny_onnx: Path) -> None:
    told = document(tiny_artifact, tiny_onnx, "--threads", 2, *QUICK)
    assert (told["schema"], told["command"]) == (1, "bench")
    assert told["picture"] | {"size_bytes": 0} == {"source": "generated", "width": 160, "height": 120, "size_bytes": 0}
    assert [each["artifact"] for each in told["artifacts"]] == [str(tiny_artifact), str(tiny_onnx)]
    tflite, onnx = told["artifacts"]
    assert (tflite["precision"], onnx["precision"]) == ("int8", "float32")
    assert tflite["engine"]["partitions"] == 1
    assert onnx["engine"]["operators"] > 0
    for each in told["artifacts"]:
        assert each["load_ms"] > 0
        assert each["first_ms"] > 0
        assert [timed["threads"] for timed in each["timed"]] == [1, 2]
        for timed in each["timed"]:
            assert tuple(timed["timings_ms"]) == PARTS
            for spread in timed["timings_ms"].values():
                assert 0 <= spread["p50"] <= spread["p95"] <= spread["p99"]
    assert told["conditions"]["rounds"] >= 20
    assert set(told["conditions"]["board"]) == {"temperature_c", "throttled", "throttled_before"}
    assert isinstance(told["remarks"], list)


def test_the_table_fits_80_columns(tiny_artifact: Path, tiny_onnx: Path) -> None:
    done = bench(tiny_artifact, tiny_onnx, "--threads", 2, *QUICK)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("160x120 px, ")
    heads = [index for index, line in enumerate(lines) if line.startswith("threads")]
    assert [lines[heads[0]].split()] * 2 == [lines[index].split() for index in heads] == [["threads", *PARTS]] * 2
    for index in heads:
        for offset in (0, 1, 2):
            assert len(lines[index + offset]) <= 80
        cells = lines[index + 2].split()
        assert (cells[0], len(cells)) == ("2", 6)
        assert all(cell.count("/") == 2 for cell in cells[1:])
    assert "   engine: 1 partition for the delegate" in lines
    assert any(line.startswith("fastest: tiny-") for line in lines)


def test_an_int8_file_that_is_slower_is_named(tiny_artifact: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    # The contract's word for the precision is all that says which is which: here the ONNX file, at whose inference
    # Python turns maps about, is called int8.
    slow, fast = tmp_path / "tiny-int8.onnx", tmp_path / "tiny-float32.tflite"
    for source, path, precision in ((tiny_onnx, slow, "int8"), (tiny_artifact, fast, "float32")):
        graph, contract, _ = read_artifact(source)
        provenance = replace(contract.provenance, precision=precision)
        write_artifact(path, graph, replace(contract, provenance=provenance, goldens=()))
    told = document(slow, fast, "--threads", 1, *QUICK)
    medians = {each["precision"]: each["timed"][0]["timings_ms"]["inference"]["p50"] for each in told["artifacts"]}
    sentences = [said for said in told["remarks"] if said.startswith("tiny-int8.onnx is slower here")]
    unsure = sum(each["timed"][0]["uncertainty"] for each in told["artifacts"])
    assert len(sentences) == (medians["int8"] > max(1.03, 1 + unsure) * medians["float32"])


def test_a_picture_of_one_s_own(tiny_artifact: Path, tmp_path: Path) -> None:
    photo = tmp_path / "été.png"
    photo.write_bytes(cv2.imencode(".png", np.full((40, 30, 3), 90, np.uint8))[1].tobytes())
    told = document(tiny_artifact, tiny_artifact, "--picture", photo, "--seconds", 0, "--threads", 1)
    assert told["picture"] == {"source": str(photo), "width": 30, "height": 40, "size_bytes": photo.stat().st_size}
    assert len(told["artifacts"]) == 1, "named twice, timed once"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["missing.tflite"], 1, "missing.tflite: cannot be read"),
        (["notes.txt"], 1, "notes.txt: not a model file"),
        (["--picture", "missing.jpg"], 1, "missing.jpg: cannot be read"),
        (["--resolution", "big"], 2, "--resolution is WIDTHxHEIGHT"),
        (["--resolution", "64x48", "--picture", "a.jpg"], 2, "--picture and --resolution exclude one another"),
        (["--threads", "0"], 2, "--threads"),
        (["--seconds", "nan"], 2, "--seconds is a number of seconds (received: nan)"),
    ],
)
def test_errors_are_one_line(tiny_artifact: Path, words: list[str], code: int, said: str) -> None:
    done = bench(tiny_artifact, *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert said in done.stderr


def test_numbers_of_threads() -> None:
    assert [_counts(most) for most in (1, 4, 6, 16)] == [[1], [1, 2, 3, 4], [1, 2, 3, 4, 6], [1, 2, 3, 4, 8, 16]]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells when the process is ready")
@pytest.mark.parametrize(("number", "said"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_ends_a_command_with_one_line(tiny_artifact: Path, number: signal.Signals, said: str) -> None:
    words = [sys.executable, "-m", "edgecnn_runtime", "bench", str(tiny_artifact), "--seconds", "600"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        status = Path(f"/proc/{process.pid}/status")
        end_s = time.monotonic() + 60
        while not int(re.findall(r"SigCgt:\s*(\w+)", status.read_text())[0], 16) >> (signal.SIGTERM - 1) & 1:
            assert time.monotonic() < end_s
            time.sleep(0.05)
        process.send_signal(number)
        assert process.communicate(timeout=60) == ("", f"edgecnn: {said}\n")
        assert process.returncode == 128 + number
