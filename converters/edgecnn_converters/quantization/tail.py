"""The tail of a classifier: what comes after the last map, from the averages over it to the probabilities.

It is little work, and rounding would spoil much: an average of 49 numbers knows more than 8 bits, and features whose
ranges differ tenfold would share one scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgecnn_converters.quantization._graph import Graph

MOST_BYTES = 1_000_000  # of float weights; a larger dense layer is worth its quantization


@dataclass(frozen=True)
class Node:
    """An operator of a graph, in the order of execution.

    Attributes:
        inputs, outputs: names of tensors.
        shape: of the first output, with the batch.
        weight_bytes: size of its constants in float32.
    """

    name: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    shape: Sequence[int]
    weight_bytes: int

    @property
    def makes_map(self) -> bool:
        """Whether the output extends over more than one dimension, wherever the channels stand."""
        return sum(size > 1 for size in self.shape[1:]) > 1


def nodes(graph: bytes) -> list[Node]:
    """The operators of a TFLite file. The quantizer calls an operator by the name of what it puts out."""
    own = Graph(graph)
    sizes = [0 if (values := own.array(tensor)) is None else values.nbytes for tensor in range(len(own.graph.tensors))]
    return [
        Node(
            name=own.name(operator.outputs[0]),
            inputs=[str(tensor) for tensor in operator.inputs if tensor >= 0],
            outputs=[str(tensor) for tensor in operator.outputs],
            shape=own.shape(operator.outputs[0]),
            weight_bytes=sum(sizes[tensor] for tensor in operator.inputs if tensor >= 0),
        )
        for operator in own.graph.operators
    ]


def float_tail(nodes: Sequence[Node]) -> list[str]:
    """The names of the nodes that no map depends on, and that are to stay in float."""
    behind: set[str] = set()  # tensors that a map depends on
    found = []
    for node in reversed(nodes):
        if node.makes_map or behind & set(node.outputs):
            behind |= set(node.inputs)
        elif node.weight_bytes <= MOST_BYTES:
            found.append(node.name)
    return found[::-1]
