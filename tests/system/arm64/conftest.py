"""Shows what the tests of the Raspberry Pi measured."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed"):
        for what, words in report.user_properties if "arm64" in report.nodeid else ():
            terminalreporter.write_line(f"{what}: {words}")
