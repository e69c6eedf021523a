"""Executed arm64 instructions of one inference and of one 1280x720 frame, on the processors of a Pi 4 and a Pi 5.

    python bench/arm64.py [--backbones mobilenet_v3_small …] [--precisions int8 …] [--boards pi5] [--keep]

The emulated Raspberry Pi of tests/system/arm64 runs the wheel of this tree, and a QEMU plugin counts what it executes:
with one thread, whatever else the machine does, the same number within a few parts in a hundred thousand. IT IS NOT A
LATENCY: an instruction may take a quarter of a cycle or hundreds. It tells that a change of a converter, of
preprocessing or of an engine's version made the device do more work.

The figures of the last change are in bench/baselines/arm64.json. One that moved by more than 2 % is a missed target:
explain it in the message of the commit that brings the new figures, which --keep writes. Needs what the tests need
(`make test-arm64` says what), Debian's packages qemu-user (QEMU 6 to 8) and gcc.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from bench._counted import TURNS
from bench._networks import CLASSES, add_backbones, chosen, living_model, soft_pictures
from bench._report import Report, Target, arguments, finish, run
from edgecnn import backbones
from edgecnn_converters import formats
from edgecnn_converters.freeze import freeze
from edgecnn_runtime.classifier import write_artifact
from edgecnn_runtime.contract import Contract, Provenance
from tests.system.arm64.emulated_pi import BOARDS, EmulatedPi, prepared, unavailable

HERE = Path(__file__).parent
BASELINE = HERE / "baselines" / "arm64.json"
MAX_CHANGE_PERCENT = 2.0
MAX_INFERENCE_MILLIONS = {("mobilenet_v3_small", "tflite", "int8", "pi5"): 13.0}
MAX_PREPROCESSING_SHARE = 1 / 3
PICTURES = 32

Key = tuple[str, str, str, str]  # backbone, format, precision, board


@dataclass(frozen=True)
class Counted:
    """Executed instructions, in millions: of one inference, of preprocessing a 1280x720 frame, and of both with what
    lies between them."""

    inference: float
    preprocessing: float
    frame: float


def plugin(folder: Path) -> Path:
    """Compiles it. Ends the program with the compiler's words where that fails."""
    made = folder / "count.so"
    run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(made), str(HERE / "_count_instructions.c")])
    return made


# Debian's static QEMU, which the tests use, loads no plugin, and the other one does not start inside the Pi's root: it
# looks up the Pi's files from outside instead. The program must then start no other.
_ENTER = 'mount --bind "$2/proc" "$1/proc" && mount --bind "$2/sys" "$1/sys" && shift 2 && exec env -i "$@"'


def readings(pi: EmulatedPi, counter: Path, paths: Sequence[Path]) -> list[list[int]]:
    """Instructions of each turn of each piece of work in `bench._counted`. Ends the program where it fails."""
    packages = pi.root / f"opt/edgecnn/lib/python{pi.board.python}/site-packages"
    variables = {"PYTHONHASHSEED": 0, "PYTHONHOME": "/usr", "OPENBLAS_NUM_THREADS": 1, "PYTHONPATH": packages}
    given = [word for name, value in variables.items() for word in ("-E", f"{name}={value}")]
    emulator = ["qemu-aarch64", "-cpu", pi.board.core, "-L", str(pi.root), "-plugin", str(counter), *given]
    program = [str(pi.root / "usr/bin/python3"), "-P", str(HERE / "_counted.py"), *map(str, paths)]
    enter = ["sh", "-c", _ENTER, "enter", str(pi.root), str(pi.board_files)]
    environment = ["PATH=/usr/bin:/bin", "HOME=/root", "LANG=C.UTF-8"]
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    done = subprocess.run([*namespace, *enter, *environment, *emulator, *program], capture_output=True, text=True)
    found = [int(line.split()[1]) for line in done.stderr.splitlines() if line.startswith("executed ")]
    if done.returncode or len(found) != (1 + 3 * len(paths)) * (TURNS + 1):
        sys.exit(f"counting failed on {pi.board.name}: {done.stderr.strip().splitlines()[-1:]}")
    parts = [found[start : start + TURNS + 1] for start in range(0, len(found), TURNS + 1)]
    return [[after - before for before, after in pairwise(part)] for part in parts]


def artifacts(name: str, precisions: Sequence[str], folder: Path) -> dict[tuple[str, str], Path]:
    """Converts a backbone, untrained, into the named precisions of every format."""
    size_px = backbones.get(name).size_px
    pictures = soft_pictures(PICTURES, size_px)
    function = freeze(living_model(name, size_px, pictures), size_px, size_px)
    made = {}
    for format in formats.names():
        for precision in formats.get(format).PRECISIONS:
            if precision in precisions:
                source = Provenance(backbone=name, precision=precision, weights="none")
                contract = Contract(size_px, size_px, tuple("abcdefghij"[:CLASSES]), source)
                path = made[format, precision] = folder / f"{name}-{precision}.{format}"
                write_artifact(path, formats.get(format).convert(function, precision, pictures), contract)
    return made


