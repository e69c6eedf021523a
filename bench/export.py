"""How long `edgecnn export` takes with every precision of both formats, the gate included, as one process.

    python bench/export.py --data PHOTOS [--backbone efficientnet_lite0] [--turns 3]

The run is made once, by recipe `fast`. Each turn replaces the artifacts of the one before.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from bench._report import Report, Target, arguments, edgecnn, finish

MAX_SECONDS = 180.0


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of photos")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = {"EDGECNN_CACHE": f"{folder}/cache"}
        run = Path(folder, "run")
        words = ("--backbone", options.backbone, "--recipe", "fast", "--out", run)
        edgecnn("train", options.data, *words, environment=environment)
        command = ("export", run, "--overwrite", "--json")
        done = [edgecnn(*command, environment=environment, codes=(0, 3)) for _ in range(options.turns)]  # 3: refused
    artifacts = json.loads(done[-1].output)["artifacts"]
    seconds = [each.wall_s for each in done]
    rows = [
        (
            f"{artifact['format']} {artifact['precision']}",
            f"{artifact['size_mb']:.2f}",
            f"{artifact['drop_points']:+.2f}",
            artifact["gate"]["outcome"],
        )
        for artifact in artifacts
    ]
    report = Report(
        "export",
        f"edgecnn export of {options.backbone}, all {len(rows)} files",
        ("file", "MB", "drop, points", "gate"),
        rows,
        [Target(f"seconds, median of {len(seconds)},", statistics.median(seconds), MAX_SECONDS)],
        [f"seconds of each turn: {', '.join(f'{each:.0f}' for each in seconds)}; the drop is that on test"],
        {"seconds": seconds, "artifacts": artifacts},
    )
    return finish(report, options.out)


if __name__ == "__main__":
    sys.exit(main())
