"""What int8 costs by these converters and by the stock ones, of one float model on the same test pictures.

    python bench/quantization.py --data PHOTOS [--seeds 3]
    apt install dataset-fashion-mnist
    python bench/quantization.py [--size 48] [--epochs 10] [--train-pictures 20000]

With --data: the backbones whose ImageNet weights a package brings, by the recipe fast at their own size. Without: the
other mobile backbones, trained from random weights on pictures of Fashion-MNIST, whose 10,000 test pictures tell
smaller drops apart. Stock is TensorFlow's full integer quantization, and ONNX Runtime's static quantization with its
defaults. Without a GPU the trainings take hours.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench._networks import MOBILE, add_backbones, chosen, stock_onnx, stock_tflite
from bench._report import Report, Target, arguments, edgecnn, finish
from bench.fashion_mnist import OPTIONS, write_pictures
from edgecnn.commands._artifacts import calibration_pictures, export_run
from edgecnn.data.embedded.draw_embedded import SOURCE
from edgecnn.training.head import predict
from edgecnn.training.run import read_run
from edgecnn.training.train import load_model, reload_pictures, silent
from edgecnn_converters.freeze import freeze
from edgecnn_converters.gate import paired_interval
from edgecnn_runtime.backends import PIXELS, module_for
from edgecnn_runtime.commands import cores
from edgecnn_runtime.errors import EdgecnnError
from edgecnn_runtime.parallel import map_ordered

PRETRAINED = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
MAX_DROP_POINTS = {
    **dict.fromkeys((*PRETRAINED, "mobilenet", "mobilenet_v2"), 0.5),
    **dict.fromkeys(("mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0", "efficientnet_v2_b0"), 1.0),
}
MAKERS = ("TFLite", "TFLite, stock", "ONNX", "ONNX, stock per tensor", "ONNX, stock per channel")
OURS = ("TFLite", "ONNX")
FORMATS = ("tflite", "onnx")

Right = npt.NDArray[np.bool_]  # (N,), of the test pictures


@dataclass(frozen=True)
class Outcome:
    """An int8 file held against its float model: how many test pictures only the one, only the other has right."""

    backbone: str
    seed: int
    maker: str
    pictures: int
    float_right: int
    lost: int
    gained: int


def train(data: Path, backbone: str, seed: int, run: Path, words: Sequence[str]) -> None:
    """Trains by `edgecnn train` in a process of its own, whose memory goes with it."""
    edgecnn("train", data, "--backbone", backbone, "--seed", str(seed), "--out", run, *words, "--json")


def outcomes(folder: Path) -> list[Outcome]:
    """Quantizes the float model of a run in every way."""
    run = read_run(folder)
    pictures, model, config = reload_pictures(run), load_model(run), run.config
    index = pictures.of("test")
    test, truth = [np.asarray(pictures.pixels[i]) for i in index], pictures.truth[index]
    exact = predict(model, test).argmax(1) == truth
    calibration = calibration_pictures(pictures, config.seed)
    function = freeze(model, config.height, config.width)
    own = export_run(run, pictures, [(name, "int8") for name in FORMATS], cores(), silent)
    graphs = {one.format: module_for(f"model.{one.format}").split(one.path.read_bytes())[0] for one in own}
    made = (
        graphs["tflite"],
        stock_tflite(model, calibration),
        graphs["onnx"],
        stock_onnx(function, calibration, per_channel=False),
        stock_onnx(function, calibration, per_channel=True),
    )
    found = []
    for maker, graph in zip(MAKERS, made, strict=True):
        right = _answers(graph, maker, test) == truth
        lost, gained = int((exact & ~right).sum()), int((right & ~exact).sum())
        found.append(Outcome(config.backbone, config.seed, maker, len(truth), int(exact.sum()), lost, gained))
    return found


def _answers(graph: bytes, maker: str, pictures: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.int64]:
    """The top-1 of every picture."""
    module = module_for(f"model.{maker.split(',')[0].lower()}")
    answers = map_ordered(
        lambda: module.load(graph, 1, PIXELS), lambda engine, pixels: engine.run(pixels).argmax(), pictures, cores()
    )
    return np.array(list(answers), np.int64)


def report(found: Sequence[Outcome], data: str) -> Report:
    """A row for each backbone and maker, over all seeds."""
    rows, targets = [], []
    for name in dict.fromkeys(outcome.backbone for outcome in found):
        for maker in MAKERS:
            own = [outcome for outcome in found if (outcome.backbone, outcome.maker) == (name, maker)]
            total, lost = sum(one.pictures for one in own), sum(one.lost for one in own)
            exact, gained = sum(one.float_right for one in own), sum(one.gained for one in own)
            drop = 100.0 * (lost - gained) / total
            low, high = paired_interval(*(count / len(own) for count in (lost, gained, total)))
            accuracy = f"{(exact - lost + gained) / total:.2%}"
            rows.append((
                name, maker, f"{exact / total:.2%}", accuracy, f"{drop:+.2f}", f"{100 * low:+.2f} to {100 * high:+.2f}"
            ))  # fmt: skip
            if maker in OURS and name in MAX_DROP_POINTS:
                what = f"{name}, {maker}: int8 drop in points, mean of {len(own)} seeds,"
                targets.append(Target(what, drop, MAX_DROP_POINTS[name]))
    notes = (
        f"data: {data}",
        "drop is float accuracy minus int8 accuracy on test, in points, the mean of the seeds; each of its bounds "
        "holds with 95 %, by the number of test pictures, seeds not counted as more pictures",
        "stock: TensorFlow's full integer quantization; tf2onnx and ONNX Runtime's quantize_static with its defaults, "
        "and with per_channel=True",
    )
    columns = ("backbone", "int8 by", "float", "int8", "drop, points", "bounds")
    figures = {"outcomes": [asdict(outcome) for outcome in found]}
    return Report("quantization", "What int8 costs, and by whom", columns, rows, targets, notes, figures)


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    add_backbones(parser, None)
    parser.add_argument("--data", type=Path, help="folder of photos")
    parser.add_argument("--source", type=Path, default=SOURCE, help="folder of Fashion-MNIST's IDX files")
    parser.add_argument("--size", type=int, default=48, help="side in px on Fashion-MNIST")
    parser.add_argument("--epochs", type=int, default=10, help="on Fashion-MNIST")
    parser.add_argument("--train-pictures", type=int, default=20_000, help="of Fashion-MNIST")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    others = [name for name in MOBILE if name not in PRETRAINED]
    names = chosen(options.backbones or (PRETRAINED if options.data else others))
    found: list[Outcome] = []
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["EDGECNN_CACHE"] = f"{temporary}/cache"
        data, words, said = options.data, ["--recipe", "fast"], str(options.data and options.data.name)
        if data is None:
            data = Path(temporary, "data")
            try:
                write_pictures(options.source, data, options.train_pictures)
            except EdgecnnError as error:
                sys.exit(str(error))
            scratch = {"--size": str(options.size), "--epochs": str(options.epochs), **OPTIONS}
            words = ["--recipe", "scratch", "--weights", "none", *(word for pair in scratch.items() for word in pair)]
            said = (
                f"Fashion-MNIST at {options.size} px, {options.train_pictures:,} training pictures, "
                f"{options.epochs} epochs from random weights"
            )
        for name in names:
            for seed in range(options.seeds):
                run = Path(temporary, f"{name}-{seed}")
                train(data, name, seed, run, words)
                found += outcomes(run)
                print("\n".join(map(str, found[-len(MAKERS) :])), file=sys.stderr, flush=True)
    return finish(report(found, said), options.out)


if __name__ == "__main__":
    sys.exit(main())