def measure(name: str, precisions: Sequence[str], pis: Sequence[EmulatedPi], counter: Path) -> dict[Key, Counted]:
    """Counts a backbone's artifacts on each board."""
    found = {}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        made = artifacts(name, precisions, Path(folder))
        for pi, works in zip(pis, pool.map(lambda pi: readings(pi, counter, list(made.values())), pis), strict=True):
            nothing, *rest = [min(turns) for turns in works]
            millions = [(executed - nothing) / 1e6 for executed in rest]
            for number, (format, precision) in enumerate(made):
                found[name, format, precision, pi.board.name] = Counted(*millions[3 * number : 3 * number + 3])
    print(f"{name} done", file=sys.stderr, flush=True)
    return found


def targets(counted: Mapping[Key, Counted], kept: Mapping[str, Mapping[str, float]]) -> list[Target]:
    """What is promised of these figures, and that none has moved since the last change."""
    found = []
    for key, own in counted.items():
        words = " ".join(key)
        if limit := MAX_INFERENCE_MILLIONS.get(key):
            found.append(Target(f"{words}: millions of instructions of an inference", own.inference, limit))
        if key[1:3] == ("tflite", "int8"):
            share = own.preprocessing / own.frame
            found.append(Target(f"{words}: share of preprocessing in a frame", share, MAX_PREPROCESSING_SHARE))
        for what, value in asdict(own).items():
            if before := kept.get(words, {}).get(what):
                change = 100 * (value / before - 1)
                if abs(change) > MAX_CHANGE_PERCENT:
                    said = f"{words}: {what} changed from {before:.2f} to {value:.2f} M, by percent"
                    found.append(Target(said, abs(change), MAX_CHANGE_PERCENT))
    return found


def report(counted: Mapping[Key, Counted], kept: Mapping[str, Mapping[str, float]]) -> Report:
    """A row for each artifact on each board."""
    columns = ("backbone, format, precision, board", "inference", "preprocessing", "frame", "share", "change %")
    rows = []
    for key, own in counted.items():
        before = kept.get(" ".join(key), {}).get("frame")
        change = f"{100 * (own.frame / before - 1):+.2f}" if before else "new"
        numbers = (f"{own.inference:.2f}", f"{own.preprocessing:.2f}", f"{own.frame:.2f}")
        rows.append((" ".join(key), *numbers, f"{own.preprocessing / own.frame:.2f}", change))
    return Report(
        "arm64",
        "Executed arm64 instructions, in millions",
        columns,
        rows,
        targets(counted, kept),
        (
            "no latency: an instruction takes a quarter of a cycle or hundreds of them; only a change says something",
            "1280x720 frame to decision, one thread; change: of the frame, against bench/baselines/arm64.json",
            *(f"{board.name}: {board.core}, Debian {board.suite}" for board in BOARDS.values()),
        ),
        {"millions": {" ".join(key): asdict(own) for key, own in counted.items()}},
    )


def keep(counted: Mapping[Key, Counted], kept: Mapping[str, Mapping[str, float]]) -> None:
    """Writes these figures over those that are kept; others stay."""
    own = {
        " ".join(key): {what: round(value, 3) for what, value in asdict(one).items()} for key, one in counted.items()
    }
    lines = [f"  {json.dumps(words)}: {json.dumps(one)}" for words, one in sorted({**kept, **own}.items())]
    BASELINE.parent.mkdir(exist_ok=True)
    BASELINE.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    add_backbones(parser)
    every = list(dict.fromkeys(name for format in formats.names() for name in formats.get(format).PRECISIONS))
    parser.add_argument("--precisions", nargs="+", default=every, choices=every, metavar="NAME")
    parser.add_argument("--boards", nargs="+", default=list(BOARDS), choices=list(BOARDS), metavar="NAME")
    parser.add_argument("--keep", action="store_true", help="keep these figures in the repository")
    options = parser.parse_args()
    missing = [name for name in ("qemu-aarch64", "gcc") if shutil.which(name) is None]
    if reason := unavailable() or (missing and f"to count instructions, install {' and '.join(missing)}"):
        sys.exit(str(reason))
    kept = json.loads(BASELINE.read_text("utf-8")) if BASELINE.exists() else {}
    counted: dict[Key, Counted] = {}
    with tempfile.TemporaryDirectory() as folder:
        counter = plugin(Path(folder))
        pis = [prepared(BOARDS[name], Path(folder)) for name in options.boards]
        for name in chosen(options.backbones):
            counted |= measure(name, options.precisions, pis, counter)
            if options.keep:
                keep(counted, kept)
    return finish(report(counted, kept), options.out)


if __name__ == "__main__":
    sys.exit(main())
