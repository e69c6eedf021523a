"""Makes the golden .tflite files: networks that tell red, green and blue. TensorFlow is needed here alone.

    python tests/runtime/golden/make_golden.py

They are written by TensorFlow's converter, so that the readers meet what real files hold. ``tiny`` has what every
classifier has: strided and depthwise convolution, a residual sum, pooling, dense, softmax. ``operators`` has two dozen
of the rarer operators, for the checks that look at each. All carry TFLite's metadata, as artifacts do.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgecnn_converters.formats import tflite
from edgecnn_runtime.contract import Contract, Provenance

SIDE_PX = 32
SHARPNESS = 8.0  # logit of a fully saturated channel


def tiny():  # type: ignore[no-untyped-def]
    """A concrete function, ``(1, 32, 32, 3)`` float32 RGB 0-255 to ``(1, 3)`` probabilities of red, green, blue."""
    import tensorflow as tf

    each = np.eye(3, dtype=np.float32)
    blur = np.full((3, 3, 3, 1), 1 / 9, np.float32)

    @tf.function(input_signature=[tf.TensorSpec((1, SIDE_PX, SIDE_PX, 3), tf.float32)])
    def classify(pixels):  # type: ignore[no-untyped-def]
        scaled = tf.nn.conv2d(pixels / 127.5 - 1.0, np.tile(each / 4, (2, 2, 1, 1)), 2, "VALID")
        smooth = tf.nn.relu6(tf.nn.depthwise_conv2d(scaled + 1.0, blur, [1, 1, 1, 1], "SAME"))
        pooled = tf.nn.max_pool2d(smooth + scaled, 2, 2, "VALID")
        flat = tf.reshape(tf.reduce_mean(pooled, axis=(1, 2), keepdims=True), (1, 3))
        return tf.nn.softmax(tf.matmul(flat, each * SHARPNESS / 4))

    return classify.get_concrete_function()


def operators():  # type: ignore[no-untyped-def]
    """As `tiny`, by way of many operators."""
    import tensorflow as tf

    each = np.eye(3, dtype=np.float32)

    @tf.function(input_signature=[tf.TensorSpec((1, SIDE_PX, SIDE_PX, 3), tf.float32)])
    def classify(pixels):  # type: ignore[no-untyped-def]
        x = tf.pad(tf.image.resize(pixels / 255.0, (16, 16)), [[0, 0], [1, 1], [1, 1], [0, 0]])
        first, second = tf.split(tf.concat([x, tf.nn.leaky_relu(x - 0.5)], axis=3), 2, axis=3)
        x = first * tf.sigmoid(second) + first * tf.nn.relu6(first + 3) / 6
        x = tf.nn.avg_pool2d(x, 2, 2, "VALID")
        x = tf.nn.conv2d_transpose(x, np.tile(each / 4, (2, 2, 1, 1)), (1, 18, 18, 3), 2, "VALID")
        x = tf.transpose(x, [0, 3, 1, 2])[:, :, 1:17:2, ::2]
        x = tf.gather(tf.gather(x, [2, 0, 1], axis=1), [1, 2, 0], axis=1)
        x = tf.reduce_max(tf.maximum(tf.minimum(x, 6.0), -6.0), axis=[2, 3], keepdims=True)
        x = tf.matmul(tf.reshape(x, (1, 3)), each * SHARPNESS)
        return tf.nn.softmax(x / tf.sqrt(tf.reduce_mean(x * x) + 1.0))

    return classify.get_concrete_function()


def main() -> None:
    """Writes the files beside this script."""
    rng = np.random.default_rng(0)
    flat = [np.full((SIDE_PX, SIDE_PX, 3), rgb, np.uint8) for rgb in np.eye(3, dtype=np.uint8) * 255]
    calibration = [*flat, *rng.integers(0, 256, (20, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)]
    for function in (tiny, operators):
        for precision in ("int8", "float32"):
            name = function.__name__
            graph = tflite.convert(function(), precision, calibration)
            contract = Contract(SIDE_PX, SIDE_PX, ("red", "green", "blue"), Provenance(name, precision))
            described = tflite.add_metadata(graph, contract)
            Path(__file__).with_name(f"{name}-{precision}.tflite").write_bytes(described)


if __name__ == "__main__":
    main()
