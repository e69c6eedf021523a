"""The live loop: how old its frames are, beside a plain loop; flicker; bad reads; the time to the first answer.

    python bench/live.py --artifact models/efficientnet_lite0-float32.tflite

A fake camera gives 30 frames a second and an artificial model takes 200 ms. The plain loop, `capture.read()` and the
model in turns, reads the same test card from a network camera on this machine that keeps what is not taken yet; so does
the live loop, a second time. All run at once, for --minutes. The age is read off the card, which carries its time.
"""

from __future__ import annotations

import dataclasses
import http.server
import itertools
import math
import multiprocessing
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from bench._report import Finished, Report, Target, arguments, finish, resident_mb, run
from edgecnn_runtime import Classifier
from edgecnn_runtime.cameras import Camera, Options
from edgecnn_runtime.cameras.fake import FPS, Device, Faults, draw_card, read_card
from edgecnn_runtime.classifier import Result, Timings
from edgecnn_runtime.live.capture import Newest, open_frames
from edgecnn_runtime.live.decision import Decision, Rules, decide
from edgecnn_runtime.live.loop import Summary
from edgecnn_runtime.live.loop import run as run_loop
from edgecnn_runtime.live.observation import Observation
from edgecnn_runtime.live.stats import Stats

INFERENCE_S = 0.2
RESOLUTION = (320, 240)
SPARE_MS = 10.0
BAD_READS = 1000
FAILURE_S = (2.0, 5.0)  # from and to, since the start
MAX_STARTUP_S = 1.0
MAX_GROWTH_MB = 10.0
MIN_FLIP_RATIO = 5.0
MAX_DELAY_MS = 300.0

CLASSES, CLIP_S, SCENE_S = 5, 600, (2.0, 6.0)
# Of the logits: the true class's lead, and noise of each frame and of 100 ms, as of a hand that moves.
SIGNAL, NOISE, SLOW_NOISE, SLOW_S = 3.2, 1.2, 0.6, 0.1


class SlowModel:
    """Stands for a model that takes its time and leaves the processor alone."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def classify(self, picture: object, color: str) -> Result:
        """One answer, always the same."""
        start = time.perf_counter()
        time.sleep(self._seconds)
        taken_ms = (time.perf_counter() - start) * 1e3
        return Result("card", 1.0, np.ones(1, np.float32), ("card",), Timings(0.0, 0.0, taken_ms))


class Ages:
    """A view that reads the frames' ages off the card, and ends after a while."""

    def __init__(self, seconds: float) -> None:
        self.ages_ms: list[float] = []
        self.resident_mb: list[float] = []
        self._end_s = time.monotonic() + seconds

    def show(self, observation: Observation) -> bool:
        """See `edgecnn_runtime.live.views.View`."""
        now_s = time.monotonic()
        self.ages_ms.append((now_s - read_card(observation.frame.picture)[1]) * 1e3)
        self.resident_mb.append(resident_mb())
        return now_s < self._end_s

    def wait(self, stats: Stats) -> bool:
        """See `edgecnn_runtime.live.views.View`."""
        return time.monotonic() < self._end_s

    def close(self) -> None:
        """Nothing is open."""


def live_loop(source: str, seconds: float) -> tuple[Ages, Summary]:
    """The loop of `edgecnn live` with the artificial model."""
    view = Ages(seconds)
    with open_frames(source, Options(resolution=RESOLUTION)) as frames:
        model = cast(Classifier, SlowModel(INFERENCE_S))
        return view, run_loop(model, frames, [view], Rules(("card",)))


def plain_loop(url: str, seconds: float) -> list[float]:
    """What tutorials show: read, classify, again. Ages in milliseconds."""
    capture, model, ages_ms = cv2.VideoCapture(url), SlowModel(INFERENCE_S), []
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        there, picture = capture.read()
        if not there:
            break
        model.classify(picture, "bgr")
        ages_ms.append((time.monotonic() - read_card(np.asarray(picture, np.uint8))[1]) * 1e3)
    capture.release()
    return ages_ms


