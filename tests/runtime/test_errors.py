"""An engine's failure is one line, whatever it says."""

from __future__ import annotations

import pytest

from edgecnn_runtime.errors import first_line


@pytest.mark.parametrize(
    ("said", "shown"),
    [("", "ValueError"), (" \n", "ValueError"), ("\nbad node\nat 0x1", "bad node"), ("a" * 500, "a" * 200)],
)
def test_the_first_line_of_what_is_said(said: str, shown: str) -> None:
    assert first_line(ValueError(said)) == shown
