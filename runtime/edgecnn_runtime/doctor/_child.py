"""Tries something in a process of its own: a library may end the process that loads it, or hang in a driver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

_TIMEOUT_S = 30.0

# Says on stdout, in the last line, what `answer` is, or which error came up.
_FRAME = """
import json
try:
{body}
    said = {{"answer": answer}}
except BaseException as error:
    said = {{"error": f"{{type(error).__name__}}: {{error}}"}}
print("\\n" + json.dumps(said), flush=True)
import os
os._exit(0)
"""


@dataclass(frozen=True)
class Said:
    """What a process has said: an answer, or else an error in one line."""

    answer: Any = None
    error: str = ""


def ask(body: str) -> Said:
    """Runs Python lines that set `answer`, for JSON, in a process with this one's Python."""
    code = _FRAME.format(body="\n".join(f"    {line}" for line in body.splitlines()))
    # As the cameras' modules have it, so that libraries print nothing of their own.
    quiet = {"OPENCV_LOG_LEVEL": "SILENT", "LIBCAMERA_LOG_LEVELS": "*:FATAL", "PICAMERA2_LOG_LEVEL": "50"}
    # -P: a module in the current folder must not stand in for what is installed.
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**quiet, **os.environ},
    )
    try:
        output, _ = child.communicate(timeout=_TIMEOUT_S)
        said = json.loads(output.splitlines()[-1])
        return Said(said.get("answer"), " ".join(said.get("error", "").split()))
    except subprocess.TimeoutExpired:
        child.kill()  # and not waited for: in the middle of a driver nothing can be killed
        return Said(error=f"nothing in {_TIMEOUT_S:g} s")
    except (ValueError, IndexError):
        ended = -child.returncode
        name = signal.Signals(ended).name if ended in set(signal.Signals) else str(child.returncode)
        return Said(error=f"the process ended with {name}")
