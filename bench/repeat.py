"""`edgecnn bench` twice, in turns: how far apart the medians of two runs are.

    python bench/repeat.py --artifacts models/efficientnet_lite0-int8.tflite models/efficientnet_lite0-float32.tflite

A run is several commands, each a process of its own that times all artifacts with one thread and with all cores; the
commands of the two runs take turns, so that a slow minute of a shared machine meets both alike. What is compared is the
runs' median of the commands' median time of a frame, from file to decision. How far single commands were apart, which
is what a user sees who repeats one on the same machine, stands beside it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from bench._report import Report, Target, arguments, edgecnn, finish

MAX_DIFFERENCE_PERCENT = 5.0


def medians_ms(artifacts: list[Path], seconds: float) -> tuple[dict[str, float], list[str]]:
    """Median total by artifact and threads, and what the command remarks."""
    document = json.loads(edgecnn("bench", *artifacts, "--seconds", f"{seconds:g}", "--json").output)
    found = {
        f"{Path(own['artifact']).name}, {timed['threads']} threads": timed["timings_ms"]["total"]["p50"]
        for own in document["artifacts"]
        for timed in own["timed"]
    }
    return found, document["remarks"]


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    parser.add_argument("--artifacts", type=Path, nargs="+", required=True)
    parser.add_argument("--commands", type=int, default=12, help="of each run")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each command")
    options = parser.parse_args()
    runs: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    remarks: list[str] = []
    for turn in range(options.commands):
        # Who comes first changes, as it may find a cooler processor.
        for run in (0, 1) if turn % 2 == 0 else (1, 0):
            found, said = medians_ms(options.artifacts, options.seconds)
            runs[run].append(found)
            remarks += [f"run {run + 1}, command {turn + 1}: {line}" for line in said]
            print(turn + 1, run + 1, found, file=sys.stderr, flush=True)
    rows, worst = [], 0.0
    for name in runs[0][0]:
        times_ms = np.array([[found[name] for found in run] for run in runs])
        first_ms, second_ms = map(float, np.median(times_ms, axis=1))
        change = 100 * (second_ms / first_ms - 1)
        worst = max(worst, abs(change))
        cells = (f"{first_ms:.2f}", f"{second_ms:.2f}", f"{change:+.1f}", f"{times_ms.min():.2f}-{times_ms.max():.2f}")
        rows.append((name, *cells))
    target = Target("largest difference of two runs in percent", worst, MAX_DIFFERENCE_PERCENT)
    columns = ("artifact", "ms", "ms again", "%", "single commands, ms")
    return finish(Report("repeat", "`edgecnn bench` twice", columns, rows, [target], remarks), options.out)


if __name__ == "__main__":
    sys.exit(main())
