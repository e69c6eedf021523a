"""What the benchmarks of the converters share: networks to convert, and the conversions that a user would pick instead.

The stock conversions are written as the guides of TensorFlow and of ONNX Runtime have them, from a network whose batch
is fixed at 1, which is the best that can be done for them without touching the graph.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from bench._report import interleaved_ms
from edgecnn import backbones
from edgecnn.training.head import add_pooling, build_head, join
from edgecnn.training.options import HeadOptions
from edgecnn_converters.formats.onnx import OPSET
from edgecnn_runtime.backends import Backend
from edgecnn_runtime.quiet import quiet

MOBILE = (
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "mobilenet",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "efficientnet_v2_b0",
)
CLASSES = 10
IN_A_ROW = 10

Pixels = npt.NDArray[np.uint8]
T = TypeVar("T")


def add_backbones(parser: argparse.ArgumentParser, default: Sequence[str] | None = MOBILE) -> None:
    """The option ``--backbones``."""
    known, said = [*backbones.names(), "all"], "names, or all; default: those for small devices"
    parser.add_argument("--backbones", nargs="+", default=default, choices=known, metavar="NAME", help=said)


def add_size_and_turns(parser: argparse.ArgumentParser, turns: int) -> None:
    """The options of what times every backbone."""
    add_backbones(parser)
    parser.add_argument("--size", type=int, help="side in px instead of each backbone's own")
    parser.add_argument("--turns", type=int, default=turns, help="of some inferences with each file")


def each_backbone(options: argparse.Namespace, measure: Callable[[str, int, int], T]) -> list[T]:
    """`measure(name, size_px, turns)` of the backbones that are named, each in a process of its own: TensorFlow keeps
    gigabytes of a large one."""
    found = []
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as alone:
        for name in chosen(options.backbones):
            size_px = options.size or backbones.get(name).size_px
            found.append(alone.submit(measure, name, size_px, options.turns).result())
            print(f"{name} done", file=sys.stderr, flush=True)
    return found


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """The backbones that are named; "all" names every one."""
    return backbones.names() if "all" in names else tuple(names)


def soft_pictures(count: int, size_px: int) -> list[Pixels]:
    """Soft coloured pictures, each ``(size_px, size_px, 3)`` uint8 RGB."""
    coarse = np.random.default_rng(5).integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
    large = (cv2.resize(picture, (size_px, size_px), interpolation=cv2.INTER_LINEAR) for picture in coarse)
    return [np.asarray(picture, np.uint8) for picture in large]


def living_model(name: str, size_px: int, pictures: Sequence[Pixels]) -> Any:
    """An untrained classifier whose batch normalization has the statistics of the pictures: with those that it begins
    with, activations die out, ranges become degenerate, and the delegate leaves operators alone that it would take."""
    import keras
    import tensorflow as tf

    keras.backend.clear_session()  # or the networks before would stay in memory
    keras.utils.set_random_seed(1)
    network = backbones.get(name).build(size_px, size_px, "none")
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    see = tf.function(lambda batch: network(batch, training=True))  # eagerly, Keras keeps all of its maps: 14 GB
    see(np.stack(pictures).astype(np.float32))
    features = int(np.prod(add_pooling(network).output_shape[1:]))
    return join(network, build_head(features, CLASSES, HeadOptions()))


def stock_tflite(model: Any, calibration: Sequence[Pixels]) -> bytes:
    """int8 by TensorFlow's converter as its guide to full integer quantization has it; uint8 in and out."""
    import keras
    import tensorflow as tf

    with quiet(), tempfile.TemporaryDirectory() as folder:
        fixed = keras.InputSpec("float32", (1, *model.input_shape[1:]))
        model.export(folder, format="tf_saved_model", input_signature=[fixed], verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([pixels[np.newaxis].astype(np.float32)] for pixels in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
        return bytes(converter.convert())


def stock_onnx(function: Any, calibration: Sequence[Pixels], per_channel: bool) -> bytes:
    """int8 by tf2onnx and ONNX Runtime's static quantization with its defaults: QDQ, int8 activations, extremes.

    Args:
        function: from `edgecnn_converters.freeze.freeze`.
    """
    import onnx
    import tf2onnx
    from onnxruntime import quantization

    source, sink = function.inputs[0].name, function.outputs[0].name

    class Pictures(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._inputs = ({source: pixels[np.newaxis].astype(np.float32)} for pixels in calibration)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._inputs, None)

    with quiet(), tempfile.TemporaryDirectory() as folder:
        model, _ = tf2onnx.convert.from_graph_def(
            function.graph.as_graph_def(), input_names=[source], output_names=[sink], opset=OPSET
        )
        plain, quantized = Path(folder, "plain.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, plain)
        quantization.quant_pre_process(str(plain), str(plain), skip_symbolic_shape=True)  # or it wants sympy
        quantization.quantize_static(str(plain), str(quantized), Pictures(), per_channel=per_channel)
        return quantized.read_bytes()


def inference_ms(engines: Sequence[Backend], pictures: Sequence[Pixels], turns: int) -> list[list[float]]:
    """Times of one inference of each engine, ``turns`` of each: means of `IN_A_ROW` of them, since the weights of the
    others have driven its own out of the processor's caches when its turn comes, as no device does."""

    def some(engine: Backend) -> Callable[[], object]:
        return lambda: [engine.run(pictures[turn % len(pictures)]) for turn in range(IN_A_ROW)]

    times = interleaved_ms([some(engine) for engine in engines], turns, warm_up=1)
    return [[own_ms / IN_A_ROW for own_ms in own] for own in times]
