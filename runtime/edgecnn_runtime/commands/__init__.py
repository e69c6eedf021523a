"""The runtime's commands, one thin file each; a module exposes a function of its own name."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

SCHEMA = 1


def print_json(command: str, payload: dict[str, Any]) -> None:
    """Prints the command's one JSON document on stdout."""
    print(json.dumps({"schema": SCHEMA, "command": command, **payload}, ensure_ascii=False))


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_terminal() -> bool:
    """Whether progress may be shown (stderr is a terminal)."""
    return sys.stderr.isatty()
