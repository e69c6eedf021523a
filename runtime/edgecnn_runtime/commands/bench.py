"""`edgecnn bench`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgecnn_runtime.commands import _model, cores, is_terminal, print_json
from edgecnn_runtime.errors import UsageError

if TYPE_CHECKING:
    from edgecnn_runtime.timing import Speed, Start

RESOLUTION = "1280x720"
SECONDS_EACH = 20.0


def bench(
    artifacts: Annotated[list[Path], typer.Argument(help=".tflite and .onnx files.", show_default=False)],
    picture: Annotated[
        Path | None, typer.Option(help="Time this picture instead of a generated camera frame.", show_default=False)
    ] = None,
    resolution: Annotated[
        str | None, typer.Option(help=f"WIDTHxHEIGHT of the generated frame ({RESOLUTION}).", show_default=False)
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Up to so many threads (as many as there are cores).", show_default=False),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0,
            help=f"Time for so long at most, once all had 20 turns ({SECONDS_EACH:g} for each file).",
            show_default=False,
        ),
    ] = None,
    json: _model.Json = False,
) -> None:
    """Time model files on this device: from a picture's file to the decision, and each part of it.

    Example: edgecnn bench runs/flowers/artifacts/*.tflite
    """
    from edgecnn_runtime.artifact import read_artifact
    from edgecnn_runtime.timing import measure_start, remarks, time_artifacts

    if seconds is not None and not math.isfinite(seconds):
        raise UsageError(f"--seconds is a number of seconds (received: {seconds})")
    data, frame = _picture(picture, resolution)
    paths = list(dict.fromkeys(artifacts))
    opened = [read_artifact(path) for path in paths]
    engines = [module.describe(graph) for graph, _, module in opened]
    with _progress() as progress:
        most_s = SECONDS_EACH * len(paths) if seconds is None else seconds
        speeds, conditions = time_artifacts(paths, data, _counts(threads or cores()), most_s, progress)
    starts = [measure_start(path, data) for path in paths]
    said = remarks(speeds, conditions)
    own = [[speed for speed in speeds if speed.path == path] for path in paths]
    if json:
        rows = zip(paths, engines, starts, own, strict=True)
        shared = {"picture": frame, "conditions": {"cores": cores(), **asdict(conditions)}, "remarks": said}
        print_json("bench", {"artifacts": [_document(*row) for row in rows], **shared})
        return
    print(f"{frame['width']}x{frame['height']} px, {len(data) / 1e3:.0f} kB, {frame['source']}; ", end="")
    print(f"{conditions.rounds} rounds in {conditions.seconds:.0f} s")
    print("milliseconds, p50/p95/p99, by number of threads\n")
    for path, (words, _), start, its in zip(paths, engines, starts, own, strict=True):
        _print_artifact(path, words, start, its)
    best = min(speeds, key=lambda speed: speed.parts["total"].p50)
    best_ms, count = best.parts["total"].p50, f"{best.threads} thread{'' if best.threads == 1 else 's'}"
    print(f"fastest: {best.path.name} with {count}, {_figure(best_ms)} ms, {1e3 / best_ms:.0f} pictures a second")
    for sentence in said:
        print(f"note: {sentence}")


def _picture(path: Path | None, resolution: str | None) -> tuple[bytes, dict[str, Any]]:
    """The file's bytes, and what is said of it."""
    from edgecnn_runtime.cameras import Options
    from edgecnn_runtime.decode import decode, read_bytes
    from edgecnn_runtime.timing import camera_like_picture

    if path is not None and resolution is not None:
        raise UsageError("--picture and --resolution exclude one another")
    if path is not None:
        data, source = read_bytes(path), str(path)
    else:
        size = Options.parse(resolution or RESOLUTION, None, 0, "none", None).resolution
        assert size is not None
        data, source = camera_like_picture(size), "generated"
    height, width = decode(data, source).shape[:2]
    return data, {"source": source, "width": width, "height": height, "size_bytes": len(data)}


def _counts(most: int) -> list[int]:
    """1, 2, 3, 4, then powers of two, and the most itself."""
    return [n for n in range(1, most + 1) if n <= 4 or n & (n - 1) == 0 or n == most]


def _print_artifact(path: Path, engine: str, start: Start, speeds: Sequence[Speed]) -> None:
    from edgecnn_runtime.timing import PARTS

    contract = speeds[0].contract
    source = contract.provenance
    sizes = f"{contract.width}x{contract.height} px, {path.stat().st_size / 1e6:.2f} MB"
    print(f"{path.name}: {source.backbone} {source.precision}, {sizes}")
    print(f"   engine: {engine}")
    memory = "memory is not known"
    if start.resident_mb is not None:
        memory = f"{start.resident_mb:.0f} MB resident, {start.artifact_mb:.1f} MB of them the artifact's"
    print(
        f"   alone in a new process: loaded in {start.load_ms:.0f} ms, first picture {start.first_ms:.0f} ms; {memory}"
    )
    # 80 columns hold just this.
    print(f"threads{PARTS[0]:>10}" + "".join(f"{part:>15}" for part in PARTS[1:]))
    for speed in speeds:
        cells = ["/".join(map(_figure, asdict(speed.parts[part]).values())) for part in PARTS]
        print(f"{speed.threads:2}" + "".join(f"{cell:>15}" for cell in cells))
    print()


def _figure(value_ms: float) -> str:
    """Three digits at least."""
    return f"{value_ms:.{2 if value_ms < 10 else 1 if value_ms < 100 else 0}f}"


def _document(
    path: Path, engine: tuple[str, Mapping[str, Any]], start: Start, speeds: Sequence[Speed]
) -> dict[str, Any]:
    contract = speeds[0].contract
    timed = [
        {
            "threads": speed.threads,
            "frames": speed.frames,
            "timings_ms": {part: asdict(spread) for part, spread in speed.parts.items()},
            "uncertainty": speed.uncertainty,
        }
        for speed in speeds
    ]
    return {
        "artifact": str(path),
        "backbone": contract.provenance.backbone,
        "precision": contract.provenance.precision,
        "height": contract.height,
        "width": contract.width,
        "size_bytes": path.stat().st_size,
        "engine": engine[1],
        **asdict(start),
        "timed": timed,
    }


@contextmanager
def _progress() -> Iterator[Callable[[float], None]]:
    """A bar on stderr, on a terminal only."""
    if not is_terminal():
        yield lambda share: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("timing", total=1.0)
        yield lambda share: bars.update(task, completed=share)
