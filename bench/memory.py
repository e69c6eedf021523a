"""Peak memory of `edgecnn train` on many generated pictures.

    python bench/memory.py [--pictures 100000] [--size 64]

The pictures are coloured blobs of ten classes, written as JPEG files of `size` x `size` pixels. Resident memory has two
parts: what the process owns (anonymous), and pages of the decoded cache, a memory-mapped file, that the kernel keeps as
long as nobody else needs them. The limit is for both together.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from bench._report import Report, Target, arguments, finish

LIMIT_MB = 4000.0
CLASSES = 10
_EVERY_S = 0.05


def generate(folder: Path, count: int, side: int) -> None:
    """`count` pictures of ten classes: a blob whose hue is the class, on noise."""
    rng = np.random.default_rng(0)
    grounds = [cv2.resize(rng.integers(0, 256, (8, 8, 3), np.uint8), (side, side)) for _ in range(64)]
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True)
    for number in range(count):
        label = number % CLASSES
        hue = np.array([[[label * 180 // CLASSES, 200, 220]]], np.uint8)
        picture = grounds[int(rng.integers(64))].copy()
        centre = tuple(int(value) for value in rng.integers(side // 4, 3 * side // 4, 2))
        radius = int(rng.integers(side // 8, side // 3))
        cv2.circle(picture, centre, radius, cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0].tolist(), -1)
        (folder / f"class{label}" / f"{number}.jpg").write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())


def train(folder: Path, recipe: str, side: int) -> tuple[float, float, float, float]:
    """Peak resident MB, peak of its anonymous part, seconds, accuracy on test."""
    words = (
        "train",
        str(folder / "data"),
        "--recipe",
        recipe,
        "--size",
        str(side),
        "--out",
        str(folder / recipe),
        "--json",
    )
    environment = {**os.environ, "EDGECNN_CACHE": str(folder / "cache")}
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "edgecnn_runtime", *words], stdout=subprocess.PIPE, env=environment, text=True
    )
    peak = anonymous = 0.0
    while child.poll() is None:
        try:
            status = Path(f"/proc/{child.pid}/status").read_text("ascii")
        except OSError:
            break
        fields = dict(line.split(":", 1) for line in status.splitlines())
        parts = [int(fields.get(name, "0 kB").split()[0]) / 1e3 for name in ("VmRSS", "RssAnon")]
        peak, anonymous = max(peak, parts[0]), max(anonymous, parts[1])
        time.sleep(_EVERY_S)
    output = child.communicate()[0]
    if child.returncode:
        sys.exit(f"training ended with {child.returncode}")
    return peak, anonymous, time.perf_counter() - start, json.loads(output)["accuracy"]["test"]


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--recipes", default="fast")
    options = parser.parse_args()
    rows, targets = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(folder / "data", options.pictures, options.size)
        for recipe in options.recipes.split(","):
            peak, anonymous, seconds, accuracy = train(folder, recipe, options.size)
            rows.append((recipe, f"{peak:.0f}", f"{anonymous:.0f}", f"{seconds:.0f}", f"{accuracy:.1%}"))
            targets.append(Target(f"{recipe}: peak resident memory in MB", peak, LIMIT_MB))
    title = f"Memory of training on {options.pictures:,} pictures of {options.size} px"
    columns = ("recipe", "peak MB", "of it anonymous", "wall s", "accuracy")
    return finish(Report("memory", title, columns, rows, targets), options.out)


if __name__ == "__main__":
    sys.exit(main())
