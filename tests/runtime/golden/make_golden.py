"""Makes tiny-int8.tflite and tiny-float32.tflite: networks that tell red, green and blue, needing TensorFlow once.

    python tests/runtime/golden/make_golden.py

They are written by TensorFlow's converter, so that the readers meet what real files hold, and have one of each common
operator of a classifier: strided and depthwise convolution, hard limits, a residual sum, pooling, reshape, dense, softmax.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgecnn_converters.formats import tflite

SIDE_PX = 32
SHARPNESS = 8.0  # logit of a fully saturated channel


def network():  # type: ignore[no-untyped-def]
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


def main() -> None:
    """Writes both files beside this script."""
    rng = np.random.default_rng(0)
    flat = [np.full((SIDE_PX, SIDE_PX, 3), rgb, np.uint8) for rgb in np.eye(3, dtype=np.uint8) * 255]
    calibration = [*flat, *rng.integers(0, 256, (20, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)]
    for precision in ("int8", "float32"):
        graph = tflite.convert(network(), precision, calibration)
        Path(__file__).with_name(f"tiny-{precision}.tflite").write_bytes(graph)


if __name__ == "__main__":
    main()
