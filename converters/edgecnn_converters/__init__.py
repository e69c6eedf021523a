"""edgecnn converters: Keras networks to TFLite and ONNX artifacts, quantized, with their contract inside."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read by TensorFlow when it is imported

__version__ = "0.1.0"
