"""`edgecnn live`."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Annotated

import typer

from edgecnn_runtime.cameras import open_camera
from edgecnn_runtime.commands import _model, print_json
from edgecnn_runtime.errors import UsageError
from edgecnn_runtime.live.loop import run
from edgecnn_runtime.live.observation import Observation
from edgecnn_runtime.live.views import VIEWS, View, open_view


def live(
    artifact: _model.Artifact,
    camera: Annotated[str, typer.Option(help="A camera's number, a video file, or a URL (rtsp, http).")] = "0",
    frames: Annotated[int | None, typer.Option(min=1, help="End after so many frames.", show_default=False)] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Say unsure below this probability.", show_default=False)
    ] = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per frame and nothing else.")] = False,
    view: Annotated[str, typer.Option(help="auto, window or terminal.")] = "auto",
    threads: _model.Threads = 1,
    size: _model.Size = None,
    range: _model.Range = None,
    labels: _model.Labels = None,
    fit: _model.Fit = "crop",
    logits: _model.Logits = False,
) -> int:
    """Classify what a camera sees, until q, Esc or Ctrl-C. A video file is read frame by frame, as fast as possible.

    Example: edgecnn live efficientnet_lite0-int8.tflite --camera 0
    """
    if view not in VIEWS:
        raise UsageError(f"--view is {', '.join(VIEWS)} (received: {view})")
    if jsonl and view == "terminal":
        raise UsageError("--jsonl and --view terminal both write to stdout; leave one out")
    classifier = _model.open_classifier(artifact, threads, size, range, labels, fit, logits)
    if threshold is not None:
        classifier.reject_threshold = threshold
    with open_camera(camera) as source:
        views: list[View] = [_JsonLines()] if jsonl else []
        if not jsonl or view == "window":
            views.append(open_view(view))
        with closing(views[-1]):
            summary = run(classifier, source, views, frames)
    print(summary, file=sys.stderr if jsonl else sys.stdout)
    # As shells have it: a script can tell that somebody stopped it from a video that ended.
    return 130 if summary.interrupted else 0


class _JsonLines:
    def show(self, observation: Observation) -> bool:
        result, timings = observation.result, observation.result.timings
        payload = {
            "frame": observation.frame.index,
            "label": result.label,
            "probability": result.probability,
            "frame_age_ms": round(observation.frame_age_ms, 3),
            "timings_ms": {
                "preprocess": round(timings.preprocess_ms, 3),
                "inference": round(timings.inference_ms, 3),
                "total": round(timings.total_ms, 3),
            },
        }
        print_json("live", payload)
        sys.stdout.flush()  # whoever reads the pipe acts on it now
        return True

    def close(self) -> None:
        pass
