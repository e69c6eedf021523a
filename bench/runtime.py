"""A 720p frame from camera to decision, and a folder of 2,000 JPEG files, against the least that a program could do.

    python bench/runtime.py [--data PHOTOS] [--backbones efficientnet_lite0 mobilenet_v2]

The least is in `bench/_bare.py`: `cv2.resize` (linear) and the bare interpreter on the same int8 file. MediaPipe's
ImageClassifier, in an environment of its own, gets the same MobileNetV2 file and RGB frames, so that it need not swap
channels, while this runtime does; it squashes the whole frame, runs in one thread and cannot be told to take more. This
runtime is judged beside it with the same fit, and as many threads as `edgecnn live` takes by itself. All take turns.
The networks are untrained: speed does not depend on weights.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import cast

import cv2
import numpy as np

from bench import _bare
from bench._mosaic import mosaics
from bench._networks import CLASSES, Pixels, add_backbones, chosen, living_model, soft_pictures
from bench._report import Finished, Report, Target, arguments, edgecnn, finish, run
from edgecnn import backbones
from edgecnn_converters.artifacts import make_artifact
from edgecnn_converters.freeze import freeze
from edgecnn_runtime import Classifier, Contract
from edgecnn_runtime.classifier import read_artifact, write_artifact
from edgecnn_runtime.commands import cores
from edgecnn_runtime.commands.live import MOST_THREADS
from edgecnn_runtime.contract import Preprocessing, Provenance
from edgecnn_runtime.dataset import picture_files
from edgecnn_runtime.live.decision import Decision, Rules, decide

MAX_RATIO = 1.15
MIN_MEDIAPIPE_RATIO = 1.25
MIN_RATE = 0.9
FRAMES = 8
IN_A_ROW = 8
DISTINCT = 100
MEDIAPIPE = "mediapipe==1.2.2"
JUDGED_BY_MEDIAPIPE = "mobilenet_v2"
PICTURES = 32

# glibc gives every decoded picture's memory back to the system and fetches it anew: a fifth of the bare program's time.
# It is left to this runtime to do without, but the limit is what the cores can do.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**26), "MALLOC_TRIM_THRESHOLD_": str(2**27)}

_MEDIAPIPE_PROGRAM = """
import json, sys, time
import mediapipe, numpy
frames = numpy.load(sys.argv[2])
vision = mediapipe.tasks.vision
classifier = vision.ImageClassifier.create_from_model_path(sys.argv[1])
for line in sys.stdin:
    times = []
    for number in range(int(line)):
        start = time.perf_counter()
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=frames[number % len(frames)])
        best = classifier.classify(image).classifications[0].categories[0]
        times.append((time.perf_counter() - start) * 1e3)
    print(json.dumps(times), flush=True)
