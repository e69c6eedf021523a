"""What quantization costs: int8 against float, on test pictures that nothing was fitted to.

    python bench/int8_drop.py [--data PHOTOS] [--seeds 3]

Without --data: `edgecnn quickstart` on the embedded pictures, for which the limit of the drop is stated. With it:
`edgecnn train` and `edgecnn export`, and the drop is shown and not judged.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench._report import Report, Target, arguments, edgecnn, finish

MAX_DROP_POINTS = 1.0
MAX_DIFFERENCE = 1e-4
FORMATS = ("tflite", "onnx")


def artifacts(data: Path | None, seed: int) -> list[dict[str, Any]]:
    """The artifacts' figures, as the command prints them with --json: float32 and int8 of both formats."""
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        environment = {"EDGECNN_CACHE": f"{folder}/cache"}

        def command(*words: str | Path) -> dict[str, Any]:
            document: dict[str, Any] = json.loads(edgecnn(*words, "--json", environment=environment).output)
            return document

        if data is None:
            found = command("quickstart", "--out", run, "--seed", str(seed))["artifacts"]
        else:
            command("train", data, "--out", run, "--seed", str(seed))
            chosen = [word for name in FORMATS for word in ("--format", name)]
            found = command("export", run, *chosen, "--precision", "float32", "--precision", "int8")["artifacts"]
    return [{**artifact, "seed": seed} for artifact in found]


def report(found: list[dict[str, Any]], data: str, judged: bool) -> Report:
    """A row per seed and format, the mean per format."""
    rows: list[tuple[str, ...]] = []
    targets = []
    for name in FORMATS:
        int8 = [one for one in found if one["format"] == name and one["precision"] == "int8"]
        exact = [one for one in found if one["format"] == name and one["precision"] == "float32"]
        drop = statistics.fmean(one["drop_points"] for one in int8)
        rows += [_row(f"{name}, seed {one['seed']}", [one], [other]) for one, other in zip(int8, exact, strict=True)]
        rows.append(_row(f"**{name}, mean**", int8, exact))
        if judged:
            targets.append(Target(f"{name}: int8 drop in points, mean of {len(int8)} seeds,", drop, MAX_DROP_POINTS))
        difference = max(one["max_difference"] for one in exact)
        targets.append(Target(f"{name}: float32 difference of a probability", difference, MAX_DIFFERENCE))
    columns = ("artifact", "float", "int8", "drop, points", "same top-1", "float32 difference")
    notes = (
        f"data: {data}",
        "float is the Keras model; same top-1 compares int8 with it; the difference is the largest of any probability "
        "of any test picture between the float32 artifact and the Keras model, in the last row of any seed",
    )
    return Report("int8_drop", "What int8 costs", columns, rows, targets, notes, {"artifacts": found})


def _row(title: str, int8: list[dict[str, Any]], exact: list[dict[str, Any]]) -> tuple[str, ...]:
    accuracy = statistics.fmean(one["accuracy"]["test"] for one in int8)
    drop = statistics.fmean(one["drop_points"] for one in int8)
    agreement = statistics.fmean(one["agreement"] for one in int8)
    difference = max(one["max_difference"] for one in exact)
    reference = accuracy + drop / 100  # that is how the drop is defined
    return title, f"{reference:.2%}", f"{accuracy:.2%}", f"{drop:+.2f}", f"{agreement:.2%}", f"{difference:.1e}"


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, help="photos instead of the embedded pictures")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    found = [one for seed in range(options.seeds) for one in artifacts(options.data, seed)]
    data = options.data.name if options.data else "embedded pictures"
    return finish(report(found, data, judged=options.data is None), options.out)


if __name__ == "__main__":
    sys.exit(main())
