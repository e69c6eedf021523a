"""`edgecnn live` for half an hour with the page and two viewers: its memory; and what the page costs.

    python bench/endurance.py --artifact models/efficientnet_lite0-int8.tflite

Every run is a process of `edgecnn live` with the fake camera, 640x480 at 15 frames per second: first without the page,
then with the page and nobody looking, for a minute each, then with two viewers for --minutes. A viewer asks as the
page's script does: for the newest frame, and for the next one as soon as it has it. The memory is the resident one, the
processor time that of all threads, drawing the camera's card included.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench._report import Report, Target, arguments, finish, resident_mb

FPS, RESOLUTION = 15, "640x480"
VIEWERS = 2
MAX_GROWTH_MB = 2.0
EVERY_S = 1.0
FIRST_S = 60.0  # what memory grows from then on counts


@dataclass(frozen=True)
class Course:
    """A run: (seconds since the first frame, resident MB, processor seconds) over time; frames that viewers got."""

    samples: Sequence[tuple[float, float, float]]
    seen: Sequence[int]

    @property
    def cores(self) -> float:
        """Processor time over wall time."""
        (first_s, _, first_cpu), (last_s, _, last_cpu) = self.samples[0], self.samples[-1]
        return (last_cpu - first_cpu) / (last_s - first_s)

    @property
    def growth_mb(self) -> float:
        """From the minute after the first one to the last minute; medians, as single samples jump by a frame or two."""
        first_s = min(FIRST_S, self.samples[-1][0] / 2)  # half of a run that is shorter than two minutes
        late = [memory for seconds, memory, _ in self.samples if seconds >= first_s]
        minute = min(round(60 / EVERY_S), max(1, len(late) // 2))
        return statistics.median(late[-minute:]) - statistics.median(late[:minute])


class Viewer(threading.Thread):
    """Looks at the page until it ends."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.frames = 0
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def run(self) -> None:
        """Counts the frames that come with a picture."""
        serial = frame = -1
        with contextlib.suppress(OSError, http.client.HTTPException):  # the end of the run
            while True:
                self._connection.request("GET", f"/next?after={serial}&frame={frame}")
                answer = self._connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    return
                length = int.from_bytes(body[:4], "big")
                state = json.loads(body[4 : 4 + length])
                serial, frame = state["serial"], -1 if state["frame"] is None else state["frame"]
                self.frames += len(body) > 4 + length


@contextlib.contextmanager
def running(artifact: Path, page: bool, fps: int, python: str = sys.executable) -> Iterator[tuple[int, int]]:
    """A process of `edgecnn live` of that Python's environment: its number, and the page's port."""
    words = ["live", str(artifact), "--camera", "fake:", "--resolution", RESOLUTION, "--fps", str(fps)]
    words += ["--view", "page", "--port", "0"] if page else ["--jsonl", os.devnull]
    command = [str(Path(python).with_name("edgecnn")), *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline() if page else ""
        found = re.match(r"page: http://127\.0\.0\.1:(\d+)/", said)
        if page and not found:
            sys.exit(f"edgecnn live: no page\n{said}{process.stderr.read()}")
        try:
            yield process.pid, int(found[1]) if found else 0
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
    if process.returncode != 128 + signal.SIGINT:
        sys.exit(f"edgecnn live ended with {process.returncode}:\n{errors}")


def follow(artifact: Path, page: bool, viewers: int, seconds: float) -> Course:
    """One run from its sixth second on, when the engine and the page are there."""
    with running(artifact, page, FPS) as (process, port):
        looking = [Viewer(port) for _ in range(viewers)]
        for viewer in looking:
            viewer.start()
        time.sleep(5)
        seen, start = [viewer.frames for viewer in looking], time.monotonic()
        samples: list[tuple[float, float, float]] = []
        while not samples or samples[-1][0] < seconds:
            samples.append((time.monotonic() - start, resident_mb(process), _processor_s(process)))
            time.sleep(EVERY_S)
        counts = [viewer.frames - before for viewer, before in zip(looking, seen, strict=True)]
    return Course(samples, counts)


def _processor_s(process: int) -> float:
    ticks = Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()[11:13]  # proc(5): utime, stime
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def measure(artifact: Path, minutes: float) -> Report:
    """The three runs."""
    seconds = 60 * minutes
    courses = {
        "no page": follow(artifact, False, 0, min(60.0, seconds)),
        "page, nobody looks": follow(artifact, True, 0, min(60.0, seconds)),
        f"page, {VIEWERS} viewers": follow(artifact, True, VIEWERS, seconds),
    }
    rows = []
    for name, course in courses.items():
        memory = [sample[1] for sample in course.samples]
        frames = " ".join(f"{count / course.samples[-1][0]:.1f}" for count in course.seen)
        share, memory_mb = f"{course.cores:.1%}", f"{statistics.median(memory):.1f}"
        rows.append((name, f"{course.samples[-1][0] / 60:.1f}", share, memory_mb, f"{max(memory):.1f}", frames))
    long = list(courses.values())[-1]
    slowest = min(long.seen) / long.samples[-1][0]
    targets = [
        Target("memory growth after the first minute with two viewers, MB", long.growth_mb, MAX_GROWTH_MB),
        Target("frames per second that the slower viewer gets", slowest, 0.9 * FPS, at_least=True),
    ]
    return Report(
        "endurance",
        f"{artifact.name}, {RESOLUTION} at {FPS} frames per second",
        ("edgecnn live", "minutes", "of one core", "memory, MB (median)", "largest", "frames/s per viewer"),
        rows,
        targets,
        figures={"samples": {name: course.samples for name, course in courses.items()}},
    )


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    options = parser.parse_args()
    return finish(measure(options.artifact, options.minutes), options.out)


if __name__ == "__main__":
    sys.exit(main())
