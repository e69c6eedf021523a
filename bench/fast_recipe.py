"""`edgecnn train --recipe fast` against the plain Keras tutorial recipe: accuracy on test, wall time.

    python bench/fast_recipe.py --data PHOTOS [--seeds 3]

PHOTOS has train, val and test with a folder per class. Every training is a process of its own, timed as a whole;
`edgecnn` begins with an empty cache each time, so decoding counts too. The tutorial (bench/_tutorial.py) is
EfficientNet-Lite0, frozen, in `fit` from image_dataset_from_directory, with RandomFlip, RandomRotation 0.2, RandomZoom
0.1, RandomTranslation 0.1, pooling, Dense(512), Dropout(0.5), Adam 1e-3, batch 32, at most 12 epochs, EarlyStopping and
ReduceLROnPlateau on the validation loss. It takes several minutes.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench._report import Finished, Report, Target, arguments, edgecnn, finish, run

MIN_ACCURACY = 0.88
MAX_RATIO = 1 / 15
TUTORIAL_EPOCHS = 12


@dataclass(frozen=True)
class Training:
    """One process; accuracy is the fraction of test pictures. The tutorial says how long each of its epochs took."""

    recipe: str
    accuracy: float
    wall_s: float
    cpu_s: float
    peak_mb: float
    epoch_s: tuple[float, ...] = ()


def train_fast(data: Path, seed: int) -> Training:
    """`edgecnn train` with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        words = ("--recipe", "fast", "--seed", str(seed), "--out", f"{folder}/run", "--json")
        done = edgecnn("train", data, *words, environment={"EDGECNN_CACHE": f"{folder}/cache"})
    return _training(f"edgecnn fast, seed {seed}", json.loads(done.output)["accuracy"]["test"], done)


def train_tutorial(data: Path, epochs: int) -> Training:
    """The tutorial's recipe."""
    done = run([sys.executable, str(Path(__file__).with_name("_tutorial.py")), str(data), "--epochs", str(epochs)])
    document = json.loads(done.output)
    return _training("Keras tutorial", document["accuracy"], done, document["epoch_s"])


def _training(recipe: str, accuracy: float, done: Finished, epoch_s: Sequence[float] = ()) -> Training:
    return Training(recipe, accuracy, done.wall_s, done.cpu_s, done.peak_mb, tuple(epoch_s))


def report(fast: list[Training], tutorial: Training, asked_epochs: int) -> Report:
    """The table; with fewer epochs than the tutorial's own, the ratio is shown and not judged."""
    accuracy = statistics.fmean(training.accuracy for training in fast)
    ratio = statistics.median(training.wall_s for training in fast) / tutorial.wall_s
    targets = [Target(f"accuracy on test, mean of {len(fast)} seeds,", accuracy, MIN_ACCURACY, at_least=True)]
    notes = [f"ratio of the wall times {ratio:.4f} (1/{1 / ratio:.1f}), the median of edgecnn's"]
    if asked_epochs == TUTORIAL_EPOCHS:
        targets.append(Target("ratio of the wall times", ratio, MAX_RATIO))
    else:
        notes.append(f"the tutorial was given {asked_epochs} epochs, not {TUTORIAL_EPOCHS}: the ratio is not judged")
    rows = [
        (
            t.recipe,
            f"{t.accuracy:.1%}",
            f"{t.wall_s:.1f}",
            f"{t.cpu_s:.1f}",
            f"{t.peak_mb:.0f}",
            str(len(t.epoch_s) or ""),
        )
        for t in (*fast, tutorial)
    ]
    columns = ("recipe", "accuracy on test", "wall s", "CPU s", "peak MB", "epochs")
    figures = {"fast": fast, "tutorial": tutorial, "accuracy": accuracy, "ratio": ratio}
    return Report("fast_recipe", "The fast recipe and the tutorial's", columns, rows, targets, notes, figures)


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tutorial-epochs", type=int, default=TUTORIAL_EPOCHS, help="fewer, for trying")
    options = parser.parse_args()
    fast = [train_fast(options.data, 0)]
    tutorial = train_tutorial(options.data, options.tutorial_epochs)  # between the others, as the machine may change
    fast += [train_fast(options.data, seed) for seed in range(1, options.seeds)]
    return finish(report(fast, tutorial, options.tutorial_epochs), options.out)


if __name__ == "__main__":
    sys.exit(main())
