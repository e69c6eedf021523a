"""Views: where observations go, one file each. `VIEWS` are screens that need nothing but a name; the page needs an
address, and the others write files.

The loop calls them one after the other from its own thread. What they are given never changes afterwards, so a view may
hand it to threads of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from edgecnn_runtime.errors import UsageError

if TYPE_CHECKING:
    from edgecnn_runtime.live.observation import Observation
    from edgecnn_runtime.live.stats import Stats

VIEWS = ("auto", "window", "terminal")


class View(Protocol):
    """Something that observations go to. An exception that it raises ends the run, in order."""

    def show(self, observation: Observation) -> bool:
        """Takes one; False where the user has asked to end."""

    def wait(self, stats: Stats) -> bool:
        """Called about ten times a second while there is no frame; `stats.health` says why. False as in `show`."""

    def close(self) -> None:
        """Leaves the screen tidy, or the file whole; again is harmless."""


def open_view(name: str) -> View:
    """Opens a view of `VIEWS`; "auto" is the window where there can be one, else the terminal.

    Raises:
        UsageError: no such view.
        EdgecnnError: a window was asked for and cannot be opened.
    """
    if name not in VIEWS:
        raise UsageError(f"--view is {', '.join(VIEWS)} (received: {name})")
    if name != "terminal":
        from edgecnn_runtime.live.views.window import WindowView, why_no_window

        if name == "window" or why_no_window() is None:
            return WindowView()
    from edgecnn_runtime.live.views.terminal import TerminalView

    return TerminalView()
