"""The doctor on made-up trees of /proc, /sys and the device tree, as the boards have them.

cpuinfo is of https://github.com/fastfetch-cli/fastfetch/issues/1529, the video devices are of
https://github.com/ayufan/camera-streamer/issues/3 (Pi 4) and https://github.com/raspberrypi/libcamera/issues/104
(Pi 5), the Zero 2 W's memory is about that of https://github.com/raspberrypi/linux/issues/5975.
"""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgecnn_runtime.doctor import Finding, machine
from edgecnn_runtime.doctor._child import Said
from edgecnn_runtime.doctor.cameras import cameras

ARM = "fp asimd evtstrm crc32 cpuid"
DOT_PRODUCT = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
CODECS = {
    10: "bcm2835-codec-decode",
    11: "bcm2835-codec-encode",
    13: "bcm2835-isp-output0",
    31: "bcm2835-codec-encode_image",
}


@dataclass(frozen=True)
class Machine:
    """A board's files: `memory_kb` is total, available and swap, `video` the names of its devices by number."""

    model: str
    features: str
    part: str
    memory_kb: tuple[int, int, int]
    mhz: tuple[int, int]
    governor: str
    temperature: str
    throttled: tuple[str, str]
    video: dict[int, str]


BOARDS = {
    "pi3": Machine(
        "Raspberry Pi 3 Model B Plus Rev 1.3",
        ARM,
        "0xd03",
        (929_276, 512_104, 102_396),
        (600, 1400),
        "ondemand",
        "cpu-thermal 51540",
        ("soc/soc:firmware", "0"),
        {0: "HD Pro Webcam C920", **CODECS},
    ),
    "pi4": Machine(
        "Raspberry Pi 4 Model B Rev 1.5",
        ARM,
        "0xd08",
        (3_884_360, 3_300_100, 102_396),
        (600, 1800),
        "ondemand",
        "cpu-thermal 48199",
        ("soc/soc:firmware", "0"),
        {0: "unicam-image", 1: "unicam-embedded", 19: "rpivid", **CODECS},
    ),
    "pi5": Machine(
        "Raspberry Pi 5 Model B Rev 1.0",
        DOT_PRODUCT,
        "0xd0b",
        (8_245_616, 7_400_000, 524_272),
        (1500, 2400),
        "ondemand",
        "cpu-thermal 55650",
        ("soc@107c000000/soc@107c000000:firmware", "0"),
        {0: "rp1-cfe-csi2_ch0", 8: "rp1-cfe-fe_image0", 19: "rpi-hevc-dec", 20: "pispbe-input", 24: "pispbe-output0"},
    ),
    "zero2w": Machine(
        "Raspberry Pi Zero 2 W Rev 1.0",
        ARM,
        "0xd03",
        (426_768, 230_120, 102_396),
        (600, 1000),
        "ondemand",
        "cpu-thermal 42932",
        ("soc/soc:firmware", "0"),
        CODECS,
    ),
}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def tree(root: Path, board: Machine) -> Path:
    core = f"BogoMIPS\t: 108.00\nFeatures\t: {board.features}\nCPU implementer\t: 0x41\nCPU part\t: {board.part}\n\n"
    cores = "".join(f"processor\t: {number}\n{core}" for number in range(4))
    write(root / "proc/cpuinfo", f"{cores}Revision\t: d03115\nModel\t\t: {board.model}\n")
    write(root / "sys/firmware/devicetree/base/model", f"{board.model}\0")
    total, available, swap = board.memory_kb
    memory = f"MemTotal:       {total} kB\nMemFree:        100 kB\nMemAvailable:   {available} kB\n"
    write(root / "proc/meminfo", f"{memory}SwapTotal:      {swap} kB\nSwapFree:       {swap} kB\n")
    for name, text in (
        ("scaling_governor", board.governor),
        ("scaling_driver", "cpufreq-dt"),
        ("scaling_min_freq", f"{board.mhz[0]}000"),
        ("scaling_max_freq", f"{board.mhz[1]}000"),
    ):
        write(root / "sys/devices/system/cpu/cpu0/cpufreq" / name, f"{text}\n")
    sensor, temperature = board.temperature.split()
    write(root / "sys/class/thermal/thermal_zone0/type", f"{sensor}\n")
    write(root / "sys/class/thermal/thermal_zone0/temp", f"{temperature}\n")
    write(root / "sys/devices/platform" / board.throttled[0] / "get_throttled", f"{board.throttled[1]}\n")
    for number, name in board.video.items():
        write(root / f"sys/class/video4linux/video{number}/name", f"{name}\n")
        write(root / f"sys/class/video4linux/video{number}/index", "0\n")
    return root


