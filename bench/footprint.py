"""What edgecnn-runtime takes of a device: disk, memory while live, time to start, modules.

    python bench/footprint.py --artifact models/efficientnet_lite0-int8.tflite --picture photo.jpg

Builds the wheel of this tree. Its packages for a Raspberry Pi (arm64) are unpacked and weighed with the byte code that
pip makes of them; nothing of them is run. Memory and time are those of this machine, in environments of their own that
hold what a device would: once with the OpenCV of a Raspberry Pi (headless), and once with a desktop's.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distributions
from pathlib import Path

from uv import find_uv_bin

from bench._report import Report, Target, arguments, finish, resident_mb, run
from bench.endurance import Viewer, running

MAX_BEYOND_MB = 20
MAX_RESIDENT_MB = 110
ROOT = Path(__file__).parents[1]

# What the figures are beyond: these, and what their own metadata asks for.
BASE = {
    "NumPy": ("numpy",),
    "OpenCV": ("opencv-python-headless",),
    "LiteRT and what it needs": (
        "ai-edge-litert",
        "backports.strenum",
        "flatbuffers",
        "ml_dtypes",
        "protobuf",
        "tqdm",
        "typing_extensions",
    ),
}
_ARM64 = ("--python-platform", "aarch64-manylinux_2_28", "--python-version", "3.11", "--only-binary", ":all:")
_LIVE_S, _FPS = 20.0, 30
_UV = find_uv_bin()


def packages_mb(folder: Path) -> dict[str, float]:
    """Size of each distribution in a folder, byte code included."""
    sizes = {}
    for distribution in distributions(path=[str(folder)]):
        files = [Path(str(distribution.locate_file(file))) for file in distribution.files or ()]
        codes = [code for file in files for code in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc")]
        sizes[distribution.name] = sum(file.stat().st_size for file in {*files, *codes} if file.is_file()) / 1e6
    return sizes


def environment(folder: Path, wheel: Path, headless: bool) -> Path:
    """The Python of an environment with the wheel and what it needs, in the versions of constraints.txt."""
    python = folder / "bin" / "python"
    uv = (_UV, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python))
    run((_UV, "venv", "--quiet", "--python", sys.executable, str(folder)))
    run((*uv, "-c", str(ROOT / "constraints.txt"), str(wheel)))
    if headless:
        run(
            (
                find_uv_bin(),
                "pip",
                "uninstall",
                "--quiet",
                "--python",
                str(python),
                "opencv-python",
                "opencv-python-headless",
            )
        )
        run((*uv, "-c", str(ROOT / "constraints.txt"), "--no-deps", "opencv-python-headless"))
    return python


def forget(folder: Path) -> None:
    """Lets the kernel drop a folder's libraries from its cache, as after a start of the device: where it has read them
    anyway it maps up to 20 MB that nothing asked for, which count as resident."""
    os.sync()
    for path in folder.rglob("*.so*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def live_mb(python: Path, artifact: Path) -> float:
    """Largest resident memory of `edgecnn live` with the test card, from 3 s on, while a viewer takes every frame."""
    with running(artifact, True, _FPS, str(python)) as (process, port):
        Viewer(port).start()
        largest, start = 0.0, time.monotonic()
        while (elapsed := time.monotonic() - start) < _LIVE_S:
            time.sleep(0.05)
            if elapsed > 3:
                largest = max(largest, resident_mb(process))
        return largest


def modules(python: Path, words: tuple[str, ...]) -> int:
    """How many modules a command imports."""
    command = [str(python), "-X", "importtime", "-m", "edgecnn_runtime", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.stderr.count("import time:") - 1  # the heading


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    os.environ.pop("PYTHONPATH", None)  # the environments below hold all that they need
    commands: dict[str, tuple[str, ...]] = {
        "--version": ("--version",),
        "info": ("info", str(options.artifact)),
        "selftest": ("selftest", str(options.artifact)),
        "classify": ("classify", str(options.artifact), str(options.picture)),
        "live, one frame": ("live", str(options.artifact), "--camera", "fake:", "--frames", "1", "--port", "0"),
        "doctor": ("doctor",),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder))
        run((*build, str(ROOT / "runtime")))
        (wheel,) = folder.glob("*.whl")
        arm64 = (
            find_uv_bin(),
            "pip",
            "install",
            "--quiet",
            "--compile-bytecode",
            "--target",
            str(folder / "arm64"),
            *_ARM64,
        )
        run((*arm64, "-c", str(ROOT / "constraints.txt"), str(wheel)))
        sizes = packages_mb(folder / "arm64")
        pythons = {
            kind: environment(folder / kind, wheel, headless=kind == "headless") for kind in ("headless", "desktop")
        }
        resident = {}
        for kind, python in pythons.items():
            forget(folder / kind)
            resident[kind] = live_mb(python, options.artifact)
        program = str(pythons["headless"].with_name("edgecnn"))
        started = {
            command: [
                run((program, *words), codes=(0, 1) if command == "doctor" else (0,))  # 1: it found something
                for _ in range(options.runs + 1)
            ][1:]
            for command, words in commands.items()
        }
        counts = {command: modules(pythons["headless"], words) for command, words in commands.items()}
    base = {group: sum(sizes[package] for package in members) for group, members in BASE.items()}
    beyond = {name: mb for name, mb in sizes.items() if not any(name in members for members in BASE.values())}
    beyond_mb = sum(beyond.values())
    rows = [(f"arm64: {group}", f"{mb:.1f}", "", "", "") for group, mb in base.items()]
    rows += [
        ("arm64: beyond them", f"{beyond_mb:.1f}", "", "", ""),
        ("arm64: all", f"{sum(sizes.values()):.1f}", "", "", ""),
    ]
    rows += [(f"live with its page, {kind} OpenCV", "", f"{mb:.1f}", "", "") for kind, mb in resident.items()]
    rows += [
        (
            f"edgecnn {command}",
            "",
            f"{max(one.peak_mb for one in runs):.1f}",
            f"{statistics.median(one.wall_s for one in runs):.2f}",
            str(counts[command]),
        )
        for command, runs in started.items()
    ]
    parts = ", ".join(f"{name} {mb:.1f}" for name, mb in sorted(beyond.items(), key=lambda item: -item[1]))
    return finish(
        Report(
            "footprint",
            "What the runtime takes of a device",
            ("what", "disk MB", "resident MB", "start s", "modules"),
            rows,
            (
                Target("arm64, MB beyond NumPy, OpenCV, the engine and what they need", beyond_mb, MAX_BEYOND_MB),
                Target("live with its page, resident MB (OpenCV as on a Pi)", resident["headless"], MAX_RESIDENT_MB),
            ),
            (
                f"{options.artifact.name}; 1 MB is 1e6 bytes; byte code included",
                f"beyond: {parts}",
                f"resident: of live the largest in {_LIVE_S:.0f} s of 640x480 frames with one viewer, libraries read "
                "anew; of the others the peak",
                f"start: whole process with files in the disk's cache, median of {options.runs}; headless OpenCV",
            ),
            {
                "packages_mb": sizes,
                "resident_mb": resident,
                "start_s": {command: [one.wall_s for one in runs] for command, runs in started.items()},
                "modules": counts,
            },
        ),
        options.out,
    )


if __name__ == "__main__":
    sys.exit(main())
