"""`edgecnn live`."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from edgecnn_runtime.commands import _model, cores
from edgecnn_runtime.errors import EdgecnnError, UsageError
from edgecnn_runtime.live.views import VIEWS as SCREENS
from edgecnn_runtime.live.views import open_view

if TYPE_CHECKING:
    from edgecnn_runtime import Classifier
    from edgecnn_runtime.live.views import View

MOST_THREADS = 4  # a mobile network gains little beyond
VIEWS = (SCREENS[0], "page", *SCREENS[1:])


def live(
    artifact: _model.Artifact,
    camera: Annotated[
        str,
        typer.Option(
            help="A camera's number or device file, a video file, a folder of pictures, a URL (rtsp, http), "
            "picamera2:0, gstreamer:PIPELINE, or fake: for a test card."
        ),
    ] = "0",
    resolution: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels.", show_default=False)] = None,
    fps: Annotated[float | None, typer.Option(help="At most so many frames per second.", show_default=False)] = None,
    rotation: Annotated[int, typer.Option(help="0, 90, 180 or 270 degrees clockwise.")] = 0,
    flip: Annotated[str, typer.Option(help="none, horizontal, vertical or both.")] = "none",
    region: Annotated[
        str | None,
        typer.Option(help="Look at LEFT,TOP,WIDTH,HEIGHT only, fractions of the turned picture.", show_default=False),
    ] = None,
    every_frame: Annotated[
        bool, typer.Option("--every-frame", help="A video file's every frame, as fast as it goes.")
    ] = False,
    frames: Annotated[int | None, typer.Option(min=1, help="End after so many frames.", show_default=False)] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help='Say "unknown" below this probability; the model has its own.', show_default=False),
    ] = None,
    smoothing_ms: Annotated[float, typer.Option(help="Time constant of the averaged probabilities.")] = 150.0,
    hysteresis: Annotated[float, typer.Option(help="By how much another label must lead, 0 to 1.")] = 0.1,
    min_duration_ms: Annotated[float, typer.Option(help="A label that stands for so long is an event.")] = 500.0,
    cooldown_ms: Annotated[float, typer.Option(help="No second event of a label for so long.")] = 2000.0,
    view: Annotated[
        list[str] | None,
        typer.Option(
            help="auto (in a terminal: page and terminal), page, window or terminal; may be repeated.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Serve the page at this address (127.0.0.1, this machine alone); 0.0.0.0 is for others too, "
            "who need a token.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Serve the page at this port (8080); 0 is any.", show_default=False),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="Who wants the page must know the token in FILE.", show_default=False)
    ] = None,
    jsonl: Annotated[
        str | None, typer.Option(help="Write one JSON object per frame to FILE; - is stdout.", show_default=False)
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help="Write what the window shows to FILE.mp4 or .avi.", show_default=False)
    ] = None,
    snapshots: Annotated[
        Path | None, typer.Option(help="Save the frame of every event in this folder.", show_default=False)
    ] = None,
    snapshot_label: Annotated[
        list[str] | None, typer.Option(help="Only events of this label; may be repeated.", show_default=False)
    ] = None,
    stats: Annotated[
        Path | None, typer.Option(help="Keep frame age, drops and reconnections in FILE.", show_default=False)
    ] = None,
    append: Annotated[bool, typer.Option("--append", help="Add to the --jsonl file.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files.")] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, help="Threads of one inference (as many as there are cores, at most 4).", show_default=False
        ),
    ] = None,
    size: _model.Size = None,
    range: _model.Range = None,
    labels: _model.Labels = None,
    fit: _model.Fit = "crop",
    logits: _model.Logits = False,
) -> int:
    """Classify what a camera sees, and show it on a page at http://127.0.0.1:8080, until Ctrl-C.

    Another file in the artifact's place is tried, and answers from the next frame on.

    Example: edgecnn live efficientnet_lite0-int8.tflite --camera 0
    """
    from edgecnn_runtime.cameras import Options
    from edgecnn_runtime.live.artifact import ArtifactFile
    from edgecnn_runtime.live.capture import Every, open_frames
    from edgecnn_runtime.live.decision import Rules
    from edgecnn_runtime.live.loop import Tuning, run
    from edgecnn_runtime.live.views.manager import open_manager

    options = Options.parse(resolution, fps, rotation, flip, region)
    wants_page = (host, port, token_file) != (None, None, None)
    lines = None if jsonl in (None, "-") else Path(str(jsonl))
    for path in check_outputs(view, jsonl, append, video, stats, wants_page, snapshots, snapshot_label):
        if path.is_file() and not overwrite and not (append and path == lines):
            raise EdgecnnError(f"{path} exists already; add --overwrite to replace it")

    count = threads or min(cores(), MOST_THREADS)

    def load() -> Classifier:
        classifier = _model.open_classifier(artifact, count, size, range, labels, fit, logits)
        check_labels(snapshot_label or (), classifier.contract.labels)
        return classifier

    file = ArtifactFile(artifact, load)
    rules = replace(
        Rules.of(file.classifier),
        smoothing_ms=smoothing_ms,
        hysteresis=hysteresis,
        min_duration_ms=min_duration_ms,
        cooldown_ms=cooldown_ms,
    )
    if threshold is not None:
        rules = replace(rules, threshold=threshold)
    tuning = Tuning(rules, follows_model=threshold is None)
    with ExitStack() as stack:
        signals = stack.enter_context(_Signals())
        source = stack.enter_context(open_frames(camera, options, every_frame))
        stack.enter_context(file)
        views: list[View] = []

        def add(opened: View) -> None:
            views.append(opened)
            stack.callback(opened.close)

        # Imported where they are wanted: each costs some of the time to the first answer. The statistics come first, so
        # that they hold the frame with which another one fails.
        if stats is not None:
            from edgecnn_runtime.live.views.stats_file import StatsFile

            stats_file = StatsFile(stats, source.name)
            add(stats_file)
        for name in _view_names(view, jsonl, wants_page, isinstance(source, Every)):
            if name == "page":
                from edgecnn_runtime.live.views import page

                address = host or page.HOST, page.PORT if port is None else port
                add(page.open_page(file.model, tuning, *address, token_file))
            else:
                add(open_view(name))
        if jsonl is not None:
            from edgecnn_runtime.live.views.jsonl import JsonLines

            add(JsonLines(lines, append))
        if video is not None:
            from edgecnn_runtime.live.views.video import VideoFile

            add(VideoFile(video, source.fps))
        if snapshots is not None:
            from edgecnn_runtime.live.views.snapshots import Snapshots

            add(Snapshots(snapshots, snapshot_label or []))
        if manager := open_manager():
            add(manager)
        stack.callback(source.stop)  # before anything is closed: each may take its time, and together two seconds
        signals.running = True
        summary = run(file, source, views, tuning, frames, signals.stop)
        if stats is not None:
            stats_file.finish(summary.stats)
    print(summary, file=sys.stderr if jsonl == "-" else sys.stdout)
    # As shells have it: a script can tell that somebody stopped it from a video that ended.
    return 128 + signals.received if summary.interrupted else 0


def check_outputs(
    view: list[str] | None,
    jsonl: str | None,
    append: bool,
    video: Path | None,
    stats: Path | None,
    wants_page: bool,
    snapshots: object,
    snapshot_label: Sequence[str] | None,
) -> list[Path]:
    """The files that are to be written. Raises UsageError for a view that there is not, and for what does not go
    together; EdgecnnError for a folder in a file's place."""
    for name in view or ():
        if name not in VIEWS:
            raise UsageError(f"--view is {', '.join(VIEWS)} (received: {name})")
    if jsonl == "-" and "terminal" in (view or ()):
        raise UsageError("--jsonl - and --view terminal both write to stdout; leave one out")
    if wants_page and view and not {"auto", "page"} & set(view):
        raise UsageError("--host, --port and --token-file are of the page; add --view page")
    if snapshot_label and snapshots is None:
        raise UsageError("--snapshot-label needs --snapshots FOLDER")
    lines = None if jsonl in (None, "-") else Path(str(jsonl))
    if append and lines is None:
        raise UsageError("--append adds to a file; name it with --jsonl")
    files = [path for path in (lines, video, stats) if path is not None]
    if len({path.resolve() for path in files}) < len(files):
        raise UsageError("--jsonl, --video and --stats need a file each")
    for path in files:
        if path.is_dir():
            raise EdgecnnError(f"{path} is a folder; name a file")
    return files


