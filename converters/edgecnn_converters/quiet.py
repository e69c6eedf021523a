"""Converters print what only their authors understand, some of it from C++."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read by TensorFlow when it is imported


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Sends everything written to stdout and stderr, by any language, to a file; shows it only if the block fails and
    EDGECNN_VERBOSE is set, so that a failure stays one line."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    with tempfile.TemporaryFile() as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for descriptor in (1, 2):
                os.dup2(file.fileno(), descriptor)
            try:
                yield
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                for descriptor, original in zip((1, 2), kept, strict=True):
                    os.dup2(original, descriptor)
                    os.close(original)
        except Exception:
            if os.environ.get("EDGECNN_VERBOSE"):
                file.seek(0)
                sys.stderr.buffer.write(file.read())
            raise
