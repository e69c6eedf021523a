"""One picture by `edgecnn classify` as a whole process, against a process that only imports what it needs.

    python bench/startup.py --artifact runs/quickstart/artifacts/efficientnet_lite0-int8.tflite --picture photo.jpg

The runs take turns; one of each goes before them, so that files are read from the disk's cache.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from bench._report import Finished, Report, Target, arguments, edgecnn, finish, run

MAX_WALL_S = 0.6
MAX_PEAK_MB = 130
MAX_IMPORT_S = 0.3

ENGINES = {".tflite": "ai_edge_litert.interpreter", ".onnx": "onnxruntime"}
_TIMED_IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def measure(artifact: Path, picture: Path, runs: int) -> dict[str, list[Finished]]:
    """For each kind of process its runs; those that import print how many seconds the import took."""

    def importing(modules: str) -> Finished:
        return run([sys.executable, "-c", _TIMED_IMPORT.format(modules)])

    engine = ENGINES[artifact.suffix]
    kinds: dict[str, Callable[[], Finished]] = {
        "edgecnn classify": lambda: edgecnn("classify", artifact, picture),
        "import edgecnn_runtime": lambda: importing("edgecnn_runtime.classifier"),
        f"import numpy, cv2, {engine}": lambda: importing(f"numpy, cv2, {engine}"),
    }
    results: dict[str, list[Finished]] = {kind: [] for kind in kinds}
    for turn in range(runs + 1):
        for kind, start in kinds.items():
            finished = start()
            if turn:
                results[kind].append(finished)
    return results


def report(results: dict[str, list[Finished]], artifact: Path) -> Report:
    """The medians of the wall times and of the imports, the largest of the peaks."""
    wall, cpu, peak, imports = {}, {}, {}, {}
    for kind, runs in results.items():
        wall[kind] = statistics.median(one.wall_s for one in runs)
        cpu[kind] = statistics.median(one.cpu_s for one in runs)
        peak[kind] = max(one.peak_mb for one in runs)
        if kind.startswith("import"):
            imports[kind] = statistics.median(float(one.output) for one in runs)
    rows = []
    for kind in results:
        imported = f"{imports[kind]:.3f}" if kind in imports else ""
        rows.append((kind, f"{wall[kind]:.3f}", f"{cpu[kind]:.3f}", f"{peak[kind]:.1f}", imported))
    return Report(
        "startup",
        "One picture, whole process",
        ("process", "wall s", "CPU s", "peak MB", "import s"),
        rows,
        (
            Target("edgecnn classify, wall s", wall["edgecnn classify"], MAX_WALL_S),
            Target("edgecnn classify, peak MB", peak["edgecnn classify"], MAX_PEAK_MB),
            Target("import edgecnn_runtime, s", imports["import edgecnn_runtime"], MAX_IMPORT_S),
        ),
        (
            f"{artifact.name}; medians of {len(results['edgecnn classify'])} runs, the largest peak of resident memory",
            "files in the disk's cache",
        ),
        {"wall_s": wall, "cpu_s": cpu, "peak_mb": peak, "import_s": imports},
    )


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    return finish(report(measure(options.artifact, options.picture, options.runs), options.artifact), options.out)


if __name__ == "__main__":
    sys.exit(main())
