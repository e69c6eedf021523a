"""The `edgecnn` command. The runtime owns it; the lab adds its commands by the entry-point group `edgecnn.commands`.

Only the module of the command that was typed is imported; `--help` imports all, so heavy imports stand in functions.
"""

from __future__ import annotations

import difflib
import importlib
import io
import os
import pkgutil
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from edgecnn_runtime import __version__, commands
from edgecnn_runtime.errors import EdgecnnError, UsageError, first_line

LAB_COMMANDS = ("augment", "backbones", "check", "compare", "export", "quickstart", "train")
LAB_INSTALL = "pip install 'edgecnn[cpu]'"
INTERRUPTED, TERMINATED = 130, 143  # 128 + SIGINT, 128 + SIGTERM, as shells have it


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and ends the process with its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        # Whatever the locale says; bytes of a file name that are no UTF-8 become escapes, in JSON too.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    output = sys.stdout
    received = _listen() if arguments is None else []
    code: Any
    try:
        code = _run(words)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        code = 1
    except SystemExit as end:  # Typer's, where a pipe is broken
        code = end.code
    except Exception as error:
        if debug:
            raise
        message, code = _one_line(error)
        if not received:  # else it is only what the signal became on its way
            print(f"edgecnn: error: {message}", file=sys.stderr)
    if received:
        code = 128 + received[-1]
        print(f"edgecnn: {'terminated' if code == TERMINATED else 'interrupted'}", file=sys.stderr)
    try:
        output.flush()
    except OSError as error:
        # What can't be written now can't be at exit either, where Python would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
        # A reader (head, less) may go when it has seen enough; anything else is worth a line.
        if not code and not isinstance(error, BrokenPipeError):
            print(f"edgecnn: error: the output cannot be written: {error.strerror}", file=sys.stderr)
        code = code or 1
    if code in (INTERRUPTED, TERMINATED) and arguments is None:
        # A thread of TensorFlow's may be in the middle of a batch, or another in a camera's driver, and would abort a
        # process that ends step by step.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _listen() -> list[int]:
    """Lets SIGTERM end what runs as Ctrl-C does, so that nothing half written stays. Returns where the signals will be
    that no command has taken care of: Typer makes of them what cannot be told from a command's own exit code."""
    received: list[int] = []

    def interrupt(number: int, frame: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # what is ignored stays so
            signal.signal(number, interrupt)
    return received


def _run(words: list[str]) -> int:
    loaders = _own()
    name = next((word for word in words if not word.startswith("-")), None)
    if name not in loaders:
        loaders = {**_lab(), **loaders}
    if name is not None and name not in loaders:
        if name in LAB_COMMANDS:
            raise UsageError(f"'edgecnn {name}' belongs to the lab, which is not installed: run \"{LAB_INSTALL}\"")
        close = difflib.get_close_matches(name, [*loaders, *LAB_COMMANDS], n=1)
        raise UsageError(
            f"no such command: {name}" + (f"; did you mean '{close[0]}'?" if close else "; 'edgecnn --help' lists them")
        )
    app = typer.Typer(
        name="edgecnn",
        help="From photos to an image classifier that runs on a Raspberry Pi or a laptop.",
        no_args_is_help=True,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for known in [name] if name else sorted(loaders):
        command = loaders[known]()
        app.command(known, context_settings=getattr(command, "context_settings", None))(command)
    result = typer.main.get_command(app).main(words or ["--help"], prog_name="edgecnn", standalone_mode=False)
    return result if isinstance(result, int) else 0


def _own() -> dict[str, Callable[[], Callable[..., Any]]]:
    def loader(name: str) -> Callable[[], Callable[..., Any]]:
        return lambda: getattr(importlib.import_module(f"{commands.__name__}.{name}"), name)

    names = [m.name for m in pkgutil.iter_modules(commands.__path__) if not m.name.startswith("_")]
    return {name: loader(name) for name in names}


def _lab() -> dict[str, Callable[[], Callable[..., Any]]]:
    from importlib.metadata import entry_points  # reads what is installed, which a device's commands need not

    return {entry.name: entry.load for entry in entry_points(group="edgecnn.commands")}


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"edgecnn {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error (works anywhere).")] = False,
) -> None:
    pass


def _one_line(error: Exception) -> tuple[str, int]:
    if isinstance(error, EdgecnnError):
        return " ".join(str(error).split()), error.exit_code
    format_message = getattr(error, "format_message", None)  # a usage error; typer vendors the class in some versions
    if format_message is not None:
        return f"{' '.join(format_message().split())} (see --help)", getattr(error, "exit_code", 2)
    if isinstance(error, ImportError):
        return f"{first_line(error)}; 'edgecnn doctor' says what is missing", 1
    if isinstance(error, MemoryError):
        return "not enough memory", 1
    return f"{type(error).__name__}: {' '.join(str(error).split())} (--debug shows where)", 1
