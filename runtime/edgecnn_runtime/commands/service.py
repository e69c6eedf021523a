"""`edgecnn service`."""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from edgecnn_runtime.commands import _model, print_json
from edgecnn_runtime.errors import EdgecnnError, UsageError
from edgecnn_runtime.systemd import Unit, one_line

ACTIONS = ("print", "install", "uninstall", "status")
UNITS = Path("/etc/systemd/system")
BOOTED = Path("/run/systemd/system")  # there where systemd is what started the system, see man sd_booted
TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # a service has others of its own
_LIVE = "edgecnn live "
_RECORDINGS = ("folder", "video")
_PATHS = ("token_file", "jsonl", "snapshots", "stats", "labels")
_UNFIT = {
    "frames": "ends after so many frames, and a service goes on",
    "every_frame": "is for recordings, and a service goes on",
    "video": "grows without an end and is lost where the power fails; --snapshots keeps the frame of each event",
}
_STATES = ("ActiveState", "SubState", "UnitFileState", "Description", "User", "MainPID", "NRestarts", "StatusText")
_SHOWN = (*_STATES, "ActiveEnterTimestamp", "MemoryCurrent", "MemoryMax", "Result", "ExecMainStatus", "FragmentPath")


def service(
    action: Annotated[str, typer.Argument(help="print, install, uninstall or status.", show_default=False)],
    artifact: Annotated[
        Path | None, typer.Argument(help="A .tflite or .onnx file, for print and install.", show_default=False)
    ] = None,
    options: Annotated[
        list[str] | None, typer.Argument(help="The options of 'edgecnn live'.", show_default=False)
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(help="Who it runs as, not root; you, where you do not say.", show_default=False),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="For another service on this machine: edgecnn-NAME.", show_default=False)
    ] = None,
    memory_mb: Annotated[
        int | None,
        typer.Option(
            min=64,
            help="It is started again when it takes more; where you do not say, 256 and 16 times the model's file.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the service of this name.")] = False,
    json: _model.Json = False,
) -> int:
    """Keep 'edgecnn live' running for months: from boot on, started again when it ends or hangs. Needs systemd.

    Example: sudo edgecnn/bin/edgecnn service install model-int8.tflite --camera 0 --host 0.0.0.0 --token-file token

    What stands after the artifact are options of 'edgecnn live'. A new model: put it in the artifact's place (mv).
    """
    if sys.platform != "linux":
        raise EdgecnnError("services are kept running by systemd, which is of Linux; here 'edgecnn live' runs by hand")
    if action not in ACTIONS:
        raise UsageError(f"say what to do: {', '.join(ACTIONS)} (received: {action})")
    if name is not None and not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise UsageError(f"--name is made of letters, digits, - and _ (received: {name})")
    if artifact is not None and str(artifact).startswith("-"):
        raise UsageError(f"the artifact comes first: edgecnn service {action} ARTIFACT {artifact} …")
    if json and action != "status":
        raise UsageError("--json is for status")
    unit = "edgecnn.service" if name is None else f"edgecnn-{name}.service"
    if action in ("print", "install"):
        if artifact is None:
            raise UsageError(f"say which model: edgecnn service {action} ARTIFACT")
        if action == "print":
            print(_unit(unit, artifact, options or [], user, memory_mb).text(), end="")
        else:
            _install(unit, artifact, options or [], user, memory_mb, overwrite)
        return 0
    if options:
        raise UsageError(f"{action} takes no options of 'edgecnn live' (received: {options[0]})")
    if action == "uninstall":
        _uninstall(unit, artifact)
        return 0
    return _status(unit, artifact, json)


# What it does not know is for 'edgecnn live'.
service.context_settings = {"ignore_unknown_options": True}  # type: ignore[attr-defined]


