"""What does not load is named with its remedy; the loader's words are those of real failures."""

from __future__ import annotations

import sys

import pytest

from edgecnn_runtime.doctor._child import ask
from edgecnn_runtime.doctor.software import libraries, remedy


def test_here_everything_loads() -> None:
    found = {finding.name: finding for finding in libraries()}
    assert list(found) == ["NumPy", "OpenCV", "TFLite engine", "ONNX engine"]
    assert [finding for finding in found.values() if finding.state != "ok"] == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            "ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
            "sudo apt install -y libgl1",
        ),
        (
            "ImportError: libgthread-2.0.so.0: cannot open shared object file: No such file or directory",
            "sudo apt install -y libglib2.0-0",
        ),
        (
            "ImportError: libxyz.so.3: cannot open shared object file: No such file or directory",
            "install the system's package that has libxyz.so.3",
        ),
        (
            "ImportError: /lib/aarch64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by cv2.abi3.so)",
            "this system is too old for this opencv: install a newer system, or an older version by pip",
        ),
        (
            "ImportError: numpy.core.multiarray failed to import",
            f"{sys.executable} -m pip install edgecnn-runtime 'numpy<2'",
        ),
        (
            "the process ended with SIGILL",
            "this processor lacks an instruction that opencv was built with: try an older version by pip",
        ),
        ("SyntaxError: invalid syntax", f"{sys.executable} -m pip install --force-reinstall --no-deps opencv"),
    ],
)
def test_the_remedy_follows_from_the_error(error: str, expected: str) -> None:
    assert remedy(error, "opencv") == expected


@pytest.mark.parametrize(
    ("body", "answer", "error"),
    [
        ("print('noise')\nanswer = [1, 'ä']", [1, "ä"], ""),
        ("import not_there\nanswer = 1", None, "ModuleNotFoundError: No module named 'not_there'"),
        ("raise SystemExit(3)", None, "SystemExit: 3"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGILL)", None, "the process ended with SIGILL"),
        ("import os\nos._exit(7)", None, "the process ended with 7"),
    ],
)
def test_what_another_process_says(body: str, answer: object, error: str) -> None:
    said = ask(body)
    assert (said.answer, said.error) == (answer, error)