"""

Side = Callable[[int], list[float]]  # so many frames to their times in ms


def make_int8(name: str, folder: Path) -> Path:
    """An int8 TFLite artifact of an untrained network, with the contract that `edgecnn train` writes: crop, and all of
    the shorter side."""
    size_px = backbones.get(name).size_px
    pictures = soft_pictures(PICTURES, size_px)
    function = freeze(living_model(name, size_px, pictures), size_px, size_px)
    labels = tuple(f"class {number}" for number in range(CLASSES))
    contract = Contract(size_px, size_px, labels, Provenance(backbone=name, precision="", weights="none"))
    return make_artifact(function, contract, "tflite", "int8", pictures, None, None, folder, 1).path


def squashing(artifact: Path) -> Path:
    """The same graph with the contract to squash the whole picture, as the bare program and MediaPipe do."""
    graph, contract, _ = read_artifact(artifact)
    path = artifact.with_stem(f"{artifact.stem}-squash")
    write_artifact(path, graph, replace(contract, preprocessing=Preprocessing(fit="squash"), goldens=()))
    return path


def frames_of(data: Path | None, count: int) -> list[Pixels]:
    """`count` frames, ``(720, 1280, 3)`` uint8 RGB: mosaics of photos, or smooth noise."""
    if data is not None:
        return mosaics(picture_files(data), count)
    coarse = np.random.default_rng(0).integers(0, 256, (count, 90, 160, 3), dtype=np.uint8)
    return [np.asarray(cv2.resize(frame, (1280, 720), interpolation=cv2.INTER_CUBIC), np.uint8) for frame in coarse]


def timed(program: Callable[[Pixels], object], frames: Sequence[Pixels], threads: int = 1) -> Side:
    """A program as one of the sides, with so many threads of OpenCV."""

    def some(count: int) -> list[float]:
        times = []
        cv2.setNumThreads(threads)
        for number in range(count):
            start = perf_counter()
            program(frames[number % len(frames)])
            times.append((perf_counter() - start) * 1e3)
        return times

    return some


def through_runtime(artifact: Path, threads: int = 1) -> Callable[[Pixels], object]:
    """What `edgecnn live` does with a frame, BGR, up to its decision."""
    classifier = Classifier.load(artifact, threads)
    rules = Rules.of(classifier)
    before: list[Decision | None] = [None]

    def program(frame: Pixels) -> None:
        before[0] = decide(before[0], perf_counter(), classifier.classify(frame, "bgr").probabilities, rules)

    return program


@dataclass(frozen=True)
class MediaPipe:
    """Its classifier in a process of another environment."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, artifact: Path, frames: Sequence[Pixels], folder: Path) -> MediaPipe:
        """Makes the environment in `folder`. Ends the program where pip cannot."""
        np.save(folder / "frames.npy", np.stack(frames))
        environment = folder / "mediapipe"
        python = environment / "bin" / "python"
        if not python.exists():
            venv.create(environment, with_pip=False, symlinks=True)
            run([sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", MEDIAPIPE])
        command = [str(python), "-c", _MEDIAPIPE_PROGRAM, str(artifact), str(folder / "frames.npy")]
        pipe, none = subprocess.PIPE, subprocess.DEVNULL
        return cls(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=none, text=True, env={"PATH": "/usr/bin"}))

    def some(self, count: int) -> list[float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("mediapipe ended; on Linux it needs libegl1 and libgles2")
        return cast(list[float], json.loads(answer))

    def close(self) -> None:
        self.process.communicate()


def in_turns(sides: Mapping[str, Side], turns: int) -> dict[str, list[float]]:
    """Medians in ms of each turn of `IN_A_ROW` frames; one before them fills the processor's caches again."""
    medians: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(-1, turns):
        for name in list(sides) if turn % 2 else [*sides][::-1]:
            times = sides[name](1 + IN_A_ROW)
            if turn >= 0:
                medians[name].append(statistics.median(times[1:]))
    return medians


def ratio(times: Sequence[float], reference: Sequence[float]) -> float:
    """Median of the turns' ratios: what is slow for a moment is so for both."""
    return statistics.median(own / other for own, other in zip(times, reference, strict=True))


def fill(folder: Path, data: Path | None, original: bool, files: int) -> Path:
    """A folder of so many JPEG files: photos as they are, or frames of 1280x720."""
    folder.mkdir()
    if original:
        assert data is not None
        found = [path for path in picture_files(data) if path.suffix.lower() in (".jpg", ".jpeg")]
        if not found:
            sys.exit(f"{data}: no JPEG files in it")
        photos = random.Random(0).sample(found, min(files, len(found)))
    else:
        photos = []
        for number, frame in enumerate(frames_of(data, DISTINCT)):
            path = folder.parent / f"{number}.jpg"
            cv2.imwrite(str(path), frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
            photos.append(path)
    for number in range(files):
        (folder / f"{number:04}.jpg").symlink_to(photos[number % len(photos)].resolve())
    return folder


def folder_rates(artifact: Path, folder: Path, turns: int) -> dict[str, dict[str, float]]:
    """Medians over the turns: pictures a second of the whole command and without its start, which is what it takes for
    one picture; and the same as a share of the better of the bare programs, turn by turn."""
    one = folder.with_name(f"{folder.name}-one")
    one.mkdir()
    shutil.copy(folder / "0000.jpg", one)
    bare = [sys.executable, str(_bare.__file__)]
    commands: dict[str, Callable[[Path], Finished]] = {
        "bare, threads": lambda which: run([*bare, str(artifact), str(which), "threads"], _KEEP_MEMORY),
        "bare, processes": lambda which: run([*bare, str(artifact), str(which), "processes"], _KEEP_MEMORY),
        "edgecnn classify": lambda which: edgecnn("classify", artifact, which),
    }
    count = len(list(folder.iterdir()))
    whole: dict[str, list[float]] = {name: [] for name in commands}
    steady: dict[str, list[float]] = {name: [] for name in commands}
    cpu_ms: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(turns):
        for name in list(commands) if turn % 2 else [*commands][::-1]:
            alone, all_of_them = commands[name](one), commands[name](folder)
            whole[name].append(count / all_of_them.wall_s)
            steady[name].append((count - 1) / (all_of_them.wall_s - alone.wall_s))
            cpu_ms[name].append((all_of_them.cpu_s - alone.cpu_s) / (count - 1) * 1e3)

    def share(rates: Mapping[str, list[float]], name: str) -> float:
        limits = [max(pair) for pair in zip(rates["bare, threads"], rates["bare, processes"], strict=True)]
        return ratio(rates[name], limits)

    return {
        name: {
            "whole": statistics.median(whole[name]),
            "steady": statistics.median(steady[name]),
            "cpu_ms": statistics.median(cpu_ms[name]),
            "whole_share": share(whole, name),
            "steady_share": share(steady, name),
        }
        for name in commands
    }


def frame_report(artifacts: Mapping[str, Path], frames: Sequence[Pixels], turns: int, folder: Path) -> Report:
    """From frame to decision, every network with both fits."""
    rows, targets, figures = [], [], {}
    threads = min(cores(), MOST_THREADS)
    bare, crop, squash, as_live = (
        "cv2.resize + interpreter",
        "edgecnn",
        "edgecnn, squash",
        f"edgecnn, squash, {threads} threads",
    )
    for name, artifact in artifacts.items():
        sides = {
            crop: timed(through_runtime(artifact), frames),
            squash: timed(through_runtime(squashing(artifact)), frames),
            bare: timed(_bare.bare_program(artifact), frames),
        }
        other = MediaPipe.start(artifact, frames, folder) if name == JUDGED_BY_MEDIAPIPE else None
        if other is not None:
            sides[as_live] = timed(through_runtime(squashing(artifact), threads), frames, threads)
            sides["mediapipe"] = other.some
        times = in_turns(sides, turns)
        targets.append(Target(f"{name}: over the bare program", ratio(times[crop], times[bare]), MAX_RATIO))
        if other is not None:
            other.close()
            faster = ratio(times["mediapipe"], times[as_live])
            words = f"{name}, squash, {threads} threads: times as fast as mediapipe"
            targets.append(Target(words, faster, MIN_MEDIAPIPE_RATIO, at_least=True))
        for side, own in times.items():
            faster_than = f"{ratio(times['mediapipe'], own):.2f}" if other is not None else ""
            least = f"{min(own):.3f}"
            rows.append(
                (name, side, f"{statistics.median(own):.3f}", least, f"{ratio(own, times[bare]):.3f}", faster_than)
            )
        figures[name] = times
    notes = (
        f"medians of {turns} turns of {IN_A_ROW} frames; ratios are medians of the turns' ratios",
        f"one thread where no number is stated; {MEDIAPIPE} as it comes, which is one thread too",
        "this runtime averages all pixels (antialiasing) of a frame's middle square; with squash those of the whole "
        "frame, which the others take",
    )
    return Report(
        "runtime",
        "A 1280x720 frame to its decision, int8",
        ("network", "program", "median ms", "least ms", "over bare", "mediapipe over it"),
        rows,
        targets,
        notes,
        {"turns_ms": figures},
    )


def folder_report(artifact: Path, data: Path | None, files: int, turns: int, folder: Path) -> Report:
    """`edgecnn classify` on so many JPEG files."""
    rows, targets, figures = [], [], {}
    for original in (False, True) if data is not None else (False,):
        what = "photos as they are" if original else "1280x720"
        filled = fill(folder / ("photos" if original else "frames"), data, original, files)
        rates = folder_rates(artifact, filled, turns)
        for name, own in rates.items():
            cells = [f"{own['steady']:.0f}", f"{own['steady_share']:.1%}", f"{own['whole']:.0f}"]
            rows.append((what, name, *cells, f"{own['whole_share']:.1%}", f"{own['cpu_ms']:.2f}"))
        if not original:  # the photos' own reduction may cost more, see docs/benchmarks.md
            share = rates["edgecnn classify"]["steady_share"]
            words = f"{what}: share of the rate at which the cores decode and invoke"
            targets.append(Target(words, share, MIN_RATE, at_least=True))
        figures[what] = rates
    return Report(
        "folder",
        f"{files:,} JPEG files through edgecnn classify, pictures a second",
        ("files", "program", "without start", "of the limit", "whole command", "of the limit", "CPU ms each"),
        rows,
        targets,
        (f"{artifact.name}; medians of {turns} turns; the limit is the better of the bare programs in the same turn",),
        {"rates": figures},
    )


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, help="folder of photos; frames are mosaics of them")
    add_backbones(parser, ("efficientnet_lite0", JUDGED_BY_MEDIAPIPE))
    parser.add_argument("--keep", type=Path, help="folder for networks and MediaPipe, which another run takes again")
    parser.add_argument("--turns", type=int, default=60, help="of some frames with each program")
    parser.add_argument("--folder-turns", type=int, default=5, help="of each program with the files; 0: without")
    parser.add_argument("--files", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        kept = options.keep or Path(temporary)
        kept.mkdir(parents=True, exist_ok=True)
        found = {name: kept / f"{name}-int8.tflite" for name in chosen(options.backbones)}
        artifacts = {name: path if path.exists() else make_int8(name, kept) for name, path in found.items()}
        code = finish(frame_report(artifacts, frames_of(options.data, FRAMES), options.turns, kept), options.out)
        if options.folder_turns:
            first = next(iter(artifacts.values()))
            rates = folder_report(first, options.data, options.files, options.folder_turns, Path(temporary))
            code |= finish(rates, options.out)
    return code


if __name__ == "__main__":
    sys.exit(main())