def examine(root: Path) -> dict[str, Finding]:
    findings = [
        machine.board(root),
        machine.processor(root),
        machine.memory(root),
        machine.governor(root),
        *machine.heat_and_power(root),
    ]
    return {finding.name: finding for finding in findings}


@pytest.mark.parametrize(
    ("name", "processor", "memory", "governor", "temperature"),
    [
        ("pi3", "Cortex-A53, 4 cores, no dot product", "524 of 952 MB free, 105 MB swap", "600 to 1400 MHz", "52 °C"),
        ("pi4", "Cortex-A72, 4 cores, no dot product", "3379 of 3978 MB free, 105 MB swap", "600 to 1800 MHz", "48 °C"),
        ("pi5", "Cortex-A76, 4 cores, with dot product", "7578 of 8444 MB free", "1500 to 2400 MHz", "56 °C"),
        ("zero2w", "Cortex-A53, 4 cores, no dot product", "236 of 437 MB free", "600 to 1000 MHz", "43 °C"),
    ],
)
def test_a_healthy_raspberry_pi(
    tmp_path: Path, name: str, processor: str, memory: str, governor: str, temperature: str
) -> None:
    found = examine(tree(tmp_path, BOARDS[name]))
    assert {finding.state for finding in found.values()} == {"ok"}
    assert found["board"].found.startswith(f"{BOARDS[name].model}: ")
    assert found["processor"].found.startswith(processor)
    assert found["memory"].found.startswith(memory)
    assert found["governor"].found == f"ondemand, {governor}"
    assert found["temperature"].found == temperature
    assert found["power"].found == "never slowed down since the start"


def test_a_laptop(tmp_path: Path) -> None:
    write(tmp_path / "sys/class/dmi/id/product_name", "ThinkPad X1 Carbon Gen 9\n")
    core = "model name\t: 11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz\nflags\t\t: fpu avx2 avx512_vnni\n\n"
    write(tmp_path / "proc/cpuinfo", "".join(f"processor\t: {number}\n{core}" for number in range(8)))
    write(tmp_path / "proc/meminfo", "MemTotal:       16081912 kB\nMemAvailable:   9912344 kB\nSwapTotal: 0 kB\n")
    folder = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq"
    write(folder / "scaling_governor", "powersave\n")
    write(folder / "scaling_driver", "intel_pstate\n")
    write(tmp_path / "sys/class/thermal/thermal_zone0/type", "x86_pkg_temp\n")
    write(tmp_path / "sys/class/thermal/thermal_zone0/temp", "61000\n")
    found = examine(tmp_path)
    assert {finding.state for finding in found.values()} == {"ok"}
    assert "power" not in found
    assert found["board"].found.startswith("ThinkPad X1 Carbon Gen 9: ")
    assert found["processor"].found == "11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz, 8 cores, with VNNI"


def test_where_nothing_is_told_nothing_is_claimed(tmp_path: Path) -> None:
    found = examine(tmp_path)
    assert {found[name].state for name in ("processor", "memory", "governor", "temperature")} == {"unknown"}


@pytest.mark.parametrize("text", ["", "\0\0", "Features\t:\nFeatures", "MemTotal: lots kB\n", "processor : x"])
def test_files_that_say_something_else_do_no_harm(tmp_path: Path, text: str) -> None:
    for path in ("proc/cpuinfo", "proc/meminfo", "sys/firmware/devicetree/base/model"):
        write(tmp_path / path, text)
    for name in ("governor", "driver", "min_freq", "max_freq"):
        write(tmp_path / f"sys/devices/system/cpu/cpu0/cpufreq/scaling_{name}", text)
    assert "fail" not in {finding.state for finding in examine(tmp_path).values()}


@pytest.mark.parametrize(
    ("flags", "state", "words"),
    [
        ("sse4_2 avx avx2", "warn", "AVX2 without VNNI"),
        ("sse4_2", "warn", "neither AVX2 nor VNNI"),
        ("avx2 avx_vnni", "ok", "with VNNI"),
    ],
)
def test_processors_of_pcs(tmp_path: Path, flags: str, state: str, words: str) -> None:
    write(tmp_path / "proc/cpuinfo", f"processor\t: 0\nmodel name\t: A\nflags\t: {flags}\n")
    finding = machine.processor(tmp_path)
    assert (finding.state, words in finding.found) == (state, True)


def test_a_32_bit_system_on_a_raspberry_pi_fails(tmp_path: Path) -> None:
    features = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm crc32"
    write(tmp_path / "proc/cpuinfo", f"processor\t: 0\nFeatures\t: {features}\nCPU part\t: 0xd03\n")
    finding = machine.processor(tmp_path)
    assert (finding.state, finding.remedy) == ("fail", "install a 64-bit system, where the board can")


