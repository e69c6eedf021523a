"""The doctor: what this device has and lacks for running classifiers, each finding with its remedy.

Nothing is imported here that may be broken: what has to load is tried in processes of its own. What only Linux tells is
read below a root that can be another tree than the system's own, and is "unknown" on other systems.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["ok", "warn", "fail", "unknown"]


@dataclass(frozen=True)
class Finding:
    """What one check has found.

    Attributes:
        name: of the check.
        state: "fail" where something does not work, "warn" where it works worse than it could or may stop working,
            "unknown" where the system does not tell.
        found: in words.
        remedy: what to do; empty where there is nothing to do.
    """

    name: str
    state: State
    found: str
    remedy: str = ""


def examine(port: int, root: Path = Path("/")) -> list[Finding]:
    """Examines this device, which takes some seconds.

    Args:
        port: that the page is to be served at.
        root: where /proc, /sys and /dev are.
    """
    from edgecnn_runtime.doctor import cameras, machine, software

    return [
        machine.board(root),
        *software.libraries(),
        machine.processor(root),
        machine.memory(root),
        machine.governor(root),
        *machine.heat_and_power(root),
        machine.clock(root),
        *cameras.cameras(root),
        machine.port(port),
    ]


def pip(*words: str) -> str:
    """The command that installs into this environment, be it activated or not."""
    return shlex.join([sys.executable, "-m", "pip", "install", *words])


def text_of(path: Path) -> str:
    """A file's text, without the zero byte that ends those of a device tree; "" where it cannot be read."""
    try:
        return path.read_text("utf-8", "replace").strip("\0\n ")
    except OSError:
        return ""
