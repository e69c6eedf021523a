"""Every backbone in every format and precision: that it converts, what the file is like, and how far it is off.

    python bench/matrix.py [--backbones mobilenet_v2 … | all] [--size PX] [--turns 10]

Each file is loaded by its engine after the structural check that refuses custom operators, and answers pictures that it
was not calibrated with. The networks are untrained; batch normalization has the statistics of soft pictures.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from bench._networks import MOBILE, add_size_and_turns, each_backbone, inference_ms, living_model, soft_pictures
from bench._report import Report, Target, arguments, finish
from edgecnn.training.head import predict
from edgecnn_converters import formats
from edgecnn_converters.freeze import freeze
from edgecnn_runtime.backends import PIXELS, Backend, module_for
from edgecnn_runtime.errors import EdgecnnError

CALIBRATION, PICTURES = 32, 64
VARIANTS = tuple((name, precision) for name in formats.names() for precision in formats.get(name).PRECISIONS)


@dataclass(frozen=True)
class File:
    """A backbone in one format and precision.

    Attributes:
        problem: why there is none; empty where there is one, and all else is only of one.
        structure: what the engine makes of it.
        cuts: partitions for the delegate of a TFLite file, transpositions in an ONNX file.
        agreement: fraction of pictures with the Keras model's top-1; max_difference: of any probability from it.
    """

    backbone: str
    format: str
    precision: str
    size_px: int
    problem: str = ""
    size_mb: float = 0.0
    latency_ms: float = 0.0
    structure: str = ""
    cuts: int = 0
    agreement: float = 0.0
    max_difference: float = 0.0


def measure(name: str, size_px: int, turns: int) -> list[File]:
    """Converts a backbone to everything."""
    pictures = soft_pictures(CALIBRATION + PICTURES, size_px)
    calibration, unseen = pictures[:CALIBRATION], pictures[CALIBRATION:]
    model = living_model(name, size_px, calibration)
    function, expected = freeze(model, size_px, size_px), predict(model, unseen)
    found: dict[tuple[str, str], tuple[bytes, Backend]] = {}
    files = []
    for format, precision in VARIANTS:
        module = module_for(f"model.{format}")
        try:
            graph = formats.get(format).convert(function, precision, calibration)
            module.check_structure(graph)
            found[format, precision] = graph, module.load(graph, 1, PIXELS)
        except EdgecnnError as error:
            files.append(File(name, format, precision, size_px, str(error)))
    times = inference_ms([engine for _, engine in found.values()], unseen, turns)
    for ((format, precision), (graph, engine)), own in zip(found.items(), times, strict=True):
        structure, figures = module_for(f"model.{format}").describe(graph)
        answers = np.stack([engine.run(picture) for picture in unseen])
        same, off = answers.argmax(1) == expected.argmax(1), np.abs(answers - expected)
        cuts = figures["partitions" if format == "tflite" else "transposes"]
        file = File(name, format, precision, size_px, "", len(graph) / 1e6, statistics.median(own), structure, cuts)
        files.append(replace(file, agreement=float(same.mean()), max_difference=float(off.max())))
    return files


def report(files: Sequence[File], turns: int) -> Report:
    """A row for each file."""
    rows = [
        (
            file.backbone, str(file.size_px), file.format, file.precision, f"{file.size_mb:.2f}",
            f"{file.latency_ms:.2f}", f"{file.agreement:.1%}", f"{file.max_difference:.1e}", file.structure,
        )
        if not file.problem else
        (file.backbone, str(file.size_px), file.format, file.precision, "", "", "", "", file.problem)
        for file in files
    ]  # fmt: skip
    made = [file for file in files if not file.problem]
    mobile = [f for f in made if f.backbone in MOBILE and (f.format, f.precision) == ("tflite", "int8")]
    onnx = [file for file in made if file.format == "onnx"]
    targets = [Target("files that convert and load, of all,", len(made) / len(files), 1.0, at_least=True)]
    if mobile:
        targets.append(Target("partitions of a mobile backbone's int8 TFLite file", max(f.cuts for f in mobile), 1))
    if onnx:
        targets.append(Target("Transpose nodes of an ONNX file", max(file.cuts for file in onnx), 1))
    columns = (
        "backbone", "px", "format", "precision", "MB", "ms", "same top-1", "largest difference", "in the engine"
    )  # fmt: skip
    notes = (
        f"milliseconds of one inference, one thread, medians of {turns} turns with the backbone's other files",
        f"top-1 and the largest difference of any probability against the Keras model, on {PICTURES} soft pictures "
        "that calibration did not see; untrained networks answer nearly alike, so this "
        "judges float files alone; quantization.py measures what int8 costs",
        "no file has a Flex or custom operator: the structural check refuses them",
    )
    return Report(
        "matrix", "Backbones by format and precision", columns, rows, targets, notes,
        {"files": [asdict(file) for file in files]},
    )  # fmt: skip


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    add_size_and_turns(parser, turns=10)
    options = parser.parse_args()
    files = [file for own in each_backbone(options, measure) for file in own]
    return finish(report(files, options.turns), options.out)


if __name__ == "__main__":
    sys.exit(main())
