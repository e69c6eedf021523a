"""`edgecnn bench` twice: how far apart the medians of two runs are.

    python bench/repeat.py --artifacts models/efficientnet_lite0-int8.tflite models/efficientnet_lite0-float32.tflite

Each run is a process of its own that times all artifacts with one thread and with all cores. What is compared is the
median time of a frame, from file to decision, of each artifact and number of threads.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench._report import Report, Target, arguments, edgecnn, finish

MAX_DIFFERENCE_PERCENT = 5.0


def medians_ms(artifacts: list[Path]) -> tuple[dict[str, float], list[str]]:
    """Median total by artifact and threads, and what the command remarks."""
    document = json.loads(edgecnn("bench", *artifacts, "--json").output)
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
    parser.add_argument("--pairs", type=int, default=3, help="how often two runs are compared")
    options = parser.parse_args()
    rows, worst, notes = [], 0.0, []
    for pair in range(options.pairs):
        (first, said), (second, also_said) = medians_ms(options.artifacts), medians_ms(options.artifacts)
        for name, before_ms in first.items():
            change = 100 * (second[name] / before_ms - 1)
            worst = max(worst, abs(change))
            rows.append((f"{pair + 1}: {name}", f"{before_ms:.2f}", f"{second[name]:.2f}", f"{change:+.1f}"))
            print(rows[-1], file=sys.stderr, flush=True)
        notes += [
            f"pair {pair + 1}, run {run}: {line}" for run, lines in enumerate((said, also_said), 1) for line in lines
        ]
    target = Target("largest difference of two runs in percent", worst, MAX_DIFFERENCE_PERCENT)
    columns = ("pair: artifact", "ms", "ms again", "%")
    return finish(Report("repeat", "`edgecnn bench` twice", columns, rows, [target], notes), options.out)


if __name__ == "__main__":
    sys.exit(main())