def _unit(name: str, artifact: Path, options: list[str], user: str | None, memory_mb: int | None) -> Unit:
    artifact = artifact.absolute()
    arguments, writable = _live_arguments(artifact, options)
    if not artifact.is_file():
        raise EdgecnnError(f"{artifact}: there is no such file")
    # By its absolute path, in the environment that runs now; -P: no module of another folder stands in for one of ours.
    command = [sys.executable, "-P", "-m", "edgecnn_runtime", "live", str(artifact), *arguments]
    if memory_mb is None:
        # Measured: some 90 MB without a model, and 10 to 12 times the file while the next model is tried beside it.
        memory_mb = 256 + math.ceil(16 * artifact.stat().st_size / 1e6)
    return Unit(name, f"{_LIVE}{artifact}", command, _user(user), writable, memory_mb)


def _user(name: str | None) -> str:
    """Raises UsageError for root, and for one that there is not."""
    import pwd

    name = name or os.environ.get("SUDO_USER")
    try:
        found = pwd.getpwnam(name) if name else pwd.getpwuid(os.geteuid())
    except KeyError as error:
        missing = f"--user {name}" if name else f"user {os.geteuid()}"
        raise UsageError(f"{missing}: there is no such user on this machine; name one: --user pi") from error
    if found.pw_uid == 0:
        raise UsageError("a service that reads cameras and serves a page must not be root's; name a user: --user pi")
    return found.pw_name


def _live_arguments(artifact: Path, options: list[str]) -> tuple[list[str], list[Path]]:
    """The options as 'edgecnn live' understands them, with absolute paths, and the folders that they write to.

    Raises UsageError, and what Typer raises, for what 'live' would refuse, or makes no sense where nobody looks; and
    ModelError for a damaged artifact.
    """
    from edgecnn_runtime.artifact import read_artifact
    from edgecnn_runtime.cameras import Options, kind_of, shown
    from edgecnn_runtime.commands.live import check_labels, check_outputs, live
    from edgecnn_runtime.live.decision import Rules
    from edgecnn_runtime.live.listening import needs_token

    app = typer.Typer(add_completion=False)
    app.command("live")(live)
    command = typer.main.get_command(app)
    context = command.make_context("edgecnn service", [str(artifact), *options])
    values: dict[str, Any] = context.params
    values |= {name: Path(values[name]).absolute() for name in _PATHS if values[name] not in (None, "-")}
    given = {
        str(parameter.name): parameter
        for parameter in command.params
        if values[str(parameter.name)] != parameter.get_default(context) and parameter.name != "artifact"
    }
    for name, reason in _UNFIT.items():
        if name in given:
            raise UsageError(f"--{name.replace('_', '-')} {reason}")
    view, host, jsonl = values["view"], values["host"], values["jsonl"]
    wants_page = (host, values["port"], values["token_file"]) != (None, None, None)
    outputs = ("view", "jsonl", "append", "video", "stats", "snapshots", "snapshot_label")
    files = check_outputs(**{name: values[name] for name in outputs}, wants_page=wants_page)
    if "window" in (view or ()):
        raise UsageError("--view window: a service has no screen; leave it out, or take --view page")
    Options.parse(values["resolution"], values["fps"], values["rotation"], values["flip"], values["region"])
    if host is not None and needs_token(host) and values["token_file"] is None:
        raise UsageError(f"--host {host}: a service has nobody to show a token to; add --token-file FILE")
    token_file = values["token_file"]
    if token_file is not None and not token_file.is_file():
        raise UsageError(f"--token-file {token_file}: there is no such file")
    stated = (values["size"], values["range"], values["labels"], values["fit"])
    contract = _model.foreign_contract(artifact, *stated) or read_artifact(artifact)[1]
    check_labels(values["snapshot_label"] or (), contract.labels)
    kind, source = kind_of(values["camera"])
    if kind in _RECORDINGS or (kind == "fake" and "frames=" in source):
        raise UsageError(f"--camera {shown(values['camera'])}: a recording ends, and a service goes on")
    if kind == "device" and not source.isdecimal():
        values["camera"] = Path(source).absolute()
    rules = ("smoothing_ms", "hysteresis", "min_duration_ms", "cooldown_ms")
    Rules((), values["threshold"] or 0.0, **{name: values[name] for name in rules})
    arguments: list[str] = []
    for name, parameter in given.items():
        value = values[name]
        if value is True:
            arguments.append(parameter.opts[0])
        else:
            for one in value if isinstance(value, list | tuple) else [value]:
                arguments += [parameter.opts[0], str(one)]
    writable = [path.parent for path in files]
    # A start after the first one finds the files of the one before.
    if jsonl not in (None, "-") and "append" not in given:
        arguments.append("--append")
    if values["stats"] is not None and "overwrite" not in given:
        arguments.append("--overwrite")
    if values["snapshots"] is not None:
        folder = values["snapshots"]
        writable.append(folder if folder.is_dir() else folder.parent)
    for folder in writable:
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder to write to")
    return arguments, list(dict.fromkeys(writable))