@pytest.mark.parametrize(
    ("memory_kb", "state", "words"),
    [
        ((426_768, 60_000, 0), "fail", "61 of 437 MB free, no swap; live needs"),
        ((426_768, 60_000, 102_396), "warn", "live needs"),
        ((426_768, 230_120, 0), "warn", "a short peak ends a program"),
        ((426_768, 230_120, 102_396), "ok", "236 of 437 MB free, 105 MB swap"),
    ],
)
def test_memory(tmp_path: Path, memory_kb: tuple[int, int, int], state: str, words: str) -> None:
    total, available, swap = memory_kb
    text = f"MemTotal: {total} kB\nMemAvailable: {available} kB\nSwapTotal: {swap} kB\nSwapFree: {swap} kB\n"
    write(tmp_path / "proc/meminfo", text)
    finding = machine.memory(tmp_path)
    assert (finding.state, words in finding.found) == (state, True)


def test_a_governor_that_keeps_the_clock_down_is_warned_of(tmp_path: Path) -> None:
    folder = tree(tmp_path, BOARDS["pi4"]) / "sys/devices/system/cpu/cpu0/cpufreq"
    write(folder / "scaling_governor", "powersave\n")
    finding = machine.governor(tmp_path)
    command = "echo {} | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
    assert (finding.state, finding.remedy) == ("warn", command.format("ondemand"))
    write(folder / "scaling_available_governors", "performance powersave schedutil \n")
    assert machine.governor(tmp_path).remedy == command.format("schedutil")


@pytest.mark.parametrize(
    ("bits", "state", "found"),
    [
        ("50005", "fail", "now: under-voltage, throttled"),
        ("50000", "warn", "since the start: under-voltage, throttled"),
        ("80008", "warn", "now: soft temperature limit"),
    ],
)
def test_what_slows_a_raspberry_pi_down(tmp_path: Path, bits: str, state: str, found: str) -> None:
    board = BOARDS["pi5"]
    root = tree(tmp_path, board)
    write(root / "sys/devices/platform" / board.throttled[0] / "get_throttled", bits)
    power = machine.heat_and_power(root)[1]
    assert (power.name, power.state, power.found) == ("power", state, found)
    assert power.remedy


