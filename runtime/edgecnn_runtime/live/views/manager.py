"""The service manager, systemd: that the run has begun and goes on, told by the protocol of `man sd_notify`.

What is told comes from the loop alone, after everything else that a frame goes to: where the loop hangs, in the model,
in a view or in the camera's driver, nothing is told any more, and systemd starts the service again.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from edgecnn_runtime.live.observation import Observation, trouble
from edgecnn_runtime.live.stats import Stats

_EVERY_S = 1.0
_MAX_STATUS = 500  # systemd drops what is longer than 4096 bytes, the sign of life with it


class ManagerView:
    """Tells systemd. Put it last of all views, so that it hears of what the others have done.

    Args:
        address: of the manager's socket; an @ stands for the abstract ones' first byte.
        watchdog_s: within which time the manager wants to hear something.
    """

    def __init__(self, address: str, watchdog_s: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # Far more often than it has to be: one that comes late, or is lost, must not end a run that is well.
        self._every_s = min(_EVERY_S, _EVERY_S if watchdog_s is None else watchdog_s / 4)
        self._told_s = time.monotonic() - self._every_s

    def show(self, observation: Observation) -> bool:
        """See `edgecnn_runtime.live.views.View`."""
        self._alive(f"{observation.caption}, {observation.stats.fps:.1f} FPS", observation.stats)
        return True

    def wait(self, stats: Stats) -> bool:
        """See `edgecnn_runtime.live.views.View`. A camera that is tried again and again is no reason to start anew; one
        that has not come back from its driver is."""
        if stats.health.state != "hung":
            self._alive("no frame", stats)
        return True

    def close(self) -> None:
        """Says that the run ends."""
        self._tell("STOPPING=1")
        self._socket.close()

    def _alive(self, words: str, stats: Stats) -> None:
        if time.monotonic() - self._told_s < self._every_s:
            return
        words = ": ".join(filter(None, (trouble(stats), words)))
        words = " ".join(words.split())[:_MAX_STATUS]
        if self._tell(f"READY=1\nWATCHDOG=1\nSTATUS={words}"):
            self._told_s = time.monotonic()

    def _tell(self, words: str) -> bool:
        try:
            # A manager that is busy must not hold up the frames.
            self._socket.sendto(words.encode("utf-8", "replace"), socket.MSG_DONTWAIT, self._address)
        except OSError:
            return False
        return True


def open_manager(environment: Mapping[str, str] = os.environ) -> ManagerView | None:
    """The manager that has started this process as a service; None where there is none that wants to hear of it."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return None
    watchdog_us = environment.get("WATCHDOG_USEC", "")
    is_ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return ManagerView(address, int(watchdog_us) / 1e6 if watchdog_us.isdecimal() and is_ours else None)