def _install(
    name: str, artifact: Path, options: list[str], user: str | None, memory_mb: int | None, overwrite: bool
) -> None:
    unit = _unit(name, artifact, options, user, memory_mb)
    _require_systemd(f"; 'edgecnn service print' shows the unit {name}")
    _require_root()
    # Model, token and labels, and what it wrote when it ran before.
    words = [Path(word) for word in unit.command[1:] if Path(word).is_absolute()]
    files = [path for path in words if path.is_file()]
    for path in (*files, *unit.writable):
        if any(path.absolute().is_relative_to(folder) for folder in TEMPORARY):
            raise EdgecnnError(f"{path}: a service does not see this folder, which has one of its own; choose another")
    outputs = [Path(path) for option, path in pairwise(unit.command) if option in ("--jsonl", "--stats")]
    _check_access(unit.user, files, [*unit.writable, *(path for path in outputs if path.is_file())])
    path, text = UNITS / name, unit.text()
    if path.exists() and not overwrite and path.read_text("utf-8", "replace") != text:
        raise EdgecnnError(f"{path} exists already; add --overwrite to replace it")
    temporary = path.with_name(f".{name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, "utf-8")
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise EdgecnnError(f"{path}: cannot be written: {error.strerror}") from error
    log = f"journalctl -u {name.removesuffix('.service')}"
    _systemctl("daemon-reload")
    _systemctl("enable", "--quiet", name)
    try:
        _systemctl("restart", name)  # comes back after the first frame
    except EdgecnnError as error:
        raise EdgecnnError(
            f"{name} is installed, but does not run yet, and is tried again and again; '{log} -n 20' shows why"
        ) from error
    print(f"{name}: runs as {unit.user}, and from the next start of the system on by itself. Log: {log} -f")


_ACCESS = """
import os, sys
import edgecnn_runtime
count = int(sys.argv[1])
for path in sys.argv[2 : 2 + count]:
    open(path, "rb").close()
for path in sys.argv[2 + count :]:
    if not os.access(path, os.W_OK | (os.X_OK if os.path.isdir(path) else 0)):
        sys.exit(f"{path}: no permission to write there")
"""


def _check_access(user: str, read: Sequence[Path], written: Sequence[Path]) -> None:
    """Whether the user may start this Python, read those files and write to these files and folders; what systemd would
    say of it is a number."""
    import pwd

    found = pwd.getpwnam(user)
    command = [sys.executable, "-P", "-c", _ACCESS, str(len(read)), *map(str, [*read, *written])]
    try:
        done = subprocess.run(
            command,
            user=found.pw_uid,
            group=found.pw_gid,
            extra_groups=os.getgrouplist(user, found.pw_gid),
            capture_output=True,
            text=True,
            errors="replace",
        )
    except PermissionError as error:
        raise EdgecnnError(f"{user} may not start {sys.executable}; install edgecnn where that user may") from error
    if done.returncode:
        why = [f"exit code {done.returncode}", *done.stderr.strip().splitlines()][-1]
        raise EdgecnnError(f"{user} lacks a right that the service needs: {why}")


def _uninstall(name: str, artifact: Path | None) -> None:
    _require_systemd("")
    path = UNITS / name
    if not path.is_file():
        raise EdgecnnError(f"{path}: is not installed")
    _check_is_of(name, artifact, path.read_text("utf-8", "replace").replace("%%", "%"))
    _require_root()
    _systemctl("disable", "--now", "--quiet", name)
    path.unlink()
    _systemctl("daemon-reload")
    print(f"{name}: ended and removed")


def _status(name: str, artifact: Path | None, json: bool) -> int:
    """Exit code 0 where it runs."""
    _require_systemd("")
    if not (UNITS / name).is_file():
        raise EdgecnnError(f"{UNITS / name}: is not installed")
    lines = _systemctl("show", f"--property={','.join(_SHOWN)}", name).splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    _check_is_of(name, artifact, f"Description={found.get('Description', '')}\n")
    runs = found.get("ActiveState") == "active"
    document = {
        "service": name,
        "runs": runs,
        "state": f"{found.get('ActiveState', 'unknown')} ({found.get('SubState', 'unknown')})",
        "result": found.get("Result", ""),
        "exit_status": _number(found.get("ExecMainStatus")),
        "says": found.get("StatusText", ""),
        "since": found.get("ActiveEnterTimestamp", ""),
        "at_boot": found.get("UnitFileState") == "enabled",
        "artifact": found.get("Description", "").removeprefix(_LIVE),
        "user": found.get("User", ""),
        "process": _number(found.get("MainPID")),
        "restarts": _number(found.get("NRestarts")),
        "memory_mb": _megabytes(found.get("MemoryCurrent")),
        "memory_limit_mb": _megabytes(found.get("MemoryMax")),
    }
    if json:
        print_json("service", document)
        return 0 if runs else 1
    log = f"journalctl -u {name.removesuffix('.service')} -n 20"
    used, limit = document["memory_mb"], document["memory_limit_mb"]
    # Raspberry Pi OS counts no memory of services unless its kernel is told to.
    memory = "not counted on this system, so not limited" if used is None else f"{used} MB of {limit or 'any'} MB"
    state = f"{document['state']}, since {document['since']}" if runs else str(document["state"])
    if not runs:
        state += f"; last result: {document['result']}, exit status {document['exit_status']}"
    rows = [
        ("service", f"{name}, {'started' if document['at_boot'] else 'NOT started'} with the system"),
        ("state", state),
        ("says", document["says"] or "nothing yet"),
        ("artifact", document["artifact"]),
        ("user", f"{document['user']}, process {document['process']}"),
        ("restarts", f"{document['restarts']} by itself"),
        ("memory", memory),
        ("log", log),
    ]
    for word, value in rows:
        print(f"{word:<14} {value}")
    return 0 if runs else 1


def _check_is_of(name: str, artifact: Path | None, text: str) -> None:
    if artifact is not None and f"Description={one_line(f'{_LIVE}{artifact.absolute()}')}\n" not in text:
        raise EdgecnnError(f"{artifact}: {name} is of another artifact; leave it out, or name the service by --name")


def _require_systemd(remedy: str) -> None:
    if shutil.which("systemctl") is None or not BOOTED.is_dir():
        raise EdgecnnError(f"this system was not started by systemd, which keeps services running{remedy}")


def _require_root() -> None:
    from edgecnn_runtime.cameras import shown

    if os.geteuid() != 0:
        # By its path, since sudo does not look into virtual environments.
        words = [sys.executable, "-m", "edgecnn_runtime", *map(shown, sys.argv[1:])]
        raise EdgecnnError(f"this needs root's rights: sudo {shlex.join(words)}")


def _systemctl(*words: str) -> str:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, errors="replace")
    if done.returncode:
        said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
        raise EdgecnnError(f"systemctl {words[0]} failed: {said}")
    return done.stdout


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _megabytes(text: str | None) -> int | None:
    """None for what systemd does not know or limit, for which it has a word, or 2^64 - 1."""
    number = _number(text)
    return None if number is None or number >= 2**63 else round(number / 1e6)