def test_a_raspberry_pi_without_the_flags_names_the_program_that_has_them(tmp_path: Path) -> None:
    write(tmp_path / "sys/firmware/devicetree/base/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    power = machine.heat_and_power(tmp_path)[1]
    assert (power.state, "vcgencmd get_throttled" in power.remedy) == ("unknown", True)


def test_a_hot_processor_is_warned_of(tmp_path: Path) -> None:
    write(tmp_path / "sys/class/thermal/thermal_zone0/temp", "83000\n")
    finding = machine.heat_and_power(tmp_path)[0]
    assert (finding.state, finding.found) == ("warn", "83 °C: hot")
    write(tmp_path / "sys/firmware/devicetree/base/model", "Raspberry Pi 4 Model B Rev 1.5\0")
    assert machine.heat_and_power(tmp_path)[0].found == "83 °C: it slows down"


NO_PICAMERA2 = Said(error="ModuleNotFoundError: No module named 'picamera2'")


def seen(root: Path, device: Said, modules: Said) -> dict[str, Finding]:
    """The cameras of a tree, each of whose devices answers `device`."""
    answers = cameras(root, lambda body: modules if "global_camera_info" in body else device)
    return {finding.name: finding for finding in answers}


def test_a_usb_camera_is_found_among_codecs_and_read(tmp_path: Path) -> None:
    root = tree(tmp_path, BOARDS["pi3"])
    write(root / "sys/class/video4linux/video1/name", "HD Pro Webcam C920\n")
    write(root / "sys/class/video4linux/video1/index", "1\n")
    found = seen(root, Said("640x480"), NO_PICAMERA2)
    assert found == {"camera 0": Finding("camera 0", "ok", "HD Pro Webcam C920, 640x480 px")}


@pytest.mark.parametrize(
    ("error", "state", "found", "remedy"),
    [
        (
            "EdgecnnError: camera 0: run 'sudo usermod -aG video $USER' and log in again "
            "(received: no permission for /dev/video0)",
            "fail",
            "C920: no permission for /dev/video0",
            "run 'sudo usermod -aG video $USER' and log in again",
        ),
        (
            "EdgecnnError: camera 0: serves one program at a time; end the other one "
            "(/dev/video0 is open in: edgecnn, process 7)",
            "warn",
            "C920: /dev/video0 is open in: edgecnn, process 7",
            "serves one program at a time; end the other one",
        ),
        ("nothing in 30 s", "fail", "C920: nothing in 30 s", "plug it in again, or try another one"),
    ],
)
def test_a_camera_that_gives_no_picture(tmp_path: Path, error: str, state: str, found: str, remedy: str) -> None:
    write(tmp_path / "sys/class/video4linux/video0/name", "C920\n")
    finding = seen(tmp_path, Said(error=error), NO_PICAMERA2)["camera 0"]
    assert (finding.state, finding.found, finding.remedy) == (state, found, remedy)


@pytest.mark.parametrize("name", ["pi4", "pi5"])
def test_a_camera_module_needs_picamera2(tmp_path: Path, name: str) -> None:
    root = tree(tmp_path, BOARDS[name])
    found = seen(root, Said("1x1"), NO_PICAMERA2)
    assert list(found) == ["camera module"]
    assert found["camera module"].state == "warn"
    assert "python3-picamera2" in found["camera module"].remedy
    assert "--system-site-packages" in found["camera module"].remedy
    found = seen(root, Said("1280x720"), Said([[1, "imx708"]]))
    assert found == {"camera picamera2:1": Finding("camera picamera2:1", "ok", "imx708, 1280x720 px")}
    stuck = Said(error="EdgecnnError: picamera2:1: gives no picture; is its cable loose? (received: none in 2 s)")
    finding = seen(root, stuck, Said([[1, "imx708"]]))["camera picamera2:1"]
    assert (finding.state, finding.found) == ("fail", "imx708: none in 2 s")
    assert finding.remedy == "gives no picture; is its cable loose?"
    busy = "cannot be started; it serves one program at a time: end the other one (received: Device or resource busy)"
    finding = seen(root, Said(error=f"EdgecnnError: picamera2:1: {busy}"), Said([[1, "imx708"]]))["camera picamera2:1"]
    assert (finding.state, finding.found) == ("warn", "imx708: Device or resource busy")
    assert "check its cable" in seen(root, Said("1x1"), Said([]))["camera module"].remedy
    old = Said(error="ValueError: numpy.dtype size changed, may indicate binary incompatibility")
    assert seen(root, Said("1x1"), old)["camera module"].remedy.endswith("pip install edgecnn-runtime 'numpy<2'")
    missing = Said(error="ImportError: libcamera.so.0.5: cannot open shared object file: No such file or directory")
    assert "apt install --reinstall" in seen(root, Said("1x1"), missing)["camera module"].remedy


def test_a_user_who_may_not_ask_libcamera_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path, BOARDS["pi5"])
    write(root / "dev/media0", "")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # tests may run as root, who may
    finding = seen(root, Said("1x1"), Said([]))["camera module"]
    assert (finding.found, "usermod -aG video" in finding.remedy) == (f"no permission for {root}/dev/media0", True)


@pytest.mark.parametrize(
    ("driver", "device", "is_camera"),
    [
        (0x84A00001, 0x04200001, True),  # uvcvideo, and its second device with data about the pictures
        (0x84A00001, 0x04A00000, False),
        (0x84201000, 0x04201000, True),  # several planes
        (0x84204000, 0x04204000, False),  # a codec
        (0x05000001, 0, True),  # an old driver, which says nothing of the device
    ],
)
def test_v4l2_says_which_devices_are_cameras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: int, device: int, is_camera: bool
) -> None:
    write(tmp_path / "sys/class/video4linux/video0/name", "rkvdec\n")
    write(tmp_path / "dev/video0", "")

    def ioctl(file: object, request: int, answer: bytearray) -> None:
        struct.pack_into("=16s32s32sIII", answer, 0, b"rkvdec", b"rkvdec", b"platform", 0, driver, device)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)  # what linux/videodev2.h has, since no device is here
    assert ("camera 0" in seen(tmp_path, Said("1x1"), NO_PICAMERA2)) is is_camera


def test_no_camera_is_said_and_is_no_failure(tmp_path: Path) -> None:
    finding = seen(tree(tmp_path, BOARDS["zero2w"]), Said("1x1"), NO_PICAMERA2)["camera"]
    assert (finding.state, finding.found) == ("warn", "none found")


@pytest.mark.parametrize(
    ("now_s", "synchronised", "state"),
    [(0.0, True, "fail"), (1.8e9, False, "warn"), (1.8e9, True, "ok"), (1.5e9, True, "fail")],
)
def test_the_clock(tmp_path: Path, now_s: float, synchronised: bool, state: str) -> None:
    finding = machine.clock(tmp_path, now_s, synchronised)
    assert finding.state == state
    assert bool(finding.remedy) == (state != "ok")


def test_the_clock_is_well_where_systemd_has_set_it(tmp_path: Path) -> None:
    write(tmp_path / "run/systemd/timesync/synchronized", "")
    assert machine.clock(tmp_path, 1.8e9).state == "ok"
