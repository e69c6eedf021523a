"""What the benchmarks share: a table with its targets as Markdown and JSON, fair timing, and measured processes.

Imports nothing heavy: Linux hands a parent's peak memory on to its children, so a large parent would spoil theirs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("numpy", "opencv-python", "opencv-python-headless", "ai-edge-litert", "onnxruntime", "tensorflow-cpu")


@dataclass(frozen=True)
class Target:
    """A figure and its limit, in one unit; the limit itself is within the target, whatever rounding adds to it:
    100 * (0.88375 - 0.87375) is 1.0 point and prints as 1.0000000000000009."""

    what: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the figure is on the right side. False for NaN."""
        within = self.value >= self.limit if self.at_least else self.value <= self.limit
        return within or math.isclose(self.value, self.limit, rel_tol=1e-9)

    def line(self) -> str:
        """One Markdown list item."""
        sign = "at least" if self.at_least else "at most"
        return f"- {'met' if self.met else 'MISSED'}: {self.what} {self.value:.4g} ({sign} {self.limit:.4g})"


@dataclass(frozen=True)
class Report:
    """A benchmark's outcome.

    Attributes:
        name: of the files that are written.
        columns, rows: the table; the first column is text, the others are numbers.
        notes: conditions, each one line.
        figures: what goes into the JSON file besides.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    targets: Sequence[Target] = ()
    notes: Sequence[str] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        """Title, table, targets, notes."""
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        table = ["| " + " | ".join(row) + " |" for row in (self.columns, rule, *self.rows)]
        notes = [f"- {note}" for note in self.notes]
        parts = [[f"# {self.title}"], table, [target.line() for target in self.targets], notes]
        return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def finish(report: Report, out: Path) -> int:
    """Prints the report, writes ``out/NAME.md`` and ``out/NAME.json``; returns 1 where a target is missed, else 0."""
    targets = [{**asdict(target), "met": target.met} for target in report.targets]
    document = json.dumps({**asdict(report), "targets": targets, "machine": _machine()}, indent=2, ensure_ascii=False)
    print(report.markdown())
    out.mkdir(parents=True, exist_ok=True)
    for suffix, text in (("md", report.markdown()), ("json", f"{document}\n")):
        (out / f"{report.name}.{suffix}").write_text(text, "utf-8")
    missed = [target.line() for target in report.targets if not target.met]
    print("\n".join(missed), file=sys.stderr, end="\n" if missed else "")
    return 1 if missed else 0


def arguments(documentation: str | None) -> argparse.ArgumentParser:
    """A parser with the script's docstring as its help and the option ``--out``."""
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="folder for the .md and .json file")
    return parser


@dataclass(frozen=True)
class Finished:
    """A process that ended well: wall time, processor time of all its threads, peak resident memory (1 MB is 1e6
    bytes), stdout."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    output: str


def resident_mb(process: int | str = "self") -> float:
    """A process's resident memory."""
    pages = int(Path(f"/proc/{process}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def run(command: Sequence[str], environment: Mapping[str, str] | None = None, codes: Sequence[int] = (0,)) -> Finished:
    """Runs a command to its end. Ends this program with the command's stderr where the exit code is none of `codes`."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=stdout, stderr=stderr, env={**os.environ, **(environment or {})})
        _, status, usage = os.wait4(child.pid, 0)
        wall_s = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        stdout.seek(0)
        stderr.seek(0)
        if child.returncode not in codes:
            sys.exit(f"{' '.join(command)} ended with {child.returncode}:\n{stderr.read().decode(errors='replace')}")
        unit = 1 if sys.platform == "darwin" else 1024  # what ru_maxrss counts in
        cpu_s = usage.ru_utime + usage.ru_stime
        return Finished(wall_s, cpu_s, usage.ru_maxrss * unit / 1e6, stdout.read().decode())


def edgecnn(*words: str | Path, environment: Mapping[str, str] | None = None, codes: Sequence[int] = (0,)) -> Finished:
    """Runs the `edgecnn` command of this Python's environment."""
    return run([str(Path(sys.executable).with_name("edgecnn")), *map(str, words)], environment, codes)


def interleaved_ms(functions: Sequence[Callable[[], object]], runs: int, warm_up: int = 10) -> list[list[float]]:
    """Times of each call in milliseconds, taken in turns, so that a busy moment meets all alike.

    The order changes every turn (A B, B A): whoever comes second finds the processor's caches filled by the first.
    """
    times: list[list[float]] = [[] for _ in functions]
    for count in range(warm_up + runs):
        pairs = list(zip(functions, times, strict=True))
        for function, own in pairs if count % 2 else reversed(pairs):
            start = time.perf_counter()
            function()
            elapsed = (time.perf_counter() - start) * 1e3
            if count >= warm_up:
                own.append(elapsed)
    return times


def median_ratio(times: Sequence[float], reference: Sequence[float]) -> float:
    """Ratio of the medians."""
    return statistics.median(times) / statistics.median(reference)


def _machine() -> dict[str, Any]:
    packages = {}
    for package in _PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": packages,
        "load_average": os.getloadavg(),
    }
