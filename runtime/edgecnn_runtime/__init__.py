"""edgecnn runtime: decoding, preprocessing, inference and postprocessing, the same in the lab and on the device.

>>> from edgecnn_runtime import Classifier
>>> classifier = Classifier.load("efficientnet_lite0-int8.tflite")
>>> result = classifier.classify("photo.jpg")
>>> result.label, result.probability
('hat', 0.97)
"""

from __future__ import annotations

__version__ = "0.1.0"

import os
from typing import TYPE_CHECKING, Any

from edgecnn_runtime.errors import EdgecnnError

# OpenCV reads these when it is imported, by whichever module comes first. A small file can claim a huge picture: 134
# megapixels are 400 MB decoded. What OpenCV would print about a bad file is said once, by the PictureError.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**27))
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

if TYPE_CHECKING:
    from edgecnn_runtime.classifier import Classifier, Result, Score, Timings
    from edgecnn_runtime.contract import Contract

__all__ = ["Classifier", "Contract", "EdgecnnError", "Result", "Score", "Timings", "__version__"]


def __getattr__(name: str) -> Any:
    """Loads NumPy and OpenCV with the first name that needs them: `edgecnn doctor` must run where they do not load."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from edgecnn_runtime import classifier, contract

    return getattr(contract if name == "Contract" else classifier, name)