def serve(port: Any, stop: Event) -> None:
    """A network camera (MJPEG) that draws in real time and keeps for each client what it has not taken yet."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            kept: queue.SimpleQueue[bytes] = queue.SimpleQueue()
            threading.Thread(target=draw, args=(kept,), daemon=True).start()
            try:
                while not stop.is_set():
                    self.wfile.write(kept.get())
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    def draw(kept: queue.SimpleQueue[bytes]) -> None:
        start_s = time.monotonic()
        for number in itertools.count():
            time.sleep(max(0.0, start_s + number / FPS - time.monotonic()))
            if stop.is_set():
                return
            jpeg = cv2.imencode(".jpg", draw_card(number, time.monotonic(), RESOLUTION, (0, 200, 0)))[1]
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {jpeg.size}\r\n\r\n"
            kept.put(head.encode() + jpeg.tobytes() + b"\r\n")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        port.send(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stop.wait()


def ages(minutes: float) -> dict[str, Any]:
    """The three loops at once."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    stop = context.Event()
    server = context.Process(target=serve, args=(sender, stop), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{receiver.recv()}/"
    results: dict[str, Any] = {}
    sides = {
        "fake": lambda: live_loop("fake:", minutes * 60),
        "network": lambda: live_loop(url, minutes * 60),
        "plain": lambda: plain_loop(url, minutes * 60),
    }
    threads = [
        threading.Thread(target=lambda name=name, side=side: results.update({name: side()}))
        for name, side in sides.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    server.join(10)
    if missing := sorted(sides.keys() - results.keys()):
        sys.exit(f"{missing[0]}: ended with an error, which is above")
    return results


def bad_reads() -> Summary:
    """A camera of which every other read goes wrong, until `BAD_READS` have; ends by itself when it does not crash."""

    class UntilAllWereBad(Ages):
        def show(self, observation: Observation) -> bool:
            return observation.stats.health.bad < BAD_READS and super().show(observation)

    view = UntilAllWereBad(120)
    with open_frames(f"fake:bad={BAD_READS}", Options(resolution=RESOLUTION, fps=500)) as frames:
        return run_loop(cast(Classifier, SlowModel(0.001)), frames, [view], Rules(("card",)))


class States:
    """A view that notes when the camera's state changes, by the fake camera's clock."""

    def __init__(self, device: Device, end_s: float) -> None:
        self.changes: list[tuple[float, str]] = []
        self._device, self._end_s = device, end_s

    def show(self, observation: Observation) -> bool:
        """See `edgecnn_runtime.live.views.View`."""
        return self.wait(observation.stats)

    def wait(self, stats: Stats) -> bool:
        """See `edgecnn_runtime.live.views.View`."""
        seconds, state = self._device.seconds(), stats.health.state
        if state != (self.changes[-1][1] if self.changes else "ok"):
            self.changes.append((seconds, state))
        return seconds < self._end_s

    def close(self) -> None:
        """Nothing is open."""


def failures() -> dict[str, tuple[float, float]]:
    """For every kind of failure: seconds from it until a view shows it, and from its end until all is well."""
    times = {}
    for fault, state in (("unplug", "lost"), ("freeze", "frozen"), ("black", "black")):
        device = Device(dataclasses.replace(Faults(), **{fault: FAILURE_S}))  # type: ignore[arg-type]
        options = Options(resolution=RESOLUTION)
        view = States(device, FAILURE_S[1] + 4)

        def connect(device: Device = device, options: Options = options) -> Camera:
            return device.open("fake:", options)

        with Newest(connect(), connect, options) as frames:
            run_loop(cast(Classifier, SlowModel(0.01)), frames, [view], Rules(("card",)))
        flagged_s = next((seconds for seconds, now in view.changes if now == state), math.inf)
        well_s = view.changes[-1][0] if view.changes and view.changes[-1][1] == "ok" else math.inf
        times[state] = (flagged_s - FAILURE_S[0], well_s - FAILURE_S[1])
    return times


def flicker() -> dict[str, float]:
    """Probabilities of a clip whose scenes are known, through the decision with its default rules.

    Returns:
        Label changes of raw top-1 and of the decision, scenes, and how much later than the truth the decision changes,
        in ms: median and largest.
    """
    generator = np.random.default_rng(0)
    truth: list[int] = []
    while len(truth) < CLIP_S * FPS:
        scene = int(generator.integers(CLASSES - 1))
        scene += bool(truth) and scene >= truth[-1]  # another than before
        truth += [scene] * round(generator.uniform(*SCENE_S) * FPS)
    fast, slow = generator.standard_normal((2, len(truth), CLASSES))
    keep = np.exp(-1 / FPS / SLOW_S)
    for index in range(1, len(truth)):
        slow[index] = keep * slow[index - 1] + np.sqrt(1 - keep**2) * slow[index]
    exponents = np.exp(SIGNAL * np.eye(CLASSES)[truth] + NOISE * fast + SLOW_NOISE * slow)
    probabilities = (exponents / exponents.sum(1, keepdims=True)).astype(np.float32)
    rules = Rules(tuple(map(str, range(CLASSES))))
    decision: Decision | None = None
    answers = []
    for index, row in enumerate(probabilities):
        decision = decide(decision, index / FPS, row, rules)
        answers.append(-1 if decision.label is None else int(decision.label))
    raw = probabilities.argmax(1).tolist()
    starts = [0, *(index for index in range(1, len(truth)) if truth[index] != truth[index - 1])]
    # The end of the clip stands for never.
    delays = [[*answers[start:], truth[start]].index(truth[start]) for start in starts[1:]]
    return {
        "raw_accuracy": float(np.mean(np.array(raw) == truth)),
        "accuracy": float(np.mean(np.array(answers) == truth)),
        "scenes": len(starts),
        "raw_flips": _changes(raw),
        "flips": _changes(answers),
        "delay_median_ms": statistics.median(delays) / FPS * 1e3,
        "delay_max_ms": max(delays) / FPS * 1e3,
    }


def startup(artifact: Path, runs: int) -> dict[str, list[Finished] | list[float]]:
    """Seconds from starting `edgecnn live` with its page to its first line, and from importing what it needs."""
    command = [str(Path(sys.executable).with_name("edgecnn")), "live", str(artifact), "--camera", "fake:"]
    to_first: list[float] = []
    imports: list[Finished] = []
    for count in range(runs + 1):
        start = time.perf_counter()
        words = [*command, "--view", "page", "--port", "0", "--jsonl", "-", "--frames", "1"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            seconds = time.perf_counter() - start
            _, errors = process.communicate()
        if not line:
            sys.exit(f"edgecnn live gave no line:\n{errors}")
        imported = run([sys.executable, "-c", "import numpy, cv2, typer, ai_edge_litert.interpreter"])
        if count:  # the first run fills the disk's cache
            to_first.append(seconds)
            imports.append(imported)
    return {"edgecnn": to_first, "imports": [finished.wall_s for finished in imports]}


def _changes(labels: Sequence[int]) -> int:
    return sum(before != after for before, after in itertools.pairwise(labels))


def _row(name: str, values: Sequence[float]) -> tuple[str, ...]:
    parts: npt.NDArray[np.float64] = np.percentile(values, (50, 95, 99))
    fifth = max(1, len(values) // 5)
    ends = statistics.median(values[:fifth]), statistics.median(values[-fifth:])
    return (name, *(f"{value:.0f}" for value in (*parts, *ends)), str(len(values)))


def measure(artifact: Path | None, minutes: float, runs: int) -> Report:
    """All parts, the loops first, so that nothing else runs beside them."""
    loops = ages(minutes)
    (fake, summary), (network, _), plain = loops["fake"], loops["network"], loops["plain"]
    inference_ms = summary.stats.inference_ms.p50
    limit_ms = (
        1e3 / FPS + inference_ms + SPARE_MS
    )  # where the machine is busy, the model's own p95 in the notes shows it
    quarter = len(fake.resident_mb) // 4
    growth_mb = statistics.median(fake.resident_mb[-10:]) - statistics.median(fake.resident_mb[quarter:][:10])
    bad = bad_reads().stats
    times = failures()
    clip = flicker()
    targets = [
        Target("frame age, 95th percentile, ms", float(np.percentile(fake.ages_ms, 95)), limit_ms),
        Target("frame age of the network camera, 95th percentile, ms", float(np.percentile(network.ages_ms, 95)), 500),
        Target("plain loop's age at its end over the live loop's", plain[-1] / network.ages_ms[-1], 2, at_least=True),
        Target("memory growth over the last three quarters, MB", growth_mb, MAX_GROWTH_MB),
        Target("bad reads survived", bad.health.bad, BAD_READS, at_least=True),
        Target("a failing camera is flagged, seconds", max(flagged for flagged, _ in times.values()), 1.0),
        Target("it is well again after its return, seconds", max(well for _, well in times.values()), 3.0),
        Target("label changes, raw top-1 over the decision", clip["raw_flips"] / clip["flips"], MIN_FLIP_RATIO, True),
        Target("delay of the decision, largest, ms", clip["delay_max_ms"], MAX_DELAY_MS),
    ]
    notes = [
        f"{minutes:g} minutes; a model of {inference_ms:.1f} ms (median; 95th percentile "
        f"{summary.stats.inference_ms.p95:.1f}), a camera of {FPS:g} frames per second; "
        f"{summary.stats.health.dropped} frames dropped by the first loop",
        f"bad reads: {bad.health.bad}, with {bad.frames} good frames between them",
        *(
            f"{state}: flagged after {one:.2f} s, well {two:.2f} s after its return"
            for state, (one, two) in times.items()
        ),
        f"a clip of {clip['scenes']:.0f} scenes in {CLIP_S} s: raw top-1 is right in {clip['raw_accuracy']:.1%} of the "
        f"frames and changes {clip['raw_flips']} times, the decision {clip['accuracy']:.1%} and {clip['flips']} times; "
        f"it is {clip['delay_median_ms']:.0f} ms late (median; at most {clip['delay_max_ms']:.0f})",
    ]
    figures: dict[str, Any] = {
        "plain_ms": plain,
        "fake_ms": fake.ages_ms,
        "network_ms": network.ages_ms,
        "clip": clip,
        "failures_s": times,
    }
    if artifact is not None:
        started = startup(artifact, runs)
        seconds = statistics.median(cast(list[float], started["edgecnn"]))
        imports = statistics.median(cast(list[float], started["imports"]))
        targets.append(Target("seconds from the shell to the first answer (median)", seconds, MAX_STARTUP_S))
        notes.append(f"{artifact.name}: first answer after {seconds:.2f} s; imports alone take {imports:.2f} s")
        figures["startup"] = started
    return Report(
        "live",
        f"Frame age in ms over {minutes:g} minutes",
        ("loop", "p50", "p95", "p99", "first fifth", "last fifth", "frames"),
        (
            _row("edgecnn live, fake camera", fake.ages_ms),
            _row("edgecnn live, network camera", network.ages_ms),
            _row("cv2.VideoCapture.read() in a loop, network camera", plain),
        ),
        targets,
        notes,
        figures,
    )


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    parser.add_argument("--artifact", type=Path, help="for the time to the first answer, which is left out without it")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=5, help="starts of edgecnn live")
    options = parser.parse_args()
    return finish(measure(options.artifact, options.minutes, options.runs), options.out)


if __name__ == "__main__":
    sys.exit(main())
