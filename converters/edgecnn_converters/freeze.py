"""A Keras model to the frozen function that every format is converted from."""

from __future__ import annotations

from typing import Any


def freeze(model: Any, height: int, width: int) -> Any:
    """Freezes a Keras model for one picture at a time.

    The batch is fixed at 1: with a free one, squeeze-excite blocks keep operators that compute shapes, which cut the
    graph into pieces for the delegate. Variables become constants here, once for all formats and precisions.

    Args:
        model: maps ``(N, height, width, 3)`` float32 RGB 0-255 to ``(N, outputs)`` float32.

    Returns:
        A TensorFlow ConcreteFunction without variables, ``(1, height, width, 3)`` float32 to ``(1, outputs)``.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    @tf.function(input_signature=[tf.TensorSpec((1, height, width, 3), tf.float32, name="image")])  # type: ignore[untyped-decorator]
    def infer(image: Any) -> Any:
        return model(image, training=False)

    return convert_variables_to_constants_v2(infer.get_concrete_function())
