"""A 720p frame through the runtime, against the least that a program could do with the same int8 file.

    python bench/frame.py --artifact runs/mine/artifacts/efficientnet_lite0-int8.tflite [--data PHOTOS]

The least is `cv2.resize` (linear, the whole frame, channels left as they are) and the bare interpreter: set_tensor,
invoke, get_tensor. Both take turns in one thread, on mosaics of photos, or on smooth noise without --data.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench._mosaic import mosaics
from bench._report import Report, Target, arguments, finish, interleaved_ms, median_ratio
from edgecnn_runtime import Classifier
from edgecnn_runtime.classifier import read_artifact
from edgecnn_runtime.dataset import picture_files
from edgecnn_runtime.decode import Picture

MAX_RATIO = 1.15
FRAMES = 8


def smooth_noise(count: int) -> list[Picture]:
    """`count` frames, ``(720, 1280, 3)`` uint8 0-255."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 90, 160, 3), dtype=np.uint8)
    return [np.asarray(cv2.resize(frame, (1280, 720), interpolation=cv2.INTER_CUBIC), np.uint8) for frame in coarse]


def bare_program(graph: bytes) -> Callable[[Picture], Any]:
    """What takes a frame ``(H, W, 3)`` uint8 to the network's output tensor. Ends the program for inputs not uint8."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=graph, num_threads=1)
    interpreter.allocate_tensors()
    (source,), (sink,) = interpreter.get_input_details(), interpreter.get_output_details()
    if source["dtype"] is not np.uint8:
        sys.exit("--artifact must be an int8 artifact, which takes uint8 pixels")
    height, width = int(source["shape"][1]), int(source["shape"][2])

    def run(frame: Picture) -> Any:
        resized = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
        interpreter.set_tensor(source["index"], resized[np.newaxis])
        interpreter.invoke()
        return interpreter.get_tensor(sink["index"])

    return run


def measure(artifact: Path, frames: Sequence[Picture], runs: int) -> Report:
    """Times both on the frames in turn."""
    classifier = Classifier.load(artifact)
    bare = bare_program(read_artifact(artifact)[0])
    parts: list[tuple[float, float]] = []
    turns = [0, 0]

    def next_frame(who: int) -> Picture:
        turns[who] += 1
        return frames[turns[who] % len(frames)]

    def through_runtime() -> None:
        timings = classifier.classify(next_frame(0), color="bgr").timings
        parts.append((timings.preprocess_ms, timings.inference_ms))

    ours, least = interleaved_ms([through_runtime, lambda: bare(next_frame(1))], runs)
    prepared, inferred = (statistics.median(column) for column in zip(*parts[-runs:], strict=True))
    ratio, quiet_ratio = median_ratio(ours, least), min(ours) / min(least)
    rows = [
        (
            "Classifier.classify",
            f"{statistics.median(ours):.3f}",
            f"{ratio:.3f}",
            f"{min(ours):.3f}",
            f"{quiet_ratio:.3f}",
        ),
        ("of that: preprocess", f"{prepared:.3f}", "", "", ""),
        ("of that: inference", f"{inferred:.3f}", "", "", ""),
        ("cv2.resize + interpreter", f"{statistics.median(least):.3f}", "1", f"{min(least):.3f}", "1"),
    ]
    steps = classifier.contract.preprocessing
    return Report(
        "frame",
        "A 1280x720 frame, one thread",
        ("program", "median ms", "ratio", "least ms", "ratio of the least"),
        rows,
        (Target("ratio of the medians", ratio, MAX_RATIO),),
        (f"{artifact.name}: {steps.fit}, crop fraction {steps.crop_fraction:g}; {runs} runs each, in turns",),
        {
            "ratio": ratio,
            "ratio_of_least": quiet_ratio,
            "runtime_ms": ours,
            "bare_ms": least,
            "preprocess_ms": prepared,
            "inference_ms": inferred,
        },
    )


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder of photos; frames are mosaics of them")
    parser.add_argument("--runs", type=int, default=300)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    frames = mosaics(picture_files(options.data), FRAMES) if options.data else smooth_noise(FRAMES)
    return finish(measure(options.artifact, frames, options.runs), options.out)


if __name__ == "__main__":
    sys.exit(main())
