"""edgecnn converters: Keras networks to TFLite and ONNX artifacts, quantized, with their contract inside."""

__version__ = "0.1.0"
