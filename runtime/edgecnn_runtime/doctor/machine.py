"""The board: processor, memory, clock, power; and the page's port."""

from __future__ import annotations

import ctypes
import platform
import re
import sys
import time
from pathlib import Path

from edgecnn_runtime.doctor import Finding, text_of
from edgecnn_runtime.errors import EdgecnnError
from edgecnn_runtime.live.board import read_board

# https://github.com/util-linux/util-linux/blob/master/sys-utils/lscpu-arm.c, those of the boards in docs/devices.md.
_ARM_CORES = {
    "0xd03": "Cortex-A53",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
    "0xd42": "Cortex-A78AE",
}
_LIVE_MB = 120  # of `edgecnn live` with the page, see bench/footprint.py
_SMALL_MB = 1000
# A Raspberry Pi slows down from 80 °C on (https://www.raspberrypi.com/documentation/computers/config_txt.html).
_HOT_C = 80.0
_WRITTEN_S = 1767225600.0  # 2026-01-01: no clock that is right shows an earlier time
_TIME_ERROR = 5  # what adjtimex(2) returns while nothing sets the clock
_UNKNOWN = "this system does not tell"


def board(root: Path) -> Finding:
    """Which board, system and Python."""
    # The device tree is that of Arm boards; PCs name themselves in the DMI table.
    model = (
        text_of(root / "sys/firmware/devicetree/base/model")
        or text_of(root / "sys/class/dmi/id/product_name")
        or platform.node()
    )
    bits = 64 if sys.maxsize > 2**32 else 32
    words = (
        f"{model}: {platform.system()} {platform.release()}, {platform.machine()}, Python {platform.python_version()}"
    )
    if bits == 32:
        return Finding("board", "fail", f"{words}, 32 bits", "install a 64-bit system: no engine is made for 32 bits")
    return Finding("board", "ok", words)


def processor(root: Path) -> Finding:
    """Whether it multiplies 8-bit numbers several at a time, which is what makes int8 fast."""
    text = text_of(root / "proc/cpuinfo")
    found = re.search(r"^(?:Features|flags)\s*:(.*)$", text, re.MULTILINE)
    if found is None:
        return Finding("processor", "unknown", _UNKNOWN)
    features = set(found[1].split())
    count = len(re.findall(r"^processor\s*:", text, re.MULTILINE))
    part = re.search(r"^CPU part\s*:\s*(\w+)", text, re.MULTILINE)
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    core = _ARM_CORES.get(part[1], f"Arm part {part[1]}") if part else name[1].strip() if name else "processor"
    words = f"{core}, {count} core{'' if count == 1 else 's'}"
    if "asimddp" in features:
        return Finding("processor", "ok", f"{words}, with dot product, of which int8 makes use")
    if "asimd" in features:
        return Finding("processor", "ok", f"{words}, no dot product: int8 is smaller, and gains less speed")
    if "neon" in features or part:
        return Finding("processor", "fail", f"{words}, a 32-bit system", "install a 64-bit system, where the board can")
    if "avx512_vnni" in features or "avx_vnni" in features:
        return Finding("processor", "ok", f"{words}, with VNNI")
    wide = "AVX2 without VNNI" if "avx2" in features else "neither AVX2 nor VNNI"
    return Finding(
        "processor",
        "warn",
        f"{words}, {wide}: int8 .onnx files may compute something else here",
        "edgecnn selftest MODEL tells; .tflite files are not concerned",
    )


def memory(root: Path) -> Finding:
    """Whether `edgecnn live` fits. 1 MB is 1e6 bytes."""
    text = text_of(root / "proc/meminfo")
    fields = dict(re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE))
    if not {"MemTotal", "MemAvailable"} <= set(fields):
        return Finding("memory", "unknown", _UNKNOWN)
    total, free, swap, swap_free = (
        int(fields.get(name, 0)) * 1.024e-3 for name in ("MemTotal", "MemAvailable", "SwapTotal", "SwapFree")
    )
    words = f"{free:.0f} of {total:.0f} MB free, {f'{swap:.0f} MB' if swap else 'no'} swap"
    if free + swap_free < _LIVE_MB:
        return Finding("memory", "fail", f"{words}; live needs {_LIVE_MB} MB", "end other programs, or the desktop")
    if free < _LIVE_MB:
        return Finding("memory", "warn", f"{words}; live needs {_LIVE_MB} MB", "end other programs, or the desktop")
    if total < _SMALL_MB and not swap:
        return Finding("memory", "warn", f"{words}: a short peak ends a program", "sudo apt install -y zram-tools")
    return Finding("memory", "ok", words)


