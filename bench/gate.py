"""Whether the gate tells good exports from bad ones, by the 10,000 test pictures of Fashion-MNIST.

    apt install dataset-fashion-mnist
    python bench/gate.py

A few small networks are trained on false-coloured pictures (on grey ones swapped colours would be no fault) by `edgecnn
train`. Twenty exports of them, as they are, must pass; ten with a fault planted on the way into the same code must be
refused: with the default --max-drop of 1.0 point, by pictures that training and calibration never saw.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench._report import Report, Target, arguments, edgecnn, finish
from edgecnn.data.embedded.draw_embedded import LABELS, SOURCE, read_idx

SIZE_PX = 48
TRAIN, VALIDATION, CALIBRATION = 5_000, 500, 100
SCRATCH = ("--epochs", "12", "--crop", "0.75", "--contrast", "0", "--brightness", "0", "--patience", "0")
# Backbone, its options, seed.
MODELS = {
    "lite0": ("efficientnet_lite0", ("--recipe", "fast"), 0),
    "lite0-1": ("efficientnet_lite0", ("--recipe", "fast"), 1),
    "v2": ("mobilenet_v2", ("--weights", "none", *SCRATCH), 0),
    "v3": ("mobilenet_v3_small", ("--weights", "none", *SCRATCH), 0),
}
VARIANTS = tuple(("tflite", precision) for precision in ("float32", "float16", "dynamic", "int8"))
VARIANTS += (("onnx", "float32"), ("onnx", "int8"))
GOOD = [(name, *variant) for name in ("lite0", "v2", "v3") for variant in VARIANTS]
GOOD += [("lite0-1", "tflite", "int8"), ("lite0-1", "onnx", "int8")]
IMAGENET_MEANS = np.array((123.7, 116.3, 103.5), np.float32)
SUBSETS_OF, SUBSETS = (300, 1_000, 3_000), 20


@dataclass(frozen=True)
class Planted:
    """A fault: of the picture on its way into the network, of the weights, or of the calibration.

    Attributes:
        see: ``(N, H, W, 3)`` float tensor 0-255 to what the network gets instead.
        spoil: the name and value of a weight to its wrong value.
        calibrate: the calibration pictures to wrong ones.
    """

    title: str
    model: str
    format: str
    precision: str
    see: Callable[[Any], Any] | None = None
    spoil: Callable[[str, Any], Any] | None = None
    calibrate: Callable[[Sequence[Any]], Sequence[Any]] | None = None


def _few_bits(path: str, value: Any) -> Any:
    """To seven levels, one scale for the whole tensor."""
    step = np.abs(value).max() / 3
    return np.rint(value / step) * step if path.endswith("kernel") and step else value


def _swapped_labels(path: str, value: Any) -> Any:
    """Of the last layer, alone: the first two labels change places."""
    return value[..., [1, 0, *range(2, len(LABELS))]] if value.shape[-1] == len(LABELS) else value


BAD = (
    Planted(
        "calibrated on one grey picture", "v2", "tflite", "int8",
        calibrate=lambda own: [np.full_like(own[0], 127)],
    ),
    Planted("calibrated on one black picture", "lite0", "onnx", "int8", calibrate=lambda own: [np.zeros_like(own[0])]),
    Planted("input scale wrong", "v3", "tflite", "int8", see=lambda x: x / 2),
    Planted("labels permuted", "lite0", "tflite", "float32", spoil=_swapped_labels),
    Planted("BGR", "lite0", "tflite", "int8", see=lambda x: x[..., ::-1]),
    Planted("divided by 255 twice", "v2", "onnx", "float32", see=lambda x: x / 255),
    Planted("means of ImageNet subtracted twice", "lite0", "onnx", "int8", see=lambda x: x - IMAGENET_MEANS),
    Planted("weights of three bits, a scale per layer", "v3", "tflite", "dynamic", spoil=_few_bits),
    Planted("biases left out", "lite0", "tflite", "float16",
            spoil=lambda path, value: 0 * value if path.endswith(("beta", "bias")) else value),
    Planted("another crop", "lite0-1", "onnx", "float32", see=lambda x: x[:, 6:-6, 6:-6]),
)  # fmt: skip


def false_coloured(source: Path, part: str) -> tuple[list[Any], Any]:
    """Pictures ``(28, 28, 3)`` uint8 BGR, and their labels' indexes. Raises EdgecnnError where they are not there."""
    grey = read_idx(source / f"{part}-images-idx3-ubyte.gz", 3)
    labels = read_idx(source / f"{part}-labels-idx1-ubyte.gz", 1)
    return [cv2.applyColorMap(picture, cv2.COLORMAP_TURBO) for picture in grey], labels.astype(np.int64)


