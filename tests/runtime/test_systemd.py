"""The unit file, read by systemd's own tools."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgecnn_runtime.errors import EdgecnnError
from edgecnn_runtime.systemd import Unit

UNIT = Unit(
    "edgecnn-test.service", "edgecnn live /a.tflite", (sys.executable, "-m", "edgecnn_runtime"), "nobody", (), 384
)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
NAMES = st.text(
    st.sampled_from("abé日 %$'\\;{}#-~*") | st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='\0/"'),
    min_size=1,
    max_size=20,
).map(lambda text: f"{text}x")


@pytest.fixture(autouse=True)
def tools() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("the unit is read by systemd-analyze, which is not installed (apt package systemd)")


def analyze(path: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *words, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})


def read(path: Path, unit: Unit) -> dict[str, str]:
    """What systemd has understood: the value of each line of its dump."""
    path.write_text(unit.text(), "utf-8")
    done = analyze(path, "verify", "--man=no", SYSTEMD_LOG_LEVEL="debug", LC_ALL="C.UTF-8")
    assert done.returncode == 0, done.stderr
    lines = (line.strip("\t").split(": ", 1) for line in done.stdout.split("\n"))
    return {pair[0]: pair[1] for pair in lines if len(pair) == 2}


def words_of(line: str) -> list[str]:
    """A command line as systemd prints it: words in double quotes with backslashes where they need them."""
    found = re.findall(r'"((?:[^"\\]|\\.)*)"|([^ "]+)', line)
    return [bare or _unescaped(quoted) for quoted, bare in found]


def _unescaped(text: str) -> str:
    simple = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}

    def one(match: re.Match[bytes]) -> bytes:
        octal, other = match.groups()
        return bytes([int(octal, 8)]) if octal else simple.get(other, other)

    # Bytes, since what is not printable stands byte for byte.
    return re.sub(rb"\\(?:([0-7]{3})|(.))", one, text.encode(), flags=re.DOTALL).decode()


def test_systemd_has_nothing_to_object_to(tmp_path: Path) -> None:
    path = tmp_path / UNIT.name
    path.write_text(replace(UNIT, user="sync", writable=[tmp_path]).text(), "utf-8")
    done = analyze(path, "verify")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_starts_with_the_system_again_when_it_ends_or_hangs_and_is_bounded() -> None:
    """What running for months consists of; `systemd-analyze` says nothing of what is missing."""
    lines = set(UNIT.text().splitlines())
    assert lines >= {
        "Type=notify", "Restart=always", "RestartSec=5", "StartLimitIntervalSec=0", "SuccessExitStatus=143",
        "WatchdogSec=30", "TimeoutStartSec=90", "TimeoutStopSec=10", "MemoryMax=384000000", "MemorySwapMax=0",
        "User=nobody", "NoNewPrivileges=yes", "ProtectSystem=strict", "WantedBy=multi-user.target",
    }  # fmt: skip


def test_its_exposure_is_ok_or_better(tmp_path: Path) -> None:
    path = tmp_path / UNIT.name
    path.write_text(UNIT.text(), "utf-8")
    words = analyze(path, "security", "--offline=yes", "--threshold=49")  # in tenths: below 5.0 is OK
    assert words.returncode == 0, words.stdout
    level = re.search(r"Overall exposure level for \S+: ([\d.]+) (\w+)", words.stdout)
    assert level is not None, words.stdout
    assert level[2] in ("OK", "SAFE")
    assert float(level[1]) <= 2.5


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(["a b", "%h", "$HOME", "${X}", ";", '"', "'", "\\", "\\x41", "", "é", "-"])
@example(["trailing\\", "line\nbreak", "\t", "#no", "\x01"])
@given(st.lists(ANY_TEXT, max_size=5))
def test_every_argument_reaches_the_program_as_it_is(tmp_path: Path, words: list[str]) -> None:
    command = [*UNIT.command, *words]
    found = read(tmp_path / UNIT.name, replace(UNIT, command=command))
    assert words_of(found["Command Line"]) == command


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example("ségo lène % $HOME 'x'")
@example("back\\slash")
@given(NAMES)
def test_every_folder_and_description_is_understood(tmp_path: Path, name: str) -> None:
    folder = Path("/srv") / name
    unit = replace(UNIT, writable=[folder, Path("/srv/plain")], description=f"edgecnn live {folder}/m.tflite")
    if not name.isprintable() or "\\" in name:
        with pytest.raises(EdgecnnError, match="give it another name"):
            unit.text()
        return
    found = read(tmp_path / UNIT.name, unit)
    assert found["ReadWritePaths"] == f"{folder} /srv/plain"
    assert found["Description"] == " ".join(unit.description.split())


def test_what_systemd_cannot_name_is_refused() -> None:
    for folder in ("/a'\"b", "/a\nb", "/a\\", "/\udce9"):
        with pytest.raises(EdgecnnError, match="give it another name"):
            replace(UNIT, writable=[Path(folder)]).text()
    with pytest.raises(EdgecnnError, match="UTF-8"):
        replace(UNIT, command=["/bin/x", "\udce9"]).text()
