"""Engines and converters print what only their authors understand, from C++, past Python's streams."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Sends what the process writes to stdout and stderr inside the block, in any language, to a file; shows it only if
    the block fails and EDGECNN_VERBOSE is set, so that a failure stays one line."""
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
