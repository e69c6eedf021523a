"""The default resampling against area averaging and bilinear: error, time, and whether the network's answer changes.

    python bench/resampling.py --data PHOTOS [--artifact FLOAT32_ARTIFACT]

Error and time are of 720p mosaics of photos, cropped to 224 px, in one thread. The answers are those of --artifact,
else of the ImageNet classifier, for the photos as its contract crops them, for whole photos, and for the mosaics.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from bench._mosaic import PER_MOSAIC, mosaics
from bench._report import Report, Target, arguments, edgecnn, finish, interleaved_ms, median_ratio
from edgecnn_runtime import Classifier
from edgecnn_runtime.commands import cores
from edgecnn_runtime.contract import Preprocessing, Resampling
from edgecnn_runtime.dataset import picture_files
from edgecnn_runtime.decode import Picture, read_picture
from edgecnn_runtime.parallel import map_ordered
from edgecnn_runtime.preprocess import preprocess

MAX_MEAN = 1.0  # of 255
MAX_99TH = 12.0
MAX_TIME_RATIO = 1 / 3
MIN_AGREEMENT = 0.995

SIDE_PX = 224
CROP_FRACTIONS = (1.0, 0.875)
REFERENCE: Resampling = "area"
COMPARED: tuple[Resampling, ...] = ("fast_area", "linear")


@dataclass(frozen=True)
class Difference:
    """One way of resampling against area averaging on mosaics. Differences are absolute, of channel values 0-255."""

    crop_fraction: float
    resampling: str
    mean: float
    percentile_99: float
    largest: int
    median_ms: float
    time_ratio: float


@dataclass(frozen=True)
class Agreement:
    """How often the top-1 is the one that area averaging gives; `identical` is the fraction of pictures that need no
    resampling at all, or come out the same in every pixel."""

    pictures: str
    count: int
    crop_fraction: float
    identical: dict[Resampling, float]
    agreement: dict[Resampling, float]


def differences(frames: Sequence[Picture], runs: int) -> list[Difference]:
    """Error over all frames, time over `runs` calls in turns."""
    found = []
    for fraction in CROP_FRACTIONS:
        ways = {
            name: partial(_resize, Preprocessing(crop_fraction=fraction, resampling=name))
            for name in (REFERENCE, *COMPARED)
        }
        outputs = {name: np.stack([way(frame) for frame in frames]).astype(np.int16) for name, way in ways.items()}
        calls = [partial(_next, way, frames, [0]) for way in ways.values()]
        times = dict(zip(ways, interleaved_ms(calls, runs), strict=True))
        for name in ways:
            off = np.abs(outputs[name] - outputs[REFERENCE])
            ratio = median_ratio(times[name], times[REFERENCE])
            error = float(off.mean()), float(np.percentile(off, 99)), int(off.max())
            found.append(Difference(fraction, name, *error, statistics.median(times[name]), ratio))
    return found


def _resize(steps: Preprocessing, frame: Picture) -> Picture:
    return preprocess(frame, steps, SIDE_PX, SIDE_PX)


def _next(way: Callable[[Picture], Picture], frames: Sequence[Picture], turn: list[int]) -> Picture:
    turn[0] += 1
    return way(frames[turn[0] % len(frames)])


def agreement(classifier: Classifier, what: str, pictures: Sequence[Path | Picture], crop_fraction: float) -> Agreement:
    """Classifies every picture with each way of resampling, on all cores."""
    names = (REFERENCE, *COMPARED)
    steps = {
        name: replace(classifier.contract.preprocessing, crop_fraction=crop_fraction, resampling=name) for name in names
    }

    def task(own: Classifier, source: Path | Picture) -> tuple[list[bool], list[bool]]:
        picture = read_picture(source) if isinstance(source, Path) else source
        contract = own.contract
        pixels = {name: preprocess(picture, steps[name], contract.height, contract.width) for name in names}
        top = {name: int(own.infer(pixels[name]).argmax()) for name in names}
        same = [bool((pixels[name] == pixels[REFERENCE]).all()) for name in COMPARED]
        return same, [top[name] == top[REFERENCE] for name in COMPARED]

    answers = np.array(list(map_ordered(classifier.clone, task, pictures, cores())), np.float64)
    identical, agreeing = (dict(zip(COMPARED, map(float, part), strict=True)) for part in answers.mean(0))
    return Agreement(what, len(pictures), crop_fraction, identical, agreeing)


def agreements(artifact: Path, photos: Sequence[Path], frames: Sequence[Picture]) -> list[Agreement]:
    """Photos as the contract wants them, whole photos, and frames."""
    classifier = Classifier.load(artifact)
    fraction = classifier.contract.preprocessing.crop_fraction
    found = [agreement(classifier, "photos", photos, each) for each in dict.fromkeys((fraction, 1.0))]
    return [*found, agreement(classifier, "720p mosaics", frames, fraction)]


def report(found: Sequence[Difference], answers: Sequence[Agreement], notes: Sequence[str]) -> Report:
    """Rows of error and time, then of answers."""
    rows = [
        (f"mosaics, crop {d.crop_fraction:g}: {d.resampling}", f"{d.mean:.2f}", f"{d.percentile_99:.0f}",
         f"{d.largest}", f"{d.median_ms:.3f}", f"{d.time_ratio:.2f}", "", "")
        for d in found
    ]  # fmt: skip
    rows += [
        (f"{a.count:,} {a.pictures}, crop {a.crop_fraction:g}: {name}", "", "", "", "", "",
         f"{a.agreement[name]:.2%}", f"{a.identical[name]:.1%}")
        for a in answers for name in COMPARED
    ]  # fmt: skip
    ours = [d for d in found if d.resampling == "fast_area"]
    targets = [
        Target("mean difference, of 255", max(d.mean for d in ours), MAX_MEAN),
        Target("99th percentile, of 255", max(d.percentile_99 for d in ours), MAX_99TH),
        Target("time ratio", max(d.time_ratio for d in ours), MAX_TIME_RATIO),
        *(
            Target(f"top-1 agreement, photos, crop {a.crop_fraction:g}", a.agreement["fast_area"], MIN_AGREEMENT, True)
            for a in answers
            if a.pictures == "photos"
        ),
    ]
    columns = ("pictures: resampling", "mean", "99 %", "largest", "ms", "time / area", "same top-1", "same pixels")
    title = f"Resampling to {SIDE_PX} px against INTER_AREA"
    return Report("resampling", title, columns, rows, targets, notes, {"differences": found, "agreements": answers})


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of photos")
    parser.add_argument("--artifact", type=Path, help="float32; by default the ImageNet classifier is exported")
    parser.add_argument("--mosaics", type=int, default=60)
    parser.add_argument("--runs", type=int, default=300, help="calls that are timed of each resampling")
    parser.add_argument("--pictures", type=int, help="how many photos the network sees, spread evenly; by default all")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    photos = picture_files(options.data)
    frames = mosaics(photos, options.mosaics)
    found = differences(frames, options.runs)
    seen = photos[:: max(1, len(photos) // (options.pictures or len(photos)))]
    with tempfile.TemporaryDirectory() as folder:
        artifact = options.artifact
        if artifact is None:
            words = ("--pretrained", "efficientnet_lite0", "--format", "tflite", "--precision", "float32")
            edgecnn("export", *words, "--out", folder)
            artifact = Path(folder, "efficientnet_lite0-float32.tflite")
        answers = agreements(artifact, seen, frames)
    notes = [
        f"{len(frames)} mosaics of {PER_MOSAIC} photos, one thread, {options.runs} calls each in turns, medians",
        "differences are absolute, of channel values 0-255, over all mosaics",
        f"answers of {artifact.name}" + ("" if options.artifact else " with its ImageNet classes"),
    ]
    return finish(report(found, answers, notes), options.out)


if __name__ == "__main__":
    sys.exit(main())
