"""The tail is what no map depends on; large weights are left out of it."""

from __future__ import annotations

from edgecnn_converters.quantization.tail import MOST_BYTES, Node, float_tail


def node(name: str, inputs: str, output: str, shape: tuple[int, ...], weight_bytes: int = 0) -> Node:
    return Node(name, inputs.split(), [output], shape, weight_bytes)


BODY = [
    node("convolution", "image", "a", (1, 8, 8, 16), 10**7),
    node("squeeze", "a", "b", (1, 1, 1, 16)),
    node("excite", "b", "c", (1, 1, 1, 16), 1024),
    node("scaled", "a c", "d", (1, 8, 8, 16)),
]


def test_averages_and_what_follows_them_are_the_tail():
    tail = [
        node("average", "d", "e", (1, 16)),
        node("of an earlier map", "a", "f", (1, 16)),
        node("join", "e f", "g", (1, 32)),
        node("dense", "g", "h", (1, 4), 512),
        node("softmax", "h", "i", (1, 4)),
    ]
    assert float_tail([*BODY, *tail]) == ["average", "of an earlier map", "join", "dense", "softmax"]


def test_squeeze_and_excite_are_no_tail_in_either_layout():
    end = node("average", "d", "e", (1, 16, 1, 1))
    assert float_tail([*BODY, end]) == ["average"]
    channels_first = [Node(n.name, n.inputs, n.outputs, (1, 16, *n.shape[1:3]), n.weight_bytes) for n in BODY]
    assert float_tail([*channels_first, end]) == ["average"]


def test_large_weights_are_quantized():
    large = node("dense", "e", "f", (1, 1000), MOST_BYTES + 1)
    assert float_tail([*BODY, node("average", "d", "e", (1, 16)), large, node("softmax", "f", "g", (1, 1000))]) == [
        "average",
        "softmax",
    ]
