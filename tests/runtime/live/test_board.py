"""Temperature and throttling from made-up trees of sysfs."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecnn_runtime.live.board import Board, read_board

THROTTLED = "devices/platform/soc/soc:firmware/get_throttled"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def zone(system: Path, index: int, kind: str, temperature: str) -> None:
    write(system / f"class/thermal/thermal_zone{index}/type", f"{kind}\n")
    write(system / f"class/thermal/thermal_zone{index}/temp", f"{temperature}\n")


def test_nothing_is_known_where_there_is_nothing(tmp_path: Path) -> None:
    assert read_board(tmp_path) == Board(None, None, None)


@pytest.mark.parametrize(
    ("zones", "temperature_c"),
    [
        ([("cpu-thermal", "54321")], 54.321),
        ([("acpitz", "27800"), ("x86_pkg_temp", "61000")], 61.0),
        ([("iwlwifi_1", "41000")], 41.0),
        ([("cpu-thermal", "-274000"), ("gpu-thermal", "45000")], 45.0),
        ([("cpu-thermal", ""), ("soc_thermal", "nonsense")], None),
        ([("cpu-thermal", "-5000")], -5.0),
    ],
)
def test_the_processor_s_sensor_comes_first_and_nonsense_is_left_out(
    tmp_path: Path, zones: list[tuple[str, str]], temperature_c: float | None
) -> None:
    for index, (kind, text) in enumerate(zones):
        zone(tmp_path, index, kind, text)
    assert read_board(tmp_path).temperature_c == temperature_c


@pytest.mark.parametrize(
    ("text", "now", "before"),
    [
        ("0\n", (), ()),
        ("50005\n", ("under-voltage", "throttled"), ()),
        ("0x50000\n", (), ("under-voltage", "throttled")),
        ("d0008", ("soft temperature limit",), ("under-voltage", "throttled")),
        ("e0002", ("frequency capped",), ("throttled", "soft temperature limit")),
    ],
)
def test_the_bits_of_a_raspberry_pi(tmp_path: Path, text: str, now: tuple[str, ...], before: tuple[str, ...]) -> None:
    write(tmp_path / THROTTLED, text)
    assert read_board(tmp_path) == Board(None, now, before)


@pytest.mark.parametrize("text", ["", "what", "\x00"])
def test_bits_that_are_none_are_not_known(tmp_path: Path, text: str) -> None:
    write(tmp_path / THROTTLED, text)
    assert read_board(tmp_path).throttled is None


def test_a_sensor_that_does_not_answer_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "class/thermal/thermal_zone0/temp").mkdir(parents=True)
    (tmp_path / THROTTLED).mkdir(parents=True)
    assert read_board(tmp_path) == Board()


def test_the_raspberry_pi_5_has_them_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled", "50000\n")
    assert read_board(tmp_path).throttled_before == ("under-voltage", "throttled")
