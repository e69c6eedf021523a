"""What is made of times, and times of real engines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecnn_runtime.contract import Contract
from edgecnn_runtime.decode import decode
from edgecnn_runtime.errors import ModelError, PictureError
from edgecnn_runtime.live.board import Board
from edgecnn_runtime.timing import (
    MIN_ROUNDS,
    PARTS,
    Conditions,
    Speed,
    Spread,
    camera_like_picture,
    measure_start,
    median_uncertainty,
    remarks,
    slower_int8,
    time_artifacts,
)

CALM = Conditions(seconds=3.0, rounds=40, drift=1.0, others_share=0.01, board=Board())


@pytest.fixture
def speed(tiny_contract: Contract):
    def make(name: str, inference_ms: float, threads: int = 1, uncertainty: float = 0.005, **stated: object) -> Speed:
        parts = dict.fromkeys(PARTS, Spread(inference_ms, inference_ms, inference_ms))
        provenance = replace(tiny_contract.provenance, precision=name.split("-")[1].split(".")[0])
        contract = replace(tiny_contract, provenance=provenance, **stated)
        return Speed(Path(name), contract, threads, 100, parts, uncertainty)

    return make


def test_the_parts_of_every_artifact_and_number_of_threads(tiny_artifact: Path, tiny_onnx: Path) -> None:
    shares: list[float] = []
    speeds, conditions = time_artifacts(
        [tiny_artifact, tiny_onnx], camera_like_picture((160, 120)), [1, 2], 0.0, shares.append
    )
    cases = [(speed.path, speed.threads) for speed in speeds]
    assert cases == [(path, count) for path in (tiny_artifact, tiny_onnx) for count in (1, 2)]
    for each in speeds:
        assert tuple(each.parts) == PARTS
        assert each.frames >= 2 * MIN_ROUNDS
        for spread in each.parts.values():
            assert 0 <= spread.p50 <= spread.p95 <= spread.p99
        medians = {part: spread.p50 for part, spread in each.parts.items()}
        assert 0 < max(medians["decode"], medians["inference"]) < medians["total"]
        assert each.uncertainty >= 0
    assert (conditions.rounds, conditions.seconds > 0) == (MIN_ROUNDS, True)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_a_new_process_tells_its_memory(artifact: Path) -> None:
    start = measure_start(artifact, camera_like_picture((160, 120)))
    assert start.load_ms > 0
    assert start.first_ms > 0
    if Path("/proc/self/statm").exists():
        assert start.resident_mb is not None
        assert start.artifact_mb is not None
        assert 20 < start.resident_mb < 1000
        assert 0 <= start.artifact_mb < start.resident_mb


def test_what_cannot_be_timed_is_an_error(tiny_artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(PictureError):
        time_artifacts([tiny_artifact], b"no picture", [1], 0.0)
    with pytest.raises(ModelError, match="missing"):
        time_artifacts([tmp_path / "missing.tflite"], camera_like_picture((64, 48)), [1], 0.0)
    with pytest.raises(ModelError, match="in a process of its own"):
        measure_start(tiny_artifact, b"no picture")


def test_the_generated_picture_is_no_flat_card() -> None:
    data = camera_like_picture((1280, 720))
    picture = decode(data)
    assert picture.shape == (720, 1280, 3)
    assert picture.std() > 20
    assert 80_000 < len(data) < 250_000, "as webcams make them"
    assert data == camera_like_picture((1280, 720))


def test_the_interval_of_a_median_holds_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = [
        abs(np.median(values) - 1) <= 1.3 * median_uncertainty(values) for values in 1 + rng.random((400, 40)) - 0.5
    ]
    assert np.mean(held) > 0.9
    assert median_uncertainty([5.0] * 20) == 0
    assert median_uncertainty(list(1 + 0.01 * rng.random(400))) < 0.002


def test_int8_is_called_slower_only_where_it_is(speed) -> None:
    int8, float32 = speed("a-int8.tflite", 2.0), speed("a-float32.tflite", 1.0)
    assert slower_int8([int8, float32]) == [(int8, float32)]
    assert slower_int8([speed("a-int8.tflite", 1.0), float32]) == []
    assert slower_int8([speed("a-int8.tflite", 1.02), float32]) == [], "two runs may differ by so much"
    assert slower_int8([speed("a-int8.tflite", 1.2, uncertainty=0.3), float32]) == [], "nobody knows"
    assert slower_int8([int8]) == []
    assert slower_int8([int8, speed("a-float16.tflite", 1.0)]) == []


def test_int8_is_held_against_its_own_network_alone_with_one_thread(speed) -> None:
    int8 = speed("a-int8.tflite", 2.0)
    assert slower_int8([int8, speed("a-float32.tflite", 1.0, height=64)]) == []
    two = [int8, speed("a-float32.tflite", 4.0), speed("a-float32.tflite", 1.0, threads=2)]
    assert slower_int8(two) == []
    fast, slow = speed("a-float32.onnx", 1.0), speed("a-float32.tflite", 1.5)
    assert slower_int8([slow, int8, fast]) == [(int8, fast)]


def test_remarks_say_what_disturbs_and_nothing_else(speed) -> None:
    int8, float32 = speed("a-int8.tflite", 2.0), speed("a-float32.tflite", 1.0)
    assert remarks([float32], CALM) == []
    (said,) = remarks([int8, float32], CALM)
    assert said.startswith("a-int8.tflite is slower here than a-float32.tflite: inference takes 2.00 ms against 1.00")
    for changed, words in (
        (replace(CALM, others_share=0.43), "other programs took 43% of all cores"),
        (replace(CALM, board=Board(81.0, ("throttled", "under-voltage"), ())), "(throttled, under-voltage)"),
        (replace(CALM, drift=1.2), "20% longer at the end"),
    ):
        (said,) = remarks([float32], changed)
        assert words in said
    (said,) = remarks([speed("a-float32.tflite", 1.0, uncertainty=0.2)], CALM)
    assert "known within 20% only" in said
    assert remarks([float32], replace(CALM, others_share=None, board=Board(50.0, (), ("throttled",)))) == []


def test_who_else_works_is_seen(tiny_artifact: Path) -> None:
    import subprocess
    import sys

    if not Path("/proc/stat").exists():
        pytest.skip("the system does not tell")
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            _, conditions = time_artifacts([tiny_artifact], camera_like_picture((640, 480)), [1], 1.0)
        finally:
            other.kill()
    assert conditions.others_share is not None
    assert conditions.others_share > 0.01
