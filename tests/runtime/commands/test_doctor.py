"""`edgecnn doctor` as a process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

STATES = {"ok", "warn", "fail", "unknown"}


def doctor(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgecnn_runtime", "doctor", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment})


def broken(folder: Path, package: str, error: str) -> str:
    """A PYTHONPATH in which `package` fails as it does where the system lacks a library."""
    (folder / package).mkdir()
    (folder / package / "__init__.py").write_text(f"raise ImportError({error!r})\n")
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


def test_each_line_has_a_state_and_each_trouble_a_remedy() -> None:
    done = doctor()
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (any(line.startswith("fail") for line in lines), "")
    assert lines[0].startswith("ok    board ")
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith(("warn", "fail")):
            assert following.lstrip().startswith("-> ")


def test_one_document() -> None:
    done = doctor("--json")
    document = json.loads(done.stdout)
    assert (document["schema"], document["command"]) == (1, "doctor")
    assert document["passed"] is (done.returncode == 0)
    assert document["passed"] is all(check["state"] != "fail" for check in document["checks"])
    assert {check["name"] for check in document["checks"]} >= {"board", "OpenCV", "memory", "clock", "page"}
    assert all(set(check) == {"name", "state", "found", "remedy"} for check in document["checks"])
    assert {check["state"] for check in document["checks"]} <= STATES


def test_a_missing_system_library_is_named_with_its_package_and_fails(tmp_path: Path) -> None:
    error = "libGL.so.1: cannot open shared object file: No such file or directory"
    done = doctor("--json", PYTHONPATH=broken(tmp_path, "cv2", error))
    document = json.loads(done.stdout)
    (opencv,) = (check for check in document["checks"] if check["name"] == "OpenCV")
    assert (done.returncode, document["passed"]) == (1, False)
    assert (opencv["state"], opencv["remedy"]) == ("fail", "sudo apt install -y libgl1")


def test_other_commands_send_to_the_doctor_in_one_line(tmp_path: Path, tiny_artifact: Path) -> None:
    path = broken(tmp_path, "cv2", "libGL.so.1: cannot open shared object file: No such file or directory")
    command = [sys.executable, "-m", "edgecnn_runtime", "selftest", str(tiny_artifact)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": path})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "edgecnn: error: libGL.so.1: cannot open shared object file: No such file or directory; "
        "'edgecnn doctor' says what is missing\n"
    )


def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        done = doctor("--port", str(number))
    assert f"port {number} of 0.0.0.0 is taken already" in done.stdout
