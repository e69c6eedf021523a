"""The board that the program runs on: how hot it is, and whether it slows itself down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# What names the processor's sensor on a Raspberry Pi, on other boards, and on a PC.
_PROCESSOR = ("cpu", "soc", "x86_pkg_temp")
_PLAUSIBLE_C = (-40.0, 150.0)  # sensors that are off say 0 K, or some large number
# https://www.raspberrypi.com/documentation/computers/os.html#get_throttled; from bit 16 on the same since the start.
_THROTTLED = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")


@dataclass(frozen=True)
class Board:
    """What the system says of the board; None is not known.

    Attributes:
        temperature_c: of the processor, in °C.
        throttled: what slows it down at this moment, in words; empty where nothing does. Raspberry Pi alone.
        throttled_before: the same for what did since the start and does not at this moment.
    """

    temperature_c: float | None = None
    throttled: tuple[str, ...] | None = None
    throttled_before: tuple[str, ...] | None = None


def read_board(system: Path = Path("/sys")) -> Board:
    """Reads the board's state from Linux' files. Where there are none, nothing is known.

    Args:
        system: where sysfs is.
    """
    # The Raspberry Pi 5 calls the node soc@107c000000, and some of its kernels have no such file.
    paths = sorted(system.glob("devices/platform/soc*/soc*:firmware/get_throttled"))
    bits = _number(paths[0], 16) if paths else None
    if bits is None:
        return Board(_temperature(system))
    now = tuple(words for bit, words in enumerate(_THROTTLED) if bits >> bit & 1)
    before = tuple(words for bit, words in enumerate(_THROTTLED, 16) if bits >> bit & 1 and words not in now)
    return Board(_temperature(system), now, before)


def _temperature(system: Path) -> float | None:
    zones = sorted(system.glob("class/thermal/thermal_zone*"))
    # The processor's first, the others in their order: many boards have one that says nothing of itself.
    for zone in sorted(zones, key=lambda zone: not _text(zone / "type").startswith(_PROCESSOR)):
        thousandths = _number(zone / "temp", 10)
        if thousandths is not None and _PLAUSIBLE_C[0] < thousandths / 1e3 < _PLAUSIBLE_C[1]:
            return thousandths / 1e3
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):  # a sensor may be listed and not answer
        return ""


def _number(path: Path, base: int) -> int | None:
    try:
        return int(_text(path), base)
    except ValueError:
        return None
