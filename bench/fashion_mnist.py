"""Fashion-MNIST, all of it, by MobileNetV3-Small from random weights: accuracy on the 10,000 test pictures.

    apt install dataset-fashion-mnist
    python bench/fashion_mnist.py [--seeds 3] [--size 48] [--epochs 24]

The 60,000 training pictures are written as PNG files, the last 5,000 of them for validation, and trained on by `edgecnn
train --recipe scratch` in a process of its own. Further words go on to it. Without a GPU this takes a long time.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

import cv2

from bench._report import Report, Target, arguments, edgecnn, finish
from edgecnn.data.embedded.draw_embedded import LABELS, SOURCE, read_idx

LEAST_ACCURACY = 0.92
VALIDATION = 5_000
BACKBONE = "mobilenet_v3_small"
OPTIONS = {
    "--batch-size": "128",
    "--schedule": "cosine",
    "--learning-rate": "0.003",
    "--warmup": "1",
    "--patience": "0",
    "--crop": "0.75",
    "--contrast": "0",
    "--brightness": "0",
}


def write_pictures(source: Path, folder: Path, train_pictures: int = 60_000) -> None:
    """``train|val|test/<label>/<index>.png``, with at most so many of train. Raises EdgecnnError where the data set is
    not installed."""
    for part in ("train", "t10k"):
        pictures = read_idx(source / f"{part}-images-idx3-ubyte.gz", 3)
        labels = read_idx(source / f"{part}-labels-idx1-ubyte.gz", 1)
        for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            split = "test" if part == "t10k" else "val" if index >= len(pictures) - VALIDATION else "train"
            if split == "train" and index >= train_pictures:
                continue
            path = folder / split / LABELS[label] / f"{index:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    parser.add_argument("--source", type=Path, default=SOURCE)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0, help="of so many; a night may be too short for all")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=24)
    options, more = parser.parse_known_args()
    rows, accuracies = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(options.source, folder / "data")
        words = [word for pair in OPTIONS.items() for word in pair]
        words += ["--size", str(options.size), "--epochs", str(options.epochs), *more]
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            done = edgecnn(
                "train", folder / "data", "--backbone", BACKBONE, "--weights", "none", *words, "--seed", str(seed),
                "--out", folder / f"run{seed}", "--json", environment={"EDGECNN_CACHE": str(folder / "cache")},
            )  # fmt: skip
            document = json.loads(done.output)
            low, high = document["interval"]["test"]
            accuracies.append(document["accuracy"]["test"])
            figures = (f"{document['accuracy']['val']:.2%}", f"{accuracies[-1]:.2%}", f"{low:.2%}-{high:.2%}")
            rows.append((str(seed), *figures, f"{done.wall_s:.0f}"))
            print(rows[-1], file=sys.stderr, flush=True)
    target = Target(
        f"accuracy on test, mean of {options.seeds} seeds,", statistics.fmean(accuracies), LEAST_ACCURACY, True
    )
    title = f"Fashion-MNIST by {BACKBONE} from scratch, {options.size} px, {options.epochs} epochs"
    report = Report("fashion_mnist", title, ("seed", "val", "test", "95 % interval", "wall s"), rows, [target])
    return finish(report, options.out)


if __name__ == "__main__":
    sys.exit(main())