def check_labels(wanted: Sequence[str], known: Sequence[str]) -> None:
    """Raises UsageError for a label that the model does not have."""
    if missing := sorted(set(wanted) - set(known)):
        raise UsageError(f"the model has no label {missing[0]!r} (it has: {', '.join(known[:10])})")


def _view_names(view: list[str] | None, jsonl: str | None, wants_page: bool, unpaced: bool) -> list[str]:
    """The views to open. Where nobody looks "auto" needs no port: in a pipe, with JSON lines on stdout, and for what is
    read as fast as it goes, which is over before a browser is there."""
    names = ["page"] if wants_page else []
    for name in view or ["auto"]:
        if name != "auto":
            names.append(name)
        elif jsonl != "-":
            names += ["page", "terminal"] if sys.stdout.isatty() and not unpaced else ["terminal"]
    return list(dict.fromkeys(names))


class _Signals:
    """Ctrl-C and SIGTERM end the loop after the frame at hand, with everything flushed; outside the loop, and a second
    time, they are a KeyboardInterrupt.

    Attributes:
        running: whether the loop runs.
        stop: set by the first signal.
        received: the last signal's number.
    """

    def __init__(self) -> None:
        self.running = False
        self.stop = threading.Event()
        self.received = int(signal.SIGINT)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        if not self.running or self.stop.is_set():
            raise KeyboardInterrupt
        self.stop.set()
