"""Pictures a second through a frozen backbone: the device's engine, as training uses it, against Keras predict.

    python bench/features.py --data PHOTOS [--backbone efficientnet_lite0] [--pictures 512]

Both compute the pooled features of the same decoded pictures on all cores, in turns. Building and converting the
network are left out of that and stated.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench._report import Report, arguments, finish, interleaved_ms
from edgecnn import backbones
from edgecnn.data.cache import decode_pictures
from edgecnn.training.features import extract, feature_graphs
from edgecnn.training.head import add_pooling
from edgecnn.training.options import Augmentation
from edgecnn_runtime.commands import cores
from edgecnn_runtime.contract import Preprocessing
from edgecnn_runtime.dataset import picture_files
from edgecnn_runtime.decode import Picture
from edgecnn_runtime.quiet import quiet

BATCH = 32
CALIBRATION_PICTURES = 32
TOLERANCE = 1e-3  # of the features, which are of the order of 1: the engines must compute the same thing


def measure(backbone: str, pictures: Picture, runs: int) -> Report:
    """Times the engines on ``(N, H, W, 3)`` uint8 RGB pictures. Ends the program where their features differ."""
    start = time.perf_counter()
    with quiet():
        network = add_pooling(backbones.get(backbone).build(*pictures.shape[1:3]))
    built = time.perf_counter()
    floating, quantized = feature_graphs(network, list(pictures[:CALIBRATION_PICTURES]))
    converted = time.perf_counter()
    views = [(index, 0) for index in range(len(pictures))]
    last: dict[str, Any] = {}

    def engine(name: str, graph: bytes) -> None:
        last[name] = extract(graph, pictures, views, Augmentation(), 0, cores())

    def keras_predict() -> None:
        last["keras"] = network.predict(pictures, batch_size=BATCH, verbose=0)

    programs: dict[str, Callable[[], None]] = {
        "Keras predict": keras_predict,
        "device engine, float32": lambda: engine("float32", floating),
        "device engine, int8": lambda: engine("int8", quantized),
    }
    times = interleaved_ms(list(programs.values()), runs, warm_up=1)
    difference = float(np.abs(last["float32"] - last["keras"]).max())
    if difference > TOLERANCE:
        sys.exit(f"features of the device engine differ from Keras by {difference:.3g}")
    speed = {name: len(pictures) / statistics.median(own) * 1e3 for name, own in zip(programs, times, strict=True)}
    rows = [(name, f"{value:.1f}", f"{value / speed['Keras predict']:.2f}") for name, value in speed.items()]
    notes = (
        f"{backbone}, {len(pictures)} pictures of {pictures.shape[1]}x{pictures.shape[2]} px, {cores()} cores",
        f"Keras in batches of {BATCH}; medians of {runs} runs in turns",
        f"largest difference of a float32 feature {difference:.2g}; once before: building the network "
        f"{built - start:.1f} s, converting it to float32 and int8 {converted - built:.1f} s",
    )
    title = "Features of a frozen backbone"
    return Report("features", title, ("program", "pictures/s", "ratio"), rows, (), notes, {"pictures_per_s": speed})


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of photos")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--pictures", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    side = backbones.get(options.backbone).size_px
    paths = picture_files(options.data)
    chosen = paths[:: max(1, len(paths) // options.pictures)][: options.pictures]
    with tempfile.TemporaryDirectory() as cache:
        pictures = decode_pictures(chosen, Preprocessing(), side, side, Path(cache)).pictures
        return finish(measure(options.backbone, np.array(pictures), options.runs), options.out)


if __name__ == "__main__":
    sys.exit(main())
