"""edgecnn runtime: decoding, preprocessing, inference and postprocessing, the same in the lab and on the device.

>>> from edgecnn_runtime import Classifier
>>> classifier = Classifier.load("efficientnet_lite0-int8.tflite")
>>> result = classifier.classify("photo.jpg")
>>> result.label, result.probability
('hat', 0.97)
"""

from __future__ import annotations

__version__ = "0.1.0"

from edgecnn_runtime.classifier import Classifier, Result, Score, Timings
from edgecnn_runtime.contract import Contract
from edgecnn_runtime.errors import EdgecnnError

__all__ = ["Classifier", "Contract", "EdgecnnError", "Result", "Score", "Timings", "__version__"]
