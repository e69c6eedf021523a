"""What `train`, `compare` and `quickstart` share: one training, written as a run folder with its report."""

from __future__ import annotations

import contextlib
import gc
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgecnn.evaluation.augment_page import warnings
from edgecnn.evaluation.summary import write_run_report
from edgecnn.training.presets import unused
from edgecnn.training.run import (
    Config,
    Run,
    at_work,
    begin_run,
    check_new,
    finish_run,
    part_of,
    publish_run,
    read_part,
)
from edgecnn.training.train import Pictures, Progress, load_pictures, reload_pictures, silent, train
from edgecnn_runtime.cli import INTERRUPTED
from edgecnn_runtime.commands import is_terminal
from edgecnn_runtime.errors import EdgecnnError


def command_line() -> str:
    """The words that were typed."""
    return " ".join(["edgecnn", *map(shlex.quote, sys.argv[1:])])


def say_doubts(config: Config, given: Iterable[str], labels: Sequence[str]) -> None:
    """Says on stderr which of the options given the recipe does not look at, and where a view may be of another class
    than its picture."""
    for line in unused(config, given):
        print(f"edgecnn: {line}", file=sys.stderr)
    if config.recipe != "fast" or config.views:
        for warning in warnings(config.augmentation, labels):
            print(f"edgecnn: warning: {warning}; 'edgecnn augment' shows it", file=sys.stderr)


def train_run(
    config: Config,
    folder: Path,
    overwrite: bool,
    workers: int,
    progress: Progress = silent,
    tensorboard: bool = False,
    begun: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Trains and writes the run folder, and calls `begun` before the training itself. Returns the metrics.

    Raises EdgecnnError; an earlier run is then as it was, and what has been trained can be gone on with.
    """
    check_new(folder, overwrite)
    pictures = load_pictures(config, progress)
    known = {"unreadable": pictures.unreadable, "groups": pictures.groups}
    part = begin_run(folder, config, pictures.labels, pictures.entries, overwrite, known)
    if tensorboard:  # by which a resumed training knows
        (part / "tensorboard").mkdir()
    with at_work(folder):
        return _train(config, pictures, folder, workers, progress, tensorboard, begun)


def resume_run(
    folder: Path, workers: int, progress: Progress = silent, data: Path | None = None
) -> tuple[Config, dict[str, Any]]:
    """Goes on with an interrupted training: the weights will be those of an uninterrupted one. Raises EdgecnnError."""
    run = read_part(folder)
    pictures = reload_pictures(run, data, progress, "put it back where it was")
    try:
        unreadable = tuple((str(path), str(reason)) for path, reason in run.metrics["unreadable"])
        groups = tuple(tuple(int(index) for index in group) for group in run.metrics["groups"])
        if not {index for group in groups for index in group} <= set(range(len(run.pictures))):
            raise ValueError("groups of other pictures")
    except (KeyError, TypeError, ValueError) as error:
        raise EdgecnnError(f"{run.folder}/metrics.json: damaged ({error}); train again") from error
    pictures = replace(pictures, unreadable=unreadable, groups=groups)
    tensorboard = (run.folder / "tensorboard").exists()
    with at_work(folder):
        return run.config, _train(run.config, pictures, folder, workers, progress, tensorboard)


def _train(
    config: Config,
    pictures: Pictures,
    folder: Path,
    workers: int,
    progress: Progress,
    tensorboard: bool,
    begun: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    part = part_of(folder)
    try:
        with contextlib.ExitStack() as stack:

            def from_now_on() -> None:  # weights that are being fetched before it are taken away by who fetches them
                stack.enter_context(_ended_by_signals(folder))
                begun()
                sys.stdout.flush()

            trained = train(config, pictures, part, workers, progress, tensorboard, from_now_on)
            finish_run(folder, trained.metrics, trained.model)
            history = {name: [row[name] for row in trained.history] for name in (trained.history or [{}])[0]}
            run = Run(part, config, pictures.labels, pictures.entries, history, trained.metrics)
            write_run_report(run, pictures, trained.probabilities, folder.name, model=trained.model)
        publish_run(folder)
    except OSError as error:
        problem = EdgecnnError(
            f"{part}: cannot be written ({error.strerror}); make room, then: edgecnn train --resume {folder}"
        )
    except EdgecnnError:
        if not any(part.glob("*.npz")):  # nothing was learnt: nothing to go on with
            shutil.rmtree(part, ignore_errors=True)
        raise
    else:
        return trained.metrics
    # Raised here, where the exception and the frames that it holds are gone: an input pipeline that lived until the
    # process ends would call Python from its threads then, and abort it.
    gc.collect()
    raise problem


@contextlib.contextmanager
def _ended_by_signals(folder: Path) -> Iterator[None]:
    """Within the block Ctrl-C and SIGTERM end the process at once, with one line: the run's folder bears it at any
    moment.

    A KeyboardInterrupt would have to leave TensorFlow, which drops it, makes another error of it, waits for the threads
    of its input pipeline, or aborts: one in fifty did not end with its line.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    below = "\n\x1b[?25h" if is_terminal() else ""  # the bars stay as they are; the cursor that they hid comes back
    line = f"{below}edgecnn: error: interrupted; go on with: edgecnn train --resume {folder}\n"
    stderr = os.dup(2)  # which is led elsewhere while engines and converters are kept quiet

    def end(*_: object) -> None:
        for number in before:  # ignored, one that has come already would be complained of
            signal.signal(number, lambda *_: None)
        with contextlib.suppress(Exception):  # this may be in the middle of a print
            sys.stdout.flush()
        with contextlib.suppress(OSError):
            os.write(stderr, line.encode(errors="backslashreplace"))
        os._exit(INTERRUPTED)

    # What a shell's "&" or nohup ignores stays ignored.
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(stderr)
