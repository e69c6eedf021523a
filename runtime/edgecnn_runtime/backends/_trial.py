"""A trial run in a process of its own: a model that nobody vouches for may crash its engine in ways that no check of
its structure foresees, and would take the caller along."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from edgecnn_runtime.backends import PIXELS, module_for
from edgecnn_runtime.errors import ModelError

_TIMEOUT_S = 60.0
_PYTHON_FAILED = 1


def trial(graph: bytes, suffix: str) -> None:
    """Runs a checked graph once in another process, which takes some 0.3 s.

    Args:
        suffix: of the model's file, which names the format.

    Raises:
        ModelError: the engine crashed or did not come to an end. What the engine says in words is left to the caller's
            own attempt.
    """
    # -P: a module in the current folder must not stand in for one of ours.
    command = [sys.executable, "-P", "-m", __name__, suffix]
    try:
        done = subprocess.run(
            command, input=graph, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"the model takes more than {_TIMEOUT_S:.0f} s for one picture; it is damaged") from error
    if done.returncode not in (0, _PYTHON_FAILED):
        raise ModelError("the model crashed its engine in a trial run; it is damaged: copy or export it again")


def _main(suffix: str) -> None:
    try:
        backend = module_for(f"model{suffix}").load(sys.stdin.buffer.read(), 1, PIXELS)
        backend.run(np.zeros((backend.height, backend.width, 3), np.uint8))
    except ModelError:
        pass


if __name__ == "__main__":
    _main(sys.argv[1])
