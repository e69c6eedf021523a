"""Quantization-aware fine-tuning: weights learn to give in 8 bits what the float network gives.

What is trained is the very graph that is quantized afterwards, with normalization folded and activations fused, so that
every rounding is simulated where it will happen. Rounding passes gradients on as if it were not there, clipping does
not: the straight-through estimator (Bengio et al. 2013, https://arxiv.org/abs/1308.3432), as Jacob et al. 2018,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", use it. The targets are
the float network's own probabilities: labels are not needed, and the int8 file stays the twin of its float model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecnn_converters.quantization._graph import WEIGHTED, Graph
from edgecnn_converters.quantization.repair import Prepared
from edgecnn_runtime.errors import EdgecnnError

Pixels = npt.NDArray[np.uint8]
Progress = Callable[[str, int, int], None]

# Measured on MobileNetV3-Small with channels scaled by random factors that the next layer undoes (mean difference of a
# probability 0.043 before, 0.010 after): three times as many steps, twice the batch, ranges that learn too, and layers
# in float beside it gave nothing more; a tenfold rate was worse. A network that 8 bits do not harm gains nothing.
STEPS = 100
_BATCH = 16
_RATE = 0.02  # in steps of the 8 bits, which suits every layer
_LEVELS = 255
_WEIGHT_STEPS = 127  # of an absolute value
_AS_BEFORE = ("AVERAGE_POOL_2D", "CONCATENATION", "MAX_POOL_2D", "PAD", "RESHAPE")  # give values of their inputs' scale
_LOGISTIC_RANGE = (0.0, 255 / 256)  # which the engine prescribes
_ENDS = ("SOFTMAX", "LOGISTIC")


class TuningError(EdgecnnError):
    """There is nothing to fine-tune, or nothing to do it with; the message says which."""


def fine_tune(prepared: Prepared, pictures: Sequence[Pixels], progress: Progress) -> Prepared:
    """The same network with weights that have seen what 8 bits do. Deterministic on one machine's CPU.

    Args:
        prepared: with the ranges of all activations, which stay.
        pictures: preprocessed training pictures, each ``(H, W, 3)`` uint8 RGB, of which `STEPS` batches are seen.
        progress: told "fine-tuning", how many steps are done, and how many there are.

    Returns:
        Weights lie where 8 bits put them, so that they are rounded no further.

    Raises:
        TuningError: no pictures; an operator that is not simulated; or no softmax or sigmoid at the end.
    """
    if not len(pictures):
        raise TuningError("there are no training pictures")
    import keras
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    network, exact = Simulation(prepared.graph, prepared), Simulation(prepared.exact, None)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(_RATE, STEPS), beta_2=0.99)
    optimizer.build(network.variables)
    sigmoid = network.end == "LOGISTIC"

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def learn(batch: Any) -> None:
        logits = exact(batch)
        with tf.GradientTape() as tape:
            if sigmoid:
                losses = tf.nn.sigmoid_cross_entropy_with_logits(tf.sigmoid(logits), network(batch))
            else:
                losses = tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(logits), network(batch))
            loss = tf.reduce_mean(losses)
        optimizer.apply(tape.gradient(loss, [variable.value for variable in network.variables]), network.variables)

    height, width = network.input_shape[1:3]
    step = tf.function(learn, input_signature=[tf.TensorSpec((_BATCH, height, width, 3), tf.float32)])
    rng = np.random.default_rng(0)
    order = np.concatenate([rng.permutation(len(pictures)) for _ in range(-(-STEPS * _BATCH // len(pictures)))])
    for number in range(STEPS):
        chosen = order[number * _BATCH : (number + 1) * _BATCH]
        step(tf.constant(np.stack([pictures[i] for i in chosen]).astype(np.float32)))
        progress("fine-tuning", number + 1, STEPS)
    if not all(np.isfinite(variable).all() for variable in network.variables):
        raise TuningError("the weights did not stay finite")
    return replace(prepared, graph=network.tuned())


class _Layer:
    """A layer with weights.

    Attributes:
        kernel, bias: variables, in steps of the layer's 8 bits, so that one learning rate suits all.
    """

    def __init__(self, graph: Graph, operator: Any, rounds: bool, bias_step: float) -> None:
        import keras

        weights = graph.array(operator.inputs[1])
        if weights is None:
            raise TuningError("a layer computes its weights")
        by_channel = (0, 1, 2) if graph.kind(operator) == "DEPTHWISE_CONV_2D" else tuple(range(1, weights.ndim))
        has_bias = len(operator.inputs) > 2 and operator.inputs[2] >= 0
        bias = graph.array(operator.inputs[2]) if has_bias else np.zeros(graph.shape(operator.outputs[0])[-1])
        if bias is None:
            raise TuningError("a layer computes its bias")
        self._rounds, self._axes, self._bias_step = rounds, by_channel, np.float32(bias_step)
        largest = np.abs(weights).max(by_channel, keepdims=True)
        self._step = np.maximum(largest / _WEIGHT_STEPS, np.finfo(np.float32).tiny).astype(np.float32)
        self.kernel = keras.Variable(weights / self._step, dtype="float32")
        self.bias = keras.Variable(bias / self._bias_step, dtype="float32")

    def weights(self) -> Any:
        """Rounded where the layer is, with a scale for each output channel that goes along with its largest weight."""
        import tensorflow as tf

        kernel = self.kernel.value
        if not self._rounds:
            return kernel * self._step
        largest = tf.reduce_max(tf.abs(kernel), self._axes, keepdims=True)
        step = tf.maximum(largest / _WEIGHT_STEPS, np.finfo(np.float32).tiny)
        return (kernel + tf.stop_gradient(tf.round(kernel / step) * step - kernel)) * self._step

    def biases(self) -> Any:
        return self.bias.value * self._bias_step


class Simulation:
    """A float TFLite graph as differentiable operations: ``(N, H, W, 3)`` float32 RGB 0-255 to logits."""

    def __init__(self, content: bytes, prepared: Prepared | None) -> None:
        """With `prepared`, all that is not to stay in float is rounded; else nothing is."""
        import tensorflow

        self._tf, self._own = tensorflow, Graph(content)
        own = self._own
        operators = own.graph.operators
        self.end = own.kind(operators[-1])
        if self.end not in _ENDS or operators[-1].outputs[0] != own.graph.outputs[0]:
            raise TuningError("the network does not end in a softmax or a sigmoid")
        if unknown := sorted({own.kind(each) for each in operators[:-1] if not self._known(each)}):
            raise TuningError(f"{unknown[0]} is not simulated")
        self._ranges: dict[int, tuple[float, float]] = {}  # of the tensors that are rounded
        self._layers: dict[int, _Layer] = {}  # by their output
        for operator in operators:
            output, kind = int(operator.outputs[0]), own.kind(operator)
            name = own.name(output)
            low, high = (0.0, 0.0) if prepared is None else prepared.ranges.get(name, (0.0, 0.0))
            rounds = prepared is not None and name not in prepared.in_float
            if rounds and kind not in _AS_BEFORE and high > low:
                self._ranges[output] = _LOGISTIC_RANGE if kind == "LOGISTIC" else (low, high)
            if kind in WEIGHTED:
                self._layers[output] = _Layer(own, operator, rounds, (high - low) / _LEVELS or 1.0)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self._own.shape(self._own.graph.inputs[0])

    @property
    def variables(self) -> list[Any]:
        return [variable for layer in self._layers.values() for variable in (layer.kernel, layer.bias)]

    def tuned(self) -> bytes:
        """The graph with the weights as they are now."""
        own = self._own
        for operator in own.graph.operators:
            if (layer := self._layers.get(int(operator.outputs[0]))) is not None:
                weights, biases = np.asarray(layer.weights()), np.asarray(layer.biases())
                operator.inputs = [
                    operator.inputs[0],
                    own.constant(weights, own.name(operator.inputs[1])),
                    own.constant(biases, own.name(operator.outputs[0]) + "/bias"),
                ]
        return own.to_bytes()

    def __call__(self, pictures: Any) -> Any:
        own = self._own
        values = {int(own.graph.inputs[0]): pictures}
        *operators, last = own.graph.operators
        for operator in operators:
            inputs = [
                values[int(tensor)] if int(tensor) in values else own.array(tensor)
                for tensor in operator.inputs
                if tensor >= 0
            ]
            x = self._method(operator)(operator, *inputs)
            x = self._method(operator, self._fused(operator))(operator, x)
            output = int(operator.outputs[0])
            if output in self._ranges:
                x = self._tf.quantization.fake_quant_with_min_max_args(x, *self._ranges[output])
            values[output] = x
        return values[int(last.inputs[0])]

    def _fused(self, operator: Any) -> str:
        fuses = hasattr(operator.builtinOptions, "fusedActivationFunction")
        return self._own.activation(operator) if fuses else "NONE"

    def _method(self, operator: Any, kind: str | None = None) -> Any:
        return getattr(self, f"_{(kind or self._own.kind(operator)).lower()}", None)

    def _known(self, operator: Any) -> bool:
        return None not in (self._method(operator), self._method(operator, self._fused(operator)))

    # Of each operator: what it gives, without the activation that is fused into it. Shapes in the file have a batch
    # of one.

    def _conv_2d(self, operator: Any, x: Any, *_: Any) -> Any:
        layer = self._layers[int(operator.outputs[0])]
        kernel = self._tf.transpose(layer.weights(), (1, 2, 3, 0))
        strides, padding, dilations = self._window(operator)
        return self._tf.nn.conv2d(x, kernel, strides, padding, dilations=dilations) + layer.biases()

    def _depthwise_conv_2d(self, operator: Any, x: Any, *_: Any) -> Any:
        layer = self._layers[int(operator.outputs[0])]
        weights = layer.weights()
        kernel = self._tf.reshape(weights, (*weights.shape[1:3], x.shape[-1], -1))
        strides, padding, dilations = self._window(operator)
        return self._tf.nn.depthwise_conv2d(x, kernel, (1, *strides, 1), padding, dilations=dilations) + layer.biases()

    def _window(self, operator: Any) -> tuple[tuple[int, int], str, tuple[int, int]]:
        options = operator.builtinOptions
        dilations = getattr(options, "dilationHFactor", 1), getattr(options, "dilationWFactor", 1)
        return (options.strideH, options.strideW), ("SAME", "VALID")[options.padding], dilations

    def _fully_connected(self, operator: Any, x: Any, *_: Any) -> Any:
        layer = self._layers[int(operator.outputs[0])]
        weights = layer.weights()
        flat = self._tf.reshape(x, (-1, weights.shape[1])) @ self._tf.transpose(weights) + layer.biases()
        return self._reshape(operator, flat)

    def _reshape(self, operator: Any, x: Any, *_: Any) -> Any:
        return self._tf.reshape(x, (-1, *self._own.shape(operator.outputs[0])[1:]))

    def _pooled(self, operator: Any, x: Any, how: str) -> Any:
        options = operator.builtinOptions
        strides, padding, _ = self._window(operator)
        return self._tf.nn.pool(x, (options.filterHeight, options.filterWidth), how, strides, padding)

    def _average_pool_2d(self, operator: Any, x: Any) -> Any:
        return self._pooled(operator, x, "AVG")

    def _max_pool_2d(self, operator: Any, x: Any) -> Any:
        return self._pooled(operator, x, "MAX")

    def _mean(self, operator: Any, x: Any, axes: Any) -> Any:
        return self._tf.reduce_mean(x, [int(axis) for axis in axes.ravel()], operator.builtinOptions.keepDims)

    def _concatenation(self, operator: Any, *parts: Any) -> Any:
        return self._tf.concat(parts, operator.builtinOptions.axis)

    def _pad(self, operator: Any, x: Any, widths: Any) -> Any:
        return self._tf.pad(x, widths)

    def _add(self, operator: Any, one: Any, other: Any) -> Any:
        return one + other

    def _sub(self, operator: Any, one: Any, other: Any) -> Any:
        return one - other

    def _mul(self, operator: Any, one: Any, other: Any) -> Any:
        return one * other

    def _none(self, operator: Any, x: Any) -> Any:
        return x

    def _relu(self, operator: Any, x: Any) -> Any:
        return self._tf.nn.relu(x)

    def _relu6(self, operator: Any, x: Any) -> Any:
        return self._tf.nn.relu6(x)

    def _logistic(self, operator: Any, x: Any) -> Any:
        return self._tf.sigmoid(x)