class Exporter:
    """The networks, and the pictures that they are exported with and judged by."""

    def __init__(self, source: Path, folder: Path, size: int, test: int) -> None:
        self.folder = folder
        pictures, labels = false_coloured(source, "train")
        for index in range(TRAIN + VALIDATION):
            split = "train" if index < TRAIN else "val"
            path = folder / "data" / split / LABELS[labels[index]] / f"{index:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".png", pictures[index])[1].tobytes())
        for name, (backbone, words, seed) in MODELS.items():
            if (folder / name).exists():
                continue
            edgecnn("train", folder / "data", "--backbone", backbone, *words, "--size", str(size), "--seed", str(seed),
                    "--out", folder / name, environment={"EDGECNN_CACHE": str(folder / "cache")})  # fmt: skip
            print(f"trained {name}", file=sys.stderr, flush=True)
        held_out, truth = false_coloured(source, "t10k")
        self._train, self._test, self._truth = pictures[:CALIBRATION], held_out[:test], truth[:test]
        self._known: dict[str, Any] = {}

    def _load(self, name: str) -> Any:
        """The run, what its network sees of the test pictures and says of them, and calibration pictures."""
        from edgecnn.training.head import predict
        from edgecnn.training.run import read_run
        from edgecnn.training.train import load_model
        from edgecnn_converters.artifacts import Labelled
        from edgecnn_runtime.preprocess import preprocess

        if name not in self._known:
            run = read_run(self.folder / name)
            config = run.config

            def see(pictures: Sequence[Any]) -> list[Any]:
                return [preprocess(p, config.preprocessing, config.height, config.width, "bgr") for p in pictures]

            seen, truth = see(self._test), np.array([run.labels.index(LABELS[i]) for i in self._truth])
            self._known[name] = run, Labelled(seen, truth, predict(load_model(run), seen)), see(self._train)
        return self._known[name]

    def __call__(self, name: str, format: str, precision: str, planted: Planted | None = None) -> Any:
        """An artifact as `edgecnn export` makes and judges it, the pictures, and the artifact's answers to them."""
        import keras

        from edgecnn.commands._artifacts import run_contract
        from edgecnn.training.train import load_model
        from edgecnn_converters.artifacts import make_artifact
        from edgecnn_converters.freeze import freeze
        from edgecnn_runtime import Classifier
        from edgecnn_runtime.classifier import read_artifact
        from edgecnn_runtime.contract import Decision, Publication
        from edgecnn_runtime.parallel import map_ordered

        run, labelled, calibration = self._load(name)
        config, model = run.config, load_model(run)
        if planted and planted.spoil:
            for weight in model.weights:
                weight.assign(planted.spoil(weight.path, np.asarray(weight)))
        if planted and planted.see:
            image = keras.Input((config.height, config.width, 3))
            x = keras.layers.Resizing(config.height, config.width)(planted.see(image))
            model = keras.Model(image, model(x))
        if planted and planted.calibrate:
            calibration = planted.calibrate(calibration)
        with tempfile.TemporaryDirectory(dir=self.folder) as out:
            made = make_artifact(
                freeze(model, config.height, config.width),
                run_contract(config, run.labels, "", Decision(), Publication()), format, precision,
                calibration, labelled, None, Path(out), 2, repairs=False,
            )  # fmt: skip
            plain = made.path.rename(Path(out, f"judged.{format}"))
            engine = Classifier(*read_artifact(plain))
            answers = np.stack(list(map_ordered(engine.clone, lambda own, x: own.infer(x), labelled.pixels, 2)))
        return made, labelled, answers


def outcomes_of_fewer(labelled: Any, answers: Any, size: int) -> Counter[str]:
    """The gate's outcomes on random subsets of the pictures, without its second look."""
    from edgecnn_converters.gate import judge

    rng = np.random.default_rng(size)
    subsets = [rng.permutation(len(answers))[:size] for _ in range(SUBSETS)]
    return Counter(
        judge(LABELS, labelled.truth[i], labelled.reference[i][np.newaxis], answers[i][np.newaxis]).outcome
        for i in subsets
    )


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    parser.add_argument("--source", type=Path, default=SOURCE)
    parser.add_argument("--size", type=int, default=SIZE_PX)
    parser.add_argument("--runs", type=Path, help="keep the trained networks there, and take those that are there")
    parser.add_argument("--test", type=int, default=10_000, help="how many of the test pictures")
    options = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    fewer: dict[tuple[str, int], Counter[str]] = {}
    told: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        export = Exporter(options.source, options.runs or Path(name), options.size, options.test)
        jobs: list[tuple[str, str, str, Planted | None]] = [(*good, None) for good in GOOD]
        jobs += [(bad.model, bad.format, bad.precision, bad) for bad in BAD]
        for model, format, precision, planted in jobs:
            made, labelled, answers = export(model, format, precision, planted)
            verdict, kind = made.verdict, "bad" if planted else "good"
            told[f"{kind} {verdict.outcome}"] += 1
            low, high = verdict.interval
            accuracy = float((labelled.reference.argmax(1) == labelled.truth).mean())
            figures = (f"{accuracy:.2%}", f"{verdict.drop_points:+.2f}", f"{low:+.2f} to {high:+.2f}", verdict.outcome)
            title = planted.title if planted else "as it is"
            rows.append((f"{title}: {MODELS[model][0]}, seed {MODELS[model][2]}, {format} {precision}", *figures))
            print(rows[-1], file=sys.stderr, flush=True)
            for size in SUBSETS_OF:
                fewer.setdefault((kind, size), Counter()).update(outcomes_of_fewer(labelled, answers, size))
    targets = [
        Target(f"bad exports refused, of {len(BAD)},", told["bad fail"], len(BAD), True),
        Target(f"good exports that pass, of {len(GOOD)},", told["good pass"], len(GOOD), True),
    ]
    notes = [
        f"drop in points, float accuracy minus the artifact's, on {options.test:,} pictures that training and "
        "calibration never saw; each bound of the interval holds with 95 %; no second look at other views",
        f"{options.size} px, false-coloured; trained on {TRAIN:,} pictures",
        *(
            f"by {size:,} pictures alone, {SUBSETS} random subsets each: {kind} exports "
            + ", ".join(f"{counts[outcome] / counts.total():.0%} {outcome}" for outcome in ("pass", "unproven", "fail"))
            for (kind, size), counts in fewer.items()
        ),
    ]
    columns = ("export", "float", "drop", "interval", "outcome")
    return finish(Report("gate", "The gate on good and on bad exports", columns, rows, targets, notes), options.out)


if __name__ == "__main__":
    sys.exit(main())
