"""Rewrites of a TFLite graph that keep the function and please the engines' kernels.

Hard-swish, x * relu6(x + 3) / 6, has no int8 kernel in the XNNPACK delegate: each one cuts the graph in two, and int8
becomes slower than float. Written as an addition with ReLU6 and a product, it has. The sixth that is left, and any
other multiplication by a number, moves forward through whatever it commutes with, into the next weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgecnn_converters.quantization._graph import WEIGHTED, Graph

Factor = npt.NDArray[np.float32]  # (1,) or one for each channel

_MOST_JOINED = 4  # maps in one concatenation, for XNNPACK
_ONE = np.ones(1, np.float32)


def rewrite(graph: bytes, for_int8: bool) -> bytes:
    """The same function, up to rounding, by a graph with fewer multiplications and narrower concatenations.

    Args:
        graph: a float32 TFLite file.
        for_int8: also without hard-swish, which in float is one fast operator.
    """
    return _Rewriter(graph, for_int8).run()


def round_shift(graph: bytes) -> bytes:
    """What is added to the pixels as a whole number, where the next convolutions can make up for the rest: in 8 bits,
    pixels less 127.5 lie half way between two steps, and two of them would become one.

    The function is kept but for what lies beyond the picture's border, which is the rest away from what it was.

    Args:
        graph: a float32 TFLite file from `rewrite`.
    """
    own = Graph(graph)
    pixels = own.graph.inputs[0]
    for operator in own.graph.operators:
        shift = own.array(operator.inputs[1]) if own.kind(operator) == "ADD" and operator.inputs[0] == pixels else None
        if shift is None or shift.size > 1 or own.activation(operator) != "NONE":
            continue
        readers: list[Any] = []
        tensors = [int(operator.outputs[0])]
        for tensor in tensors:
            found = [reader for reader in own.graph.operators if tensor in reader.inputs]
            tensors += [int(reader.outputs[0]) for reader in found if own.kind(reader) == "PAD"]
            readers += [reader for reader in found if own.kind(reader) != "PAD"]
        constants = [[own.array(tensor) for tensor in reader.inputs[1:]] for reader in readers]
        known = all(len(each) == 2 and all(values is not None for values in each) for each in constants)
        convolutions = all(own.kind(reader) == "CONV_2D" for reader in readers)
        if not (known and convolutions) or set(tensors) & set(own.graph.outputs):
            continue
        whole = np.rint(shift)
        operator.inputs = [pixels, own.constant(whole, "/shift")]
        for reader, (weights, bias) in zip(readers, constants, strict=True):
            assert weights is not None
            rest = (whole - shift).ravel() * weights.sum((1, 2, 3))
            reader.inputs = [*reader.inputs[:2], own.constant(bias - rest, own.name(reader.inputs[2]))]
    return own.to_bytes()


def sign_in_float(graph: bytes) -> bytes:
    """An int8 TFLite file that makes int8 of its uint8 input by way of float32: the one operator that does it at once
    rounds anew, slowly, outside the delegate; the two XNNPACK reads from a table, together with what is added next."""
    own = Graph(graph)
    pixels = own.graph.inputs[0]
    readers = [operator for operator in own.graph.operators if pixels in operator.inputs]
    if all(own.kind(operator) == "QUANTIZE" for operator in readers):  # not where the first layer stays in float
        in_float = own.tensor_like(pixels, "/float32")
        for operator in readers:
            operator.inputs = [in_float]
        own.graph.operators = [own.make_operator("DEQUANTIZE", [pixels], in_float), *own.graph.operators]
    return own.to_bytes()


class _Rewriter(Graph):
    """Goes through the operators in their order. `_values` says of a tensor of the old graph which tensor of the new
    one has its values, and by which factor those are still to be multiplied."""

    def __init__(self, graph: bytes, for_int8: bool) -> None:
        super().__init__(graph)
        self._for_int8 = for_int8
        self._values: dict[int, tuple[int, Factor]] = {}
        self._operators: list[Any] = []

    def run(self) -> bytes:
        results = set(self.graph.outputs)
        for operator in self.graph.operators:
            kind = self.kind(operator)
            step = getattr(self, f"_{kind.lower()}", None)
            ends = bool(results & set(operator.outputs)) and kind not in WEIGHTED
            if step is None or ends or not step(operator):
                self._keep(operator)
        self.graph.operators = self._operators
        return self.to_bytes()

    # Of each operator: True where it was dealt with, False where it must stay as it is.

    def _hard_swish(self, operator: Any) -> bool:
        if not self._for_int8:
            return False
        x, y = self._whole(operator.inputs[0]), operator.outputs[0]
        gate = self.tensor_like(x, "/relu6")
        self._add_operator("ADD", [x, self.constant(np.float32(3), "three")], gate, "RELU6")
        self._add_operator("MUL", [x, gate], y)
        self._values[y] = y, np.full(1, 1 / 6, np.float32)
        return True

    def _mul(self, operator: Any) -> bool:
        if self.activation(operator) != "NONE":
            return False
        one, other = operator.inputs
        if self.array(one) is not None:
            one, other = other, one
        tensor, factor = self._value(one)
        number = self.array(other)
        if number is None:
            partner, more = self._value(other)
            operator.inputs = [tensor, partner]
            return self._commutes(operator, factor * more)
        if number.size != 1 or self.shape(one) != self.shape(operator.outputs[0]):
            return False
        self._values[operator.outputs[0]] = tensor, factor * number.reshape(1)
        return True

    def _add(self, operator: Any) -> bool:
        """factor * x + constant is factor * (x + constant / factor); not with a factor for each channel, the smallest
        of which would make constants that no common scale suits."""
        one, other = operator.inputs
        if self.array(one) is not None:
            one, other = other, one
        tensor, factor = self._value(one)
        constant = self.array(other)
        activation = self.activation(operator)
        if constant is None or factor.size > 1 or not (activation == "NONE" or (activation == "RELU" and factor > 0)):
            return False
        operator.inputs = [tensor, self.constant(constant / factor, "/shift") if factor != 1 else other]
        return self._commutes(operator, factor)

    def _concatenation(self, operator: Any) -> bool:
        values = [self._value(tensor) for tensor in operator.inputs]
        last = operator.builtinOptions.axis in (-1, len(self.shape(operator.inputs[0])) - 1)
        if not last or self.activation(operator) != "NONE":
            return False
        parts = [
            np.broadcast_to(factor, self.shape(tensor)[-1:])
            for tensor, (_, factor) in zip(operator.inputs, values, strict=True)
        ]
        operator.inputs = self._in_groups([tensor for tensor, _ in values], operator)
        return self._commutes(operator, np.concatenate(parts))

    def _in_groups(self, tensors: list[int], operator: Any) -> list[int]:
        """At most as many tensors as the delegate joins at once, by joining some before."""
        while len(tensors) > _MOST_JOINED:
            groups = [tensors[i : i + _MOST_JOINED] for i in range(0, len(tensors), _MOST_JOINED)]
            tensors = [group[0] if len(group) == 1 else self._join(group, operator) for group in groups]
        return tensors

    def _join(self, tensors: list[int], operator: Any) -> int:
        shape = (*self.shape(tensors[0])[:-1], sum(self.shape(tensor)[-1] for tensor in tensors))
        made = self.schema.OperatorT()
        made.opcodeIndex, made.inputs = operator.opcodeIndex, tensors
        made.outputs = [self.add_tensor(shape, f"{self.name(operator.outputs[0])}/{tensors[0]}", 0)]
        made.builtinOptionsType, made.builtinOptions = operator.builtinOptionsType, operator.builtinOptions
        self._operators.append(made)
        return int(made.outputs[0])

    def _mean(self, operator: Any) -> bool:
        axes, rank = self.array(operator.inputs[1]), len(self.shape(operator.inputs[0]))
        over_channels = axes is None or bool((axes.ravel() % rank == rank - 1).any())
        return not over_channels and self._linear(operator)

    def _reshape(self, operator: Any) -> bool:
        same = self.shape(operator.inputs[0])[-1:] == self.shape(operator.outputs[0])[-1:]
        return (same or self._value(operator.inputs[0])[1].size == 1) and self._linear(operator)

    def _linear(self, operator: Any) -> bool:
        tensor, factor = self._value(operator.inputs[0])
        operator.inputs = [tensor, *operator.inputs[1:]]
        return self._commutes(operator, factor)

    _pad = _reshape

    def _relu(self, operator: Any) -> bool:
        return bool((self._value(operator.inputs[0])[1] > 0).all()) and self._linear(operator)

    def _max_pool_2d(self, operator: Any) -> bool:
        return self.activation(operator) in ("NONE", "RELU") and self._relu(operator)

    def _average_pool_2d(self, operator: Any) -> bool:
        return self._linear(operator) if self.activation(operator) == "NONE" else self._max_pool_2d(operator)

    def _conv_2d(self, operator: Any) -> bool:
        """Weights ``(out, height, width, in)``; ``(out, in)`` of a dense layer."""
        tensor, factor = self._value(operator.inputs[0])
        weights = self.array(operator.inputs[1])
        if weights is None or factor.size not in (1, weights.shape[-1]):
            return False
        return self._absorb(operator, tensor, weights, factor)

    _fully_connected = _conv_2d

    def _depthwise_conv_2d(self, operator: Any) -> bool:
        """Weights ``(1, height, width, in * multiplier)``."""
        tensor, factor = self._value(operator.inputs[0])
        weights = self.array(operator.inputs[1])
        if weights is None or factor.size not in (1, self.shape(operator.inputs[0])[-1]):
            return False
        repeats = weights.shape[-1] // self.shape(operator.inputs[0])[-1]
        return self._absorb(operator, tensor, weights, factor if factor.size == 1 else np.repeat(factor, repeats))

    def _absorb(self, operator: Any, tensor: int, weights: npt.NDArray[np.float32], factor: Factor) -> bool:
        old = operator.inputs[1]
        new = old if (factor == 1).all() else self.constant(weights * factor, self.name(old))  # others may share it
        operator.inputs = [tensor, new, *operator.inputs[2:]]
        self._operators.append(operator)
        return True

    def _commutes(self, operator: Any, factor: Factor) -> bool:
        """Keeps an operator whose inputs are set already; its output is still to be multiplied by `factor`."""
        self._operators.append(operator)
        self._values[operator.outputs[0]] = operator.outputs[0], factor
        return True

    def _keep(self, operator: Any) -> None:
        operator.inputs = [self._whole(tensor) for tensor in operator.inputs]
        self._operators.append(operator)

    # Values

    def _value(self, tensor: int) -> tuple[int, Factor]:
        return self._values.get(tensor, (tensor, _ONE))

    def _whole(self, tensor: int) -> int:
        """A tensor of the new graph that has the values of one of the old graph, multiplied where that is due."""
        found, factor = self._value(tensor)
        if (factor == 1).all():
            return found
        whole = self.tensor_like(tensor, "/scaled")
        self._add_operator("MUL", [found, self.constant(factor if factor.size > 1 else factor[0], "/factor")], whole)
        self._values[tensor] = whole, _ONE
        return whole

    def _add_operator(self, kind: str, inputs: list[int], output: int, activation: str = "NONE") -> None:
        options = getattr(self.schema, f"{kind.capitalize()}OptionsT")()
        options.fusedActivationFunction = getattr(self.schema.ActivationFunctionType, activation)
        made = self.make_operator(kind, inputs, output)
        made.builtinOptionsType = getattr(self.schema.BuiltinOptions, f"{kind.capitalize()}Options")
        made.builtinOptions = options
        self._operators.append(made)
