"""Rewrites of a float TFLite graph that keep the function and please int8 kernels.

Hard-swish, x * relu6(x + 3) / 6, has no int8 kernel in the XNNPACK delegate: each one cuts the graph in two, and int8
becomes slower than float. Written as an addition with ReLU6 and a product, it has. The sixth that is left, and any
other multiplication by a number, moves forward through whatever it commutes with, into the next weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Factor = npt.NDArray[np.float32]  # (1,) or one for each channel

_MOST_JOINED = 4  # maps in one concatenation, for XNNPACK
_ONE = np.ones(1, np.float32)
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")  # take a factor in, and pass none on


def rewrite(graph: bytes) -> bytes:
    """The same function, up to rounding, by a graph without hard-swish and with fewer multiplications.

    Args:
        graph: a float32 TFLite file.
    """
    return _Rewriter(graph).run()


class _Rewriter:
    """Goes through the operators in their order. `_values` says of a tensor of the old graph which tensor of the new
    one has its values, and by which factor those are still to be multiplied."""

    def __init__(self, graph: bytes) -> None:
        from tensorflow.lite.python import schema_py_generated as schema
        from tensorflow.lite.tools import flatbuffer_utils

        self._schema, self._flatbuffers = schema, flatbuffer_utils
        self._model = flatbuffer_utils.convert_bytearray_to_object(graph)
        self._graph = self._model.subgraphs[0]
        self._values: dict[int, tuple[int, Factor]] = {}
        self._operators: list[Any] = []
        names = {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
        self._kinds = [names[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in self._model.operatorCodes]

    def run(self) -> bytes:
        results = set(self._graph.outputs)
        for operator in self._graph.operators:
            kind = self._kinds[operator.opcodeIndex]
            step = getattr(self, f"_{kind.lower()}", None)
            ends = bool(results & set(operator.outputs)) and kind not in _WEIGHTED
            if step is None or ends or not step(operator):
                self._keep(operator)
        self._graph.operators = self._operators
        self._forget_unused_codes()
        return bytes(self._flatbuffers.convert_object_to_bytearray(self._model))

    # Of each operator: True where it was dealt with, False where it must stay as it is.

    def _hard_swish(self, operator: Any) -> bool:
        x, y = self._whole(operator.inputs[0]), operator.outputs[0]
        gate = self._tensor_like(x, "/relu6")
        self._add_operator("ADD", [x, self._constant(np.float32(3), "three")], gate, "RELU6")
        self._add_operator("MUL", [x, gate], y)
        self._values[y] = y, np.full(1, 1 / 6, np.float32)
        return True

    def _mul(self, operator: Any) -> bool:
        if self._activation(operator) != "NONE":
            return False
        one, other = operator.inputs
        if self._array(one) is not None:
            one, other = other, one
        tensor, factor = self._value(one)
        number = self._array(other)
        if number is None:
            partner, more = self._value(other)
            operator.inputs = [tensor, partner]
            return self._commutes(operator, factor * more)
        if number.size != 1 or self._shape(one) != self._shape(operator.outputs[0]):
            return False
        self._values[operator.outputs[0]] = tensor, factor * number.reshape(1)
        return True

    def _add(self, operator: Any) -> bool:
        """factor * x + constant is factor * (x + constant / factor); not with a factor for each channel, the smallest
        of which would make constants that no common scale suits."""
        one, other = operator.inputs
        if self._array(one) is not None:
            one, other = other, one
        tensor, factor = self._value(one)
        constant = self._array(other)
        activation = self._activation(operator)
        if constant is None or factor.size > 1 or not (activation == "NONE" or (activation == "RELU" and factor > 0)):
            return False
        operator.inputs = [tensor, self._constant(constant / factor, "/shift") if factor != 1 else other]
        return self._commutes(operator, factor)

    def _concatenation(self, operator: Any) -> bool:
        values = [self._value(tensor) for tensor in operator.inputs]
        last = operator.builtinOptions.axis in (-1, len(self._shape(operator.inputs[0])) - 1)
        if not last or self._activation(operator) != "NONE":
            return False
        parts = [
            np.broadcast_to(factor, self._shape(tensor)[-1:])
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
        shape = (*self._shape(tensors[0])[:-1], sum(self._shape(tensor)[-1] for tensor in tensors))
        made = self._schema.OperatorT()
        made.opcodeIndex, made.inputs = operator.opcodeIndex, tensors
        made.outputs = [self._add_tensor(shape, f"{self._name(operator.outputs[0])}/{tensors[0]}", 0)]
        made.builtinOptionsType, made.builtinOptions = operator.builtinOptionsType, operator.builtinOptions
        self._operators.append(made)
        return int(made.outputs[0])

    def _mean(self, operator: Any) -> bool:
        axes, rank = self._array(operator.inputs[1]), len(self._shape(operator.inputs[0]))
        over_channels = axes is None or bool((axes.ravel() % rank == rank - 1).any())
        return not over_channels and self._linear(operator)

    def _reshape(self, operator: Any) -> bool:
        same = self._shape(operator.inputs[0])[-1:] == self._shape(operator.outputs[0])[-1:]
        return (same or self._value(operator.inputs[0])[1].size == 1) and self._linear(operator)

    def _linear(self, operator: Any) -> bool:
        tensor, factor = self._value(operator.inputs[0])
        operator.inputs = [tensor, *operator.inputs[1:]]
        return self._commutes(operator, factor)

    _pad = _linear

    def _relu(self, operator: Any) -> bool:
        return bool((self._value(operator.inputs[0])[1] > 0).all()) and self._linear(operator)

    def _max_pool_2d(self, operator: Any) -> bool:
        return self._activation(operator) in ("NONE", "RELU") and self._relu(operator)

    def _average_pool_2d(self, operator: Any) -> bool:
        return self._linear(operator) if self._activation(operator) == "NONE" else self._max_pool_2d(operator)

    def _conv_2d(self, operator: Any) -> bool:
        """Weights ``(out, height, width, in)``; ``(out, in)`` of a dense layer."""
        tensor, factor = self._value(operator.inputs[0])
        weights = self._array(operator.inputs[1])
        if weights is None or factor.size not in (1, weights.shape[-1]):
            return False
        return self._absorb(operator, tensor, weights, factor)

    _fully_connected = _conv_2d

    def _depthwise_conv_2d(self, operator: Any) -> bool:
        """Weights ``(1, height, width, in * multiplier)``."""
        tensor, factor = self._value(operator.inputs[0])
        weights = self._array(operator.inputs[1])
        if weights is None or factor.size not in (1, self._shape(operator.inputs[0])[-1]):
            return False
        repeats = weights.shape[-1] // self._shape(operator.inputs[0])[-1]
        return self._absorb(operator, tensor, weights, factor if factor.size == 1 else np.repeat(factor, repeats))

    def _absorb(self, operator: Any, tensor: int, weights: npt.NDArray[np.float32], factor: Factor) -> bool:
        old = operator.inputs[1]
        new = old if (factor == 1).all() else self._constant(weights * factor, self._name(old))  # others may share it
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
        whole = self._tensor_like(tensor, "/scaled")
        self._add_operator("MUL", [found, self._constant(factor if factor.size > 1 else factor[0], "/factor")], whole)
        self._values[tensor] = whole, _ONE
        return whole

    # The flatbuffer

    def _shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(int(size) for size in self._graph.tensors[tensor].shape)

    def _name(self, tensor: int) -> str:
        name = self._graph.tensors[tensor].name
        return name.decode() if isinstance(name, bytes) else str(name)

    def _array(self, tensor: int) -> npt.NDArray[Any] | None:
        """The values of a constant, float32 or int32; None for anything else."""
        if tensor < 0:
            return None
        stored = self._graph.tensors[tensor]
        data = self._model.buffers[stored.buffer].data
        kinds = {self._schema.TensorType.FLOAT32: np.float32, self._schema.TensorType.INT32: np.int32}
        if data is None or not len(data) or stored.type not in kinds:
            return None
        return np.frombuffer(bytes(data), kinds[stored.type]).reshape(self._shape(tensor))

    def _activation(self, operator: Any) -> str:
        number = operator.builtinOptions.fusedActivationFunction
        kinds = vars(self._schema.ActivationFunctionType).items()
        return next(str(name) for name, kind in kinds if kind == number and not name.startswith("_"))

    def _constant(self, values: npt.ArrayLike, name: str) -> int:
        array = np.asarray(values, np.float32)
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        return self._add_tensor(array.shape, f"{name}/{len(self._graph.tensors)}", len(self._model.buffers) - 1)

    def _tensor_like(self, tensor: int, suffix: str) -> int:
        return self._add_tensor(self._shape(tensor), self._name(tensor) + suffix, 0)

    def _add_tensor(self, shape: tuple[int, ...], name: str, buffer: int) -> int:
        made = self._schema.TensorT()
        made.shape, made.type, made.buffer = list(shape), self._schema.TensorType.FLOAT32, buffer
        made.name, made.hasRank = name.encode(), True
        self._graph.tensors.append(made)
        return len(self._graph.tensors) - 1

    def _add_operator(self, kind: str, inputs: list[int], output: int, activation: str = "NONE") -> None:
        options = getattr(self._schema, f"{kind.capitalize()}OptionsT")()
        options.fusedActivationFunction = getattr(self._schema.ActivationFunctionType, activation)
        made = self._schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = self._code(kind), inputs, [output]
        made.builtinOptionsType = getattr(self._schema.BuiltinOptions, f"{kind.capitalize()}Options")
        made.builtinOptions = options
        self._operators.append(made)

    def _code(self, kind: str) -> int:
        if kind not in self._kinds:
            code = self._schema.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = getattr(self._schema.BuiltinOperator, kind)
            code.version = 1
            self._model.operatorCodes.append(code)
            self._kinds.append(kind)
        return self._kinds.index(kind)

    def _forget_unused_codes(self) -> None:
        """Engines refuse a file that names an operator which they lack, whether it is used or not."""
        used = sorted({operator.opcodeIndex for operator in self._operators})
        self._model.operatorCodes = [self._model.operatorCodes[index] for index in used]
        for operator in self._operators:
            operator.opcodeIndex = used.index(operator.opcodeIndex)
