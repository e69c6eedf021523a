"""Views: where observations are shown, one file each."""

from __future__ import annotations

from typing import Protocol

from edgecnn_runtime.errors import UsageError
from edgecnn_runtime.live.observation import Observation

VIEWS = ("auto", "window", "terminal")


class View(Protocol):
    """Something that shows observations."""

    def show(self, observation: Observation) -> bool:
        """Shows one; False where the user has asked to end."""

    def close(self) -> None:
        """Leaves the screen tidy."""


def open_view(name: str) -> View:
    """Opens a view of `VIEWS`; "auto" is the window where there can be one, else the terminal.

    Raises:
        UsageError: no such view.
        EdgecnnError: a window was asked for and cannot be opened.
    """
    from edgecnn_runtime.live.views.terminal import TerminalView
    from edgecnn_runtime.live.views.window import WindowView, why_no_window

    if name not in VIEWS:
        raise UsageError(f"--view is {', '.join(VIEWS)} (received: {name})")
    if name == "window" or (name == "auto" and why_no_window() is None):
        return WindowView()
    return TerminalView()
