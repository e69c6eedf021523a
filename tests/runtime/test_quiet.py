from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
from edgecnn_runtime.quiet import quiet
print("before")
try:
    with quiet():
        print("python")
        os.write(1, b"native out\\n"); os.write(2, b"native err\\n")
        {inside}
except RuntimeError:
    print("caught")
print("after"); print("errors", file=sys.stderr)
"""


def run(inside: str, verbose: str = "") -> tuple[str, str]:
    words = [sys.executable, "-c", SCRIPT.format(inside=inside)]
    environment = {"EDGECNN_VERBOSE": verbose} if verbose else {}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60, check=True)
    return done.stdout, done.stderr


def test_nothing_gets_out_and_what_follows_does() -> None:
    assert run("pass") == ("before\nafter\n", "errors\n")


@pytest.mark.parametrize(("verbose", "shown"), [("", False), ("1", True)])
def test_a_failure_is_passed_on_and_shown_on_demand(verbose: str, shown: bool) -> None:
    out, errors = run("raise RuntimeError", verbose)
    assert out == "before\ncaught\nafter\n"
    assert ("native err" in errors) == shown
    assert ("native out" in errors) == shown
