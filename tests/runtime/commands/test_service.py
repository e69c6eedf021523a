"""`edgecnn service`: the real process under a stand-in for systemd that speaks its protocol and starts again what it
does not hear of; and the unit's way into a folder, by a stand-in for systemctl, since no systemd runs there."""

from __future__ import annotations

import getpass
import itertools
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from edgecnn_runtime import cli
from edgecnn_runtime.commands import service
from edgecnn_runtime.errors import UsageError

if sys.platform != "linux":
    pytest.skip("systemd is of Linux", allow_module_level=True)

WATCHDOG_S = 3.0
HANG_S = 2.0
USER = "nobody" if getpass.getuser() == "root" else getpass.getuser()


class Manager:
    """Starts a command, hears what it tells, kills it when it tells nothing for `WATCHDOG_S`, and starts it again.

    Attributes:
        told: of each start, the messages with the time.
    """

    def __init__(self, command: Sequence[str], address: str) -> None:
        self.command, self.address = command, address
        self.told: list[list[tuple[float, dict[str, str]]]] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self.socket.close()

    def start(self) -> None:
        own = {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
        self.process = subprocess.Popen(self.command, env={**os.environ, **own}, stdout=subprocess.DEVNULL)
        self.told.append([])

    def until(self, wanted: Callable[[], bool], limit_s: float = 60) -> None:
        """Goes on until something is so."""
        end_s = time.monotonic() + limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            while not wanted():
                assert time.monotonic() < end_s, self.told
                assert self.process.poll() is None
                if selector.select(0.05):
                    lines = self.socket.recv(4096).decode().split("\n")
                    self.told[-1].append((time.monotonic(), dict(line.split("=", 1) for line in lines)))
                elif self.told[-1] and time.monotonic() - self.told[-1][-1][0] > WATCHDOG_S:
                    self.process.kill()
                    self.process.wait()
                    self.start()

    def is_ready(self) -> bool:
        return bool(self.told[-1]) and self.told[-1][0][1].get("READY") == "1"

    def statuses(self) -> list[str]:
        return [message.get("STATUS", "") for _, message in self.told[-1]]


def command(artifact: Path, *words: str) -> list[str]:
    """What the unit starts."""
    return list(service._unit("edgecnn.service", artifact, list(words), USER, 384).command)


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "path" else f"@edgecnn-test-{os.getpid()}-{tmp_path.name}"


def test_it_says_that_it_runs_what_it_sees_and_that_it_ends(tiny_artifact: Path, address: str) -> None:
    with Manager(command(tiny_artifact, "--camera", "fake:"), address) as manager:
        manager.until(lambda: len(manager.told[0]) >= 4)
        assert len(manager.told) == 1
        assert manager.is_ready()
        assert all(message["WATCHDOG"] == "1" for _, message in manager.told[0])
        assert manager.statuses()[0].startswith("red ")
        assert "FPS" in manager.statuses()[0]
        manager.process.terminate()
        assert manager.process.wait(timeout=30) == 143  # which the unit says is well
        manager.socket.setblocking(False)
        last = b""
        while not last.startswith(b"STOPPING=1"):
            last = manager.socket.recv(4096)


def test_a_camera_that_is_lost_and_tried_again_is_no_reason_to_start_anew(tiny_artifact: Path, tmp_path: Path) -> None:
    with Manager(command(tiny_artifact, "--camera", "fake:unplug=1-8"), str(tmp_path / "notify")) as manager:
        manager.until(lambda: any(status.startswith("camera lost, trying again") for status in manager.statuses()))
        manager.until(lambda: manager.statuses()[-1].startswith(("red", "green", "blue")))
        assert len(manager.told) == 1


def test_a_process_that_stands_still_is_started_again(tiny_artifact: Path, tmp_path: Path) -> None:
    with Manager(command(tiny_artifact, "--camera", "fake:"), str(tmp_path / "notify")) as manager:
        manager.until(manager.is_ready)
        first = manager.process.pid
        manager.process.send_signal(signal.SIGSTOP)
        manager.until(lambda: len(manager.told) == 2 and manager.is_ready())
        assert manager.process.pid != first


@pytest.mark.slow
def test_a_camera_whose_driver_hangs_is_a_reason_to_start_anew(tiny_artifact: Path, tmp_path: Path) -> None:
    words = command(tiny_artifact, "--camera", f"fake:hang={HANG_S}-999")
    with Manager(words, str(tmp_path / "notify")) as manager:
        manager.until(lambda: len(manager.told) == 2 and manager.is_ready())
    times = [at for at, _ in manager.told[0]]
    assert times[-1] - times[0] < HANG_S + 10


@pytest.mark.slow
def test_an_output_that_hangs_is_a_reason_to_start_anew(tiny_artifact: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR)  # nobody reads: it is full after some hundred lines
    try:
        with Manager(command(tiny_artifact, "--camera", "fake:", "--jsonl", str(pipe)), str(tmp_path / "n")) as manager:
            manager.until(lambda: len(manager.told) == 2)
            os.read(reader, 2**20)
            manager.until(manager.is_ready)
    finally:
        os.close(reader)


SYSTEMCTL = """#!/bin/sh
echo "$@" >> "$LOG"
case "$1" in
show) cat "$SHOW" ;;
restart) if [ -e "$FAIL" ]; then echo "Job for edgecnn.service failed. See journal." >&2; exit 1; fi ;;
esac
"""
SHOW = """ActiveState=active
SubState=running
UnitFileState=enabled
Description=edgecnn live {artifact}
User=pi
MainPID=321
NRestarts=2
StatusText=hat 97.0%, 29.9 FPS
ActiveEnterTimestamp=Sun 2026-11-22 20:00:00 UTC
MemoryCurrent=123456789
MemoryMax=403000000
Result=success
"""


class System:
    """A folder for units and a systemctl that notes what it is told."""

    def __init__(self, folder: Path) -> None:
        self.units, self.log, self.show, self.fail = (folder / name for name in ("units", "log", "show", "fail"))
        self.units.mkdir()
        self.log.touch()

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    one = System(tmp_path)
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "systemctl").write_text(SYSTEMCTL)
    (binaries / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{binaries}{os.pathsep}{os.environ['PATH']}")
    for name, path in (("LOG", one.log), ("SHOW", one.show), ("FAIL", one.fail)):
        monkeypatch.setenv(name, str(path))
    monkeypatch.setenv("SUDO_USER", USER)
    monkeypatch.setattr(service, "UNITS", one.units)
    monkeypatch.setattr(service, "BOOTED", tmp_path)
    monkeypatch.setattr(service, "TEMPORARY", (Path("/nowhere"),))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(service, "_check_access", lambda *_: None)  # needs root's rights indeed
    return one


def edgecnn(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as end:
        cli.main(["service", *map(str, words)])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_install_status_and_uninstall(system: System, tiny_artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = edgecnn(capsys, "install", tiny_artifact, "--camera", "fake:")
    assert (code, err) == (0, "")
    assert out.startswith(f"edgecnn.service: runs as {USER}")
    unit = system.units / "edgecnn.service"
    assert f"User={USER}\n" in unit.read_text("utf-8")
    assert "--camera fake:" in unit.read_text("utf-8")
    assert unit.stat().st_mode & 0o777 == 0o644
    assert list(system.units.iterdir()) == [unit]
    assert system.calls() == ["daemon-reload", "enable --quiet edgecnn.service", "restart edgecnn.service"]
    assert edgecnn(capsys, "install", tiny_artifact, "--camera", "fake:")[0] == 0  # the same again is no loss
    code, _, err = edgecnn(capsys, "install", tiny_artifact, "--camera", "1")
    assert (code, "add --overwrite" in err) == (1, True)
    assert edgecnn(capsys, "install", tiny_artifact, "--camera", "1", "--overwrite")[0] == 0
    assert "--camera 1" in unit.read_text("utf-8")
    system.show.write_text(SHOW.format(artifact=tiny_artifact))
    code, out, _ = edgecnn(capsys, "status", tiny_artifact)
    assert code == 0
    for words in ("active (running)", "hat 97.0%, 29.9 FPS", str(tiny_artifact), "2 by itself", "123 MB of 403 MB"):
        assert words in out
    code, out, _ = edgecnn(capsys, "status", "--json")
    document = json.loads(out)
    assert (document["schema"], document["command"], document["runs"], document["restarts"]) == (1, "service", True, 2)
    code, _, err = edgecnn(capsys, "uninstall", "/other.tflite")
    assert (code, "is of another artifact" in err) == (1, True)
    assert edgecnn(capsys, "uninstall", tiny_artifact)[0] == 0
    assert system.calls()[-2:] == ["disable --now --quiet edgecnn.service", "daemon-reload"]
    assert list(system.units.iterdir()) == []
    assert edgecnn(capsys, "uninstall")[2].endswith("edgecnn.service: is not installed\n")
    assert edgecnn(capsys, "status")[0] == 1


def test_a_path_with_blanks_is_known_again(
    system: System, tiny_artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = tmp_path / "two  blanks.tflite"  # of which systemd keeps one in a description
    artifact.write_bytes(tiny_artifact.read_bytes())
    assert edgecnn(capsys, "install", artifact, "--camera", "fake:")[0] == 0
    system.show.write_text(SHOW.format(artifact=str(artifact).replace("  ", " ")))
    assert edgecnn(capsys, "status", artifact)[0] == 0
    assert edgecnn(capsys, "uninstall", artifact)[0] == 0


def test_a_second_service_has_another_name(
    system: System, tiny_artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert edgecnn(capsys, "install", tiny_artifact, "--name", "door", "--camera", "fake:")[0] == 0
    assert [path.name for path in system.units.iterdir()] == ["edgecnn-door.service"]
    assert edgecnn(capsys, "install", tiny_artifact, "--name", "../ssh")[0] == 2


def test_a_service_that_does_not_come_up_stays_installed_and_it_is_said(
    system: System, tiny_artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system.fail.touch()
    code, out, err = edgecnn(capsys, "install", tiny_artifact, "--camera", "fake:")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "does not run yet" in err
    assert "journalctl -u edgecnn -n 20" in err
    system.show.write_text(SHOW.replace("=active", "=activating").replace("=123456789", "=[not set]"))
    code, out, _ = edgecnn(capsys, "status")
    assert code == 1
    assert "activating" in out
    assert "not counted on this system" in out


def test_without_root_or_systemd_one_line_says_what_to_do(
    system: System, tiny_artifact: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, _, err = edgecnn(capsys, "install", tiny_artifact, "--camera", "fake:")
    assert (code, err.count("\n")) == (1, 1)
    assert "sudo " in err
    assert list(system.units.iterdir()) == []
    monkeypatch.setattr(service, "BOOTED", Path("/nowhere"))
    for words in (("install", tiny_artifact), ("uninstall",), ("status",)):
        code, _, err = edgecnn(capsys, *words)
        assert (code, err.count("\n")) == (1, 1)
        assert "not started by systemd" in err
    assert system.calls() == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["frob"], "print, install, uninstall, status (received: frob)"),
        (["print"], "service print ARTIFACT"),
        (["print", "--camera", "0"], "the artifact comes first"),
        (["print", "ARTIFACT", "--camra", "0"], "No such option: --camra"),
        (["print", "ARTIFACT", "--rotation", "45"], "0, 90, 180 or 270"),
        (["print", "ARTIFACT", "--frames", "5"], "--frames ends after"),
        (["print", "ARTIFACT", "--video", "v.mp4"], "--video grows without an end"),
        (["print", "ARTIFACT", "--view", "window"], "a service has no screen"),
        (["print", "ARTIFACT", "--threshold", "7"], "a threshold is in [0, 1]"),
        (["print", "ARTIFACT", "--snapshot-label", "red"], "needs --snapshots FOLDER"),
        (["print", "ARTIFACT", "--snapshots", "s", "--snapshot-label", "nope"], "no label 'nope'"),
        (["print", "ARTIFACT", "--host", "0.0.0.0"], "add --token-file FILE"),
        (["print", "ARTIFACT", "--jsonl", "no/folder/x.jsonl"], "no/folder: no such folder"),
        (["print", "ARTIFACT", "--append"], "--append adds to a file"),
        (["print", "ARTIFACT", "--jsonl", "x", "--stats", "x"], "need a file each"),
        (["print", "ARTIFACT", "--size", "224"], "needs all three: --size, --range and --labels"),
        (["print", "ARTIFACT", "--token-file", "gone"], "gone: there is no such file"),
        (["print", "ARTIFACT", "--camera", f"video:{__file__}"], "a recording ends, and a service goes on"),
        (["print", "ARTIFACT", "--camera", __file__], "a recording ends, and a service goes on"),
        (["print", "ARTIFACT", "--camera", "."], "a recording ends, and a service goes on"),
        (["print", "ARTIFACT", "--camera", "fake:frames=5"], "a recording ends, and a service goes on"),
        (["print", "ARTIFACT", "--user", "root"], "must not be root's"),
        (["print", "ARTIFACT", "--user", "no-such-user"], "there is no such user"),
        (["print", "ARTIFACT", "--json"], "--json is for status"),
        (["status", "ARTIFACT", "--camera", "0"], "status takes no options"),
    ],
)
def test_mistakes_are_one_line(
    system: System, tiny_artifact: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    code, out, err = edgecnn(capsys, *(tiny_artifact if word == "ARTIFACT" else word for word in words))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_damaged_artifact_is_not_installed(
    system: System, tiny_artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(tiny_artifact.read_bytes()[:-200])
    code, _, err = edgecnn(capsys, "install", bad)
    assert (code, "truncated or damaged" in err) == (1, True)
    assert list(system.units.iterdir()) == []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_paths_are_absolute_and_written_to_alone_and_files_of_an_earlier_start_are_no_hindrance(
    folder: Path, tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a b", "shots"):
        (folder / name).mkdir()
    (folder / "t").write_text("0123456789abcdef")
    words = "--jsonl", "a b/o.jsonl", "--stats", "s.json", "--snapshots", "shots", "--token-file", "t", "--fps", "5"
    arguments, writable = service._live_arguments(tiny_artifact, list(words))
    assert writable == [folder / "a b", folder, folder / "shots"]
    found = dict(itertools.pairwise(arguments))
    for option, path in (("--jsonl", "a b/o.jsonl"), ("--stats", "s.json"), ("--token-file", "t")):
        assert found[option] == str(folder / path)
    assert {"--append", "--overwrite"} <= set(arguments)
    assert service._live_arguments(tiny_artifact, ["--camera", "0", "--jsonl", "-"]) == (["--jsonl", "-"], [])
    (folder / "7").touch()  # a number is a camera, whatever lies there
    assert service._live_arguments(tiny_artifact, ["--camera", "7"])[0] == ["--camera", "7"]
    assert service._live_arguments(tiny_artifact, ["--camera", "device:7"])[0] == ["--camera", "device:7"]
    (folder / "door").symlink_to("/dev/video3")  # which need not be plugged in now
    assert service._live_arguments(tiny_artifact, ["--camera", "door"])[0] == ["--camera", str(folder / "door")]


def test_memory_is_by_the_models_size_unless_somebody_says_otherwise(folder: Path, tiny_artifact: Path) -> None:
    measured = 256 + -(-16 * tiny_artifact.stat().st_size // 10**6)
    assert service._unit("a", tiny_artifact, [], USER, None).memory_mb == measured
    assert service._unit("a", tiny_artifact, [], USER, 300).memory_mb == 300


def test_what_a_user_may_not_read_or_write_is_said(tmp_path: Path) -> None:
    """By what `_check_access` starts as that user, here by a system's Python that any user may start."""
    python = shutil.which("python3", path="/usr/bin")
    if os.geteuid() != 0 or python is None:
        pytest.skip("only root may ask what another user may")
    open_folder = Path(tempfile.mkdtemp())  # below pytest's own nobody else may look
    try:
        open_folder.chmod(0o755)
        (open_folder / "edgecnn_runtime.py").touch()
        token, lines = open_folder / "token", open_folder / "lines.jsonl"
        for path in (token, lines):
            path.write_text("x")

        def asked(read: list[Path], written: list[Path]) -> tuple[int, str]:
            words = [python, "-c", service._ACCESS, str(len(read)), *map(str, [*read, *written])]
            own = {"PYTHONPATH": str(open_folder)}
            done = subprocess.run(words, user="nobody", group="nogroup", env=own, capture_output=True, text=True)
            return done.returncode, done.stderr.strip().split("\n")[-1]

        assert asked([token], []) == (0, "")
        assert asked([], [lines]) == (1, f"{lines}: no permission to write there")
        assert asked([], [open_folder]) == (1, f"{open_folder}: no permission to write there")
        open_folder.chmod(0o777)
        lines.chmod(0o666)
        assert asked([token], [open_folder, lines]) == (0, "")
        token.chmod(0o600)
        assert asked([token], []) == (1, f"PermissionError: [Errno 13] Permission denied: '{token}'")
    finally:
        shutil.rmtree(open_folder)


def test_a_user_without_a_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 123_456)  # as in containers
    with pytest.raises(UsageError, match="user 123456: there is no such user on this machine; name one: --user pi"):
        service._user(None)
