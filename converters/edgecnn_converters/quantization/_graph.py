"""A TFLite graph under the knife: its tensors, constants and operators, by TensorFlow's own reader and writer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")

Values = Callable[[int], npt.NDArray[np.float32]]  # a tensor's number -> what it holds


def run(content: bytes, pictures: Sequence[npt.NDArray[np.uint8]]) -> Iterator[Values]:
    """A TFLite file on preprocessed pictures, each ``(H, W, 3)`` uint8 RGB: all of its tensors, one picture after the
    other."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content,
        num_threads=2,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    for pixels in pictures:
        interpreter.set_tensor(source["index"], pixels[np.newaxis].astype(source["dtype"]))
        interpreter.invoke()
        yield interpreter.get_tensor


class Graph:
    """A TFLite file, read to be changed.

    Attributes:
        graph: its one subgraph, as TensorFlow's schema has it; tensors are known by their numbers.
    """

    def __init__(self, content: bytes) -> None:
        from tensorflow.lite.python import schema_py_generated as schema
        from tensorflow.lite.tools import flatbuffer_utils

        self.schema, self._flatbuffers = schema, flatbuffer_utils
        self.model = flatbuffer_utils.convert_bytearray_to_object(content)
        self.graph = self.model.subgraphs[0]
        names = {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
        self._kinds: list[str] = [names[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in self.model.operatorCodes]

    def to_bytes(self) -> bytes:
        """The file. Engines refuse one that names an operator which they lack, whether it is used or not; constants
        that no operator reads any more would make it larger."""
        used = sorted({operator.opcodeIndex for operator in self.graph.operators})
        self.model.operatorCodes = [self.model.operatorCodes[index] for index in used]
        self._kinds = [self._kinds[index] for index in used]
        for operator in self.graph.operators:
            operator.opcodeIndex = used.index(operator.opcodeIndex)
        read = {int(tensor) for operator in self.graph.operators for tensor in operator.inputs if tensor >= 0}
        kept = {self.graph.tensors[tensor].buffer for tensor in read | set(self.graph.outputs)}
        kept |= {entry.buffer for entry in self.model.metadata or ()}
        for number, buffer in enumerate(self.model.buffers):
            if number not in kept:
                buffer.data = None
        return bytes(self._flatbuffers.convert_object_to_bytearray(self.model))

    def kind(self, operator: Any) -> str:
        """CONV_2D and so on."""
        return str(self._kinds[operator.opcodeIndex])

    def has(self, kind: str) -> bool:
        return kind in self._kinds

    def rename(self, kind: str, other: str) -> None:
        """Makes every operator of one kind one of another."""
        for operator in self.graph.operators:
            if self.kind(operator) == kind:
                operator.opcodeIndex = self.code(other)

    def shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(int(size) for size in self.graph.tensors[tensor].shape)

    def name(self, tensor: int) -> str:
        name = self.graph.tensors[tensor].name
        return name.decode() if isinstance(name, bytes) else str(name)

    def head(self) -> tuple[Any, npt.NDArray[Any], npt.NDArray[Any]] | None:
        """The dense layer that the probabilities come from, its weights ``(out, in)`` and its bias ``(out,)``, zeros
        where it has none; None unless they are constants in float."""
        made_by = {int(operator.outputs[0]): operator for operator in self.graph.operators}
        found = made_by.get(int(self.graph.outputs[0]))
        while found is not None and self.kind(found) in ("SOFTMAX", "LOGISTIC", "RESHAPE"):
            found = made_by.get(int(found.inputs[0]))
        if found is None or self.kind(found) != "FULLY_CONNECTED" or self.activation(found) != "NONE":
            return None
        outputs, (weights, *biases) = self.shape(found.outputs[0]), found.inputs[1:]
        has_bias = any(tensor >= 0 for tensor in biases)
        bias = self.array(biases[0]) if has_bias else np.zeros(outputs[-1], np.float32)
        rows = self.array(weights)
        return None if rows is None or bias is None or len(rows) != math.prod(outputs) else (found, rows, bias)

    def state_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Notes from which value to which one tensors go, by their names, where the quantizer looks for it."""
        for number, tensor in enumerate(self.graph.tensors):
            if limits := ranges.get(self.name(number)):
                tensor.quantization = self.schema.QuantizationParametersT()
                tensor.quantization.min, tensor.quantization.max = ([limit] for limit in limits)

    def array(self, tensor: int) -> npt.NDArray[Any] | None:
        """The values of a constant, float32 or int32; None for anything else."""
        if tensor < 0:
            return None
        stored = self.graph.tensors[tensor]
        data = self.model.buffers[stored.buffer].data
        kinds = {self.schema.TensorType.FLOAT32: np.float32, self.schema.TensorType.INT32: np.int32}
        if data is None or not len(data) or stored.type not in kinds:
            return None
        return np.frombuffer(bytes(data), kinds[stored.type]).reshape(self.shape(tensor))

    def activation(self, operator: Any) -> str:
        number = operator.builtinOptions.fusedActivationFunction
        kinds = vars(self.schema.ActivationFunctionType).items()
        return next(str(name) for name, kind in kinds if kind == number and not name.startswith("_"))

    def constant(self, values: npt.ArrayLike, name: str) -> int:
        return self._add_constant(np.asarray(values, np.float32), name)

    def int8_constant(self, values: npt.NDArray[np.int8], scale: npt.NDArray[np.float32], name: str) -> int:
        """Weights ``(out, ...)`` that stand for `values` times the `scale`: ``(out,)`` of their output channel, or
        ``(1,)`` of all."""
        made = self._add_constant(values, name)
        tensor, quantization = self.graph.tensors[made], self.schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = scale, np.zeros(len(scale), np.int64)
        quantization.quantizedDimension = 0
        tensor.type, tensor.quantization = self.schema.TensorType.INT8, quantization
        return made

    def float16_constant(self, values: npt.NDArray[np.float16], name: str) -> int:
        made = self._add_constant(values, name)
        self.graph.tensors[made].type = self.schema.TensorType.FLOAT16
        return made

    def _add_constant(self, array: npt.NDArray[Any], name: str) -> int:
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        return self.add_tensor(array.shape, f"{name}/{len(self.graph.tensors)}", len(self.model.buffers) - 1)

    def tensor_like(self, tensor: int, suffix: str) -> int:
        return self.add_tensor(self.shape(tensor), self.name(tensor) + suffix, 0)

    def add_tensor(self, shape: tuple[int, ...], name: str, buffer: int) -> int:
        made = self.schema.TensorT()
        made.shape, made.type, made.buffer = list(shape), self.schema.TensorType.FLOAT32, buffer
        made.name, made.hasRank = name.encode(), True
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def make_operator(self, kind: str, inputs: list[int], output: int) -> Any:
        """One without options, which is not yet among `graph.operators`."""
        made = self.schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = self.code(kind), inputs, [output]
        return made

    def code(self, kind: str) -> int:
        if kind not in self._kinds:
            code = self.schema.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = getattr(self.schema.BuiltinOperator, kind)
            code.version = 1
            self.model.operatorCodes.append(code)
            self._kinds.append(kind)
        return self._kinds.index(kind)