def governor(root: Path) -> Finding:
    """Whether the processor's clock may rise."""
    folder = root / "sys/devices/system/cpu/cpu0/cpufreq"
    name, driver = text_of(folder / "scaling_governor"), text_of(folder / "scaling_driver")
    if not name:
        return Finding("governor", "unknown", _UNKNOWN)
    limits = [text_of(folder / f"scaling_{end}_freq") for end in ("min", "max")]
    span = f", {int(limits[0]) // 1000} to {int(limits[1]) // 1000} MHz" if all(map(str.isdecimal, limits)) else ""
    # The drivers of Intel's and AMD's processors call one "powersave" that does rise.
    if name == "powersave" and not re.search("pstate", driver):
        offered = text_of(folder / "scaling_available_governors").split()
        better = next((one for one in ("schedutil", "ondemand", "performance") if one in offered), "ondemand")
        return Finding(
            "governor",
            "warn",
            f"{name}{span}: the processor stays at its lowest clock",
            f"echo {better} | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        )
    return Finding("governor", "ok", f"{name}{span}")


def heat_and_power(root: Path) -> list[Finding]:
    """Temperature, and what slows a Raspberry Pi down, or has."""
    state = read_board(root / "sys")
    pi = text_of(root / "sys/firmware/devicetree/base/model").startswith("Raspberry Pi")
    if state.temperature_c is None:
        heat = Finding("temperature", "unknown", _UNKNOWN)
    elif state.temperature_c >= _HOT_C:
        what = "it slows down" if pi else "hot"
        heat = Finding("temperature", "warn", f"{state.temperature_c:.0f} °C: {what}", "a heat sink, a fan, or shade")
    else:
        heat = Finding("temperature", "ok", f"{state.temperature_c:.0f} °C")
    if state.throttled is None:
        # No other board has these flags, so that there is nothing to say of one.
        return [heat, Finding("power", "unknown", _UNKNOWN, "vcgencmd get_throttled")] if pi else [heat]
    before = state.throttled_before or ()
    words = "; ".join(
        f"{when}: {', '.join(what)}" for when, what in (("now", state.throttled), ("since the start", before)) if what
    )
    supply = "a power supply and cable that are made for this board"
    cooling = "a heat sink or fan, and a power supply that is made for this board"
    if "under-voltage" in state.throttled:
        return [heat, Finding("power", "fail", words, supply)]
    if words:
        return [heat, Finding("power", "warn", words, supply if "under-voltage" in before else cooling)]
    return [heat, Finding("power", "ok", "never slowed down since the start")]


def clock(root: Path, now_s: float | None = None, synchronised: bool | None = None) -> Finding:
    """Whether the time can be right, and somebody sets it.

    Args:
        now_s: since 1970; the system's where it is left out.
        synchronised: whether the kernel says that its clock is being set; asked of it where it is left out.
    """
    now_s = time.time() if now_s is None else now_s
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now_s))
    remedy = "connect it to a network, then: sudo timedatectl set-ntp true"
    if now_s < _WRITTEN_S:
        return Finding("clock", "fail", f"{shown} cannot be: pip and https will fail", remedy)
    if synchronised is None:
        if (root / "run/systemd/timesync/synchronized").exists():
            synchronised = True
        elif sys.platform == "linux":
            answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024))
            synchronised = None if answer == -1 else answer != _TIME_ERROR
    if synchronised is None:
        return Finding("clock", "unknown", f"{shown}; whether it is being set, {_UNKNOWN}")
    if not synchronised:
        return Finding("clock", "warn", f"{shown}, not synchronised", remedy)
    return Finding("clock", "ok", f"{shown}, synchronised")


def port(number: int) -> Finding:
    """Whether the page of `edgecnn live` can be served at this port."""
    from edgecnn_runtime.live.listening import HOST, listen

    try:
        # For others, as a service has it, of which this machine alone is a part. Other systems may ask before they
        # let a program listen to others.
        listen("0.0.0.0" if sys.platform == "linux" else HOST, number).close()
    except EdgecnnError as error:
        return Finding("page", "warn", str(error), "nothing, if 'edgecnn live' is what serves there already")
    return Finding("page", "ok", f"port {number} is free")
