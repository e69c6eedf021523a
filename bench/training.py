"""`edgecnn train` by its recipes against the plain Keras tutorial recipe: accuracy and wall time.

    python bench/training.py --data PHOTOS [--recipes fast,standard,best] [--seeds 3]

PHOTOS has train, val and test with a folder per class. Every training is a process of its own, timed as a whole;
`edgecnn` begins with an empty cache each time, so decoding counts too. The tutorial (bench/_tutorial.py) is
EfficientNet-Lite0, frozen, in `fit` from image_dataset_from_directory, with RandomFlip, RandomRotation 0.2, RandomZoom
0.1, RandomTranslation 0.1, pooling, Dense(512), Dropout(0.5), Adam 1e-3, batch 32, at most 12 epochs, EarlyStopping and
ReduceLROnPlateau on the validation loss. It takes several minutes, and so does every recipe but `fast`.

The recipes' settings were chosen by the validation and training pictures alone; test is measured here and decides
nothing.
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

# Recipe -> least accuracy on test, largest part of the tutorial's wall time.
TARGETS = {"fast": (0.89, 1 / 20), "standard": (0.93, 2 / 3), "best": (0.95, None)}
TUTORIAL_EPOCHS = 12


@dataclass(frozen=True)
class Training:
    """One process; accuracies are fractions. The tutorial says how long each of its epochs took."""

    recipe: str
    seed: int
    val: float
    test: float
    interval: tuple[float, float]
    wall_s: float
    cpu_s: float
    peak_mb: float
    epoch_s: tuple[float, ...] = ()


def train_recipe(data: Path, recipe: str, seed: int) -> Training:
    """`edgecnn train` with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        words = ("--recipe", recipe, "--seed", str(seed), "--out", f"{folder}/run", "--json")
        done = edgecnn("train", data, *words, environment={"EDGECNN_CACHE": f"{folder}/cache"})
    document = json.loads(done.output)
    accuracy = document["accuracy"]
    return _training(recipe, seed, accuracy["val"], accuracy["test"], document["interval"]["test"], done)


def train_tutorial(data: Path, epochs: int) -> Training:
    """The tutorial's recipe."""
    done = run([sys.executable, str(Path(__file__).with_name("_tutorial.py")), str(data), "--epochs", str(epochs)])
    document = json.loads(done.output)
    return _training(
        "Keras tutorial", 0, document["val_accuracy"], document["accuracy"], document["interval"], done,
        document["epoch_s"],
    )  # fmt: skip


def _training(
    recipe: str, seed: int, val: float, test: float, interval: Sequence[float], done: Finished,
    epoch_s: Sequence[float] = (),
) -> Training:  # fmt: skip
    made = Training(
        recipe, seed, val, test, (interval[0], interval[1]), done.wall_s, done.cpu_s, done.peak_mb, tuple(epoch_s)
    )
    print(f"{recipe}, seed {seed}: val {val:.1%}, test {test:.1%}, {done.wall_s:.0f} s", file=sys.stderr, flush=True)
    return made


def report(trainings: Sequence[Training], tutorial: Training, asked_epochs: int) -> Report:
    """The table; with fewer epochs than the tutorial's own, ratios are shown and not judged."""
    targets, rows, notes = [], [], []
    for recipe in dict.fromkeys(training.recipe for training in trainings):
        own = [training for training in trainings if training.recipe == recipe]
        rows += [_row(f"{recipe}, seed {training.seed}", [training], training.interval) for training in own]
        rows.append(_row(f"**{recipe}, mean**", own, None))
        least, most = TARGETS[recipe]
        accuracy = statistics.fmean(training.test for training in own)
        ratio = statistics.median(training.wall_s for training in own) / tutorial.wall_s
        targets.append(Target(f"{recipe}: accuracy on test, mean of {len(own)} seeds,", accuracy, least, at_least=True))
        notes.append(f"{recipe}: ratio of the wall times {ratio:.3f} (1/{1 / ratio:.1f}), the median of edgecnn's")
        if most is not None and asked_epochs == TUTORIAL_EPOCHS:
            targets.append(Target(f"{recipe}: ratio of the wall times", ratio, most))
    rows.append(_row(f"{tutorial.recipe}, {len(tutorial.epoch_s)} epochs", [tutorial], tutorial.interval))
    if asked_epochs != TUTORIAL_EPOCHS:
        notes.append(f"the tutorial was given {asked_epochs} epochs, not {TUTORIAL_EPOCHS}: ratios are not judged")
    columns = ("recipe", "val", "test", "95 % interval", "wall s", "CPU s", "peak MB")
    figures = {"trainings": list(trainings), "tutorial": tutorial}
    return Report("training", "The recipes and the tutorial's", columns, rows, targets, notes, figures)


def _row(name: str, trainings: Sequence[Training], interval: tuple[float, float] | None) -> tuple[str, ...]:
    def mean(figure: str) -> float:
        return statistics.fmean(getattr(training, figure) for training in trainings)

    shown = "" if interval is None else f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f}"
    figures = (f"{mean('wall_s'):.1f}", f"{mean('cpu_s'):.1f}", f"{mean('peak_mb'):.0f}")
    return (name, f"{mean('val'):.1%}", f"{mean('test'):.1%}", shown, *figures)


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipes", default="fast,standard,best")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0, help="of so many; a night may be too short for all")
    parser.add_argument("--tutorial-epochs", type=int, default=TUTORIAL_EPOCHS, help="fewer, for trying")
    options = parser.parse_args()
    recipes = options.recipes.split(",")
    if unknown := set(recipes) - TARGETS.keys():
        parser.error(f"no such recipe: {min(unknown)}")
    first, *others = range(options.first_seed, options.first_seed + options.seeds)
    trainings = [train_recipe(options.data, recipe, first) for recipe in recipes]
    tutorial = train_tutorial(options.data, options.tutorial_epochs)  # between the others, as the machine may change
    trainings += [train_recipe(options.data, recipe, seed) for seed in others for recipe in recipes]
    return finish(report(trainings, tutorial, options.tutorial_epochs), options.out)


if __name__ == "__main__":
    sys.exit(main())
