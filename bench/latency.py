"""One inference with one thread and with all cores: int8 by these converters, by the stock one, and float32, in turns.

    python bench/latency.py [--backbones mobilenet_v3_small …] [--size PX] [--turns 40]

TFLite int8 is held against TensorFlow's own int8 conversion of the same network and against float32, ONNX int8 against
ONNX float32, always with as many threads. The networks are untrained; batch normalization has the statistics of soft
pictures.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench._networks import (
    IN_A_ROW,
    add_size_and_turns,
    each_backbone,
    inference_ms,
    living_model,
    soft_pictures,
    stock_tflite,
)
from bench._report import Report, Target, arguments, finish
from edgecnn_converters import formats
from edgecnn_converters.freeze import freeze
from edgecnn_runtime.backends import PIXELS, module_for
from edgecnn_runtime.commands import cores

FASTER_THAN_STOCK = {"mobilenet_v3_small": 5.0, "mobilenet_v3_large": 4.0}
FASTER_THAN_FLOAT = 1.4
PICTURES = 32
VARIANTS = (("tflite", "float32"), ("tflite", "dynamic"), ("tflite", "int8"), ("onnx", "float32"), ("onnx", "int8"))
STOCK = ("tflite", "stock int8")


@dataclass(frozen=True)
class Speed:
    """A backbone's times in milliseconds by format and precision, and how its TFLite files run."""

    backbone: str
    size_px: int
    threads: int
    times_ms: dict[tuple[str, str], list[float]]
    structure: dict[str, str] = field(default_factory=dict)

    def median_ms(self, format: str, precision: str) -> float:
        return statistics.median(self.times_ms[format, precision])

    def ratio(
        self,
        slow: tuple[str, str],
        fast: tuple[str, str],
        of: Callable[[Sequence[float]], float] = statistics.median,
    ) -> float:
        """How many times as fast, by the medians or something else of the times."""
        return of(self.times_ms[slow]) / of(self.times_ms[fast])


def measure(name: str, size_px: int, turns: int) -> list[Speed]:
    """Converts a backbone and times the files with one thread, then with all cores."""
    pictures = soft_pictures(PICTURES, size_px)
    model = living_model(name, size_px, pictures)
    function = freeze(model, size_px, size_px)
    graphs = {
        (format, precision): formats.get(format).convert(function, precision, pictures)
        for format, precision in VARIANTS
    }
    graphs[STOCK] = stock_tflite(model, pictures)
    int8 = ("tflite", "int8")
    structure = {key[1]: module_for("model.tflite").describe(graphs[key])[0] for key in (int8, STOCK)}
    found = []
    for threads in sorted({1, cores()}):
        times: dict[tuple[str, str], list[float]] = {}
        for format in formats.names():
            keys = [key for key in graphs if key[0] == format]
            engines = [module_for(f"model.{format}").load(graphs[key], threads, PIXELS) for key in keys]
            times.update(zip(keys, inference_ms(engines, pictures, turns), strict=True))
            del engines
        found.append(Speed(name, size_px, threads, times, structure))
    return found


def targets(speed: Speed) -> list[Target]:
    """What is promised for this backbone: against the stock converter with all cores, as `edgecnn live` runs."""
    int8 = ("tflite", "int8")
    name = f"{speed.backbone}, {speed.threads} thread{'s' * (speed.threads > 1)}"
    found = []
    if (limit := FASTER_THAN_STOCK.get(speed.backbone)) and speed.threads == cores():
        faster = speed.ratio(STOCK, int8)
        found.append(Target(f"{name}: TFLite int8, times as fast as stock int8,", faster, limit, True))
    faster = speed.ratio(("tflite", "float32"), int8)
    found.append(Target(f"{name}: TFLite int8, times as fast as float32,", faster, FASTER_THAN_FLOAT, True))
    faster = speed.ratio(("onnx", "float32"), ("onnx", "int8"))
    found.append(Target(f"{name}: ONNX int8, times as fast as float32,", faster, 1.0, True))
    return found


def report(speeds: Sequence[Speed], turns: int) -> Report:
    """A row for each backbone."""
    keys = (("tflite", "float32"), ("tflite", "dynamic"), STOCK, ("tflite", "int8"))
    onnx = (("onnx", "float32"), ("onnx", "int8"))
    rows = []
    for speed in speeds:
        cells = [f"{speed.median_ms(*key):.2f}" for key in keys]
        cells += [f"{speed.ratio(STOCK, keys[-1]):.2f}", f"{speed.ratio(keys[0], keys[-1]):.2f}"]
        cells += [f"{speed.median_ms(*key):.2f}" for key in onnx] + [f"{speed.ratio(*onnx):.2f}"]
        rows.append((speed.backbone, str(speed.size_px), str(speed.threads), *cells))
    columns = (
        "backbone", "px", "threads", "TFLite float32", "dynamic", "stock int8", "int8", "stock / int8",
        "float32 / int8", "ONNX float32", "int8", "float32 / int8",
    )  # fmt: skip
    structure = [
        f"{speed.backbone}, {speed.threads}: by the least times stock / int8 {speed.ratio(STOCK, keys[-1], min):.2f} "
        f"and float32 / int8 {speed.ratio(keys[0], keys[-1], min):.2f}; int8: {speed.structure['int8']}; "
        f"stock: {speed.structure['stock int8']}"
        for speed in speeds
    ]
    notes = (f"milliseconds, medians of {turns} turns of {IN_A_ROW} inferences with each file", *structure)
    figures = {
        f"{speed.backbone}, {speed.threads}": {" ".join(key): own for key, own in speed.times_ms.items()}
        for speed in speeds
    }
    judged = [target for speed in speeds for target in targets(speed)]
    return Report("latency", "One inference", columns, rows, judged, notes, {"times_ms": figures})


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    add_size_and_turns(parser, turns=40)
    options = parser.parse_args()
    speeds = [speed for found in each_backbone(options, measure) for speed in found]
    return finish(report(speeds, options.turns), options.out)


if __name__ == "__main__":
    sys.exit(main())
