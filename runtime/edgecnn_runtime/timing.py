"""How long artifacts take on this device, from a picture's file to the decision, and how much memory.

All are timed in turns, some frames each, round after round: a slow moment meets all alike, and a median over many
rounds does not see it. How far two runs are apart, bench/repeat.py tells.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from edgecnn_runtime.cameras.fake import COLOURS, draw_card
from edgecnn_runtime.classifier import Classifier, Timings
from edgecnn_runtime.contract import Contract
from edgecnn_runtime.errors import ModelError
from edgecnn_runtime.live.board import Board, read_board
from edgecnn_runtime.live.decision import Decision, Rules, decide

PARTS = ("total", "decode", "preprocess", "inference", "decide")
MIN_ROUNDS = 20
_PRECISE = 0.01  # where every median is known this well, as a share, there are rounds enough
_UNSURE = 0.025  # two runs may differ by twice that
_SLOWER = 1.03
_BUSY = 0.1  # share of all cores
_DRIFT = 1.05
_TURN_S = 0.05  # long enough to fill the processor's caches again, short enough for many rounds
_FRAMES_A_TURN = (2, 20)
_JPEG_QUALITY = 85  # about 120 kB at 1280x720, as webcams make them


@dataclass(frozen=True)
class Spread:
    """Percentiles in milliseconds."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, times_ms: Sequence[float]) -> Spread:
        """Of at least one time."""
        return cls(*(round(float(value), 3) for value in np.percentile(np.array(times_ms), (50, 95, 99))))


@dataclass(frozen=True)
class Start:
    """A new process with this one artifact and one thread; 1 MB is 1,000,000 bytes.

    Attributes:
        load_ms: reading and checking the file, loading the engine and preparing it.
        first_ms: the first picture, from file to label.
        resident_mb: memory of the whole process then: Python, NumPy, OpenCV, engine, artifact, picture. None where
            there is no /proc, which tells it.
        artifact_mb: what the same artifact adds when it is loaded and run once more.
    """

    load_ms: float
    first_ms: float
    resident_mb: float | None
    artifact_mb: float | None


@dataclass(frozen=True)
class Speed:
    """One artifact with one number of threads.

    Attributes:
        path, contract: of the artifact.
        threads: of one inference, and of OpenCV.
        frames: how many were timed.
        parts: milliseconds by `PARTS`: ``decode`` the file, ``preprocess``, ``inference``, ``decide`` (label,
            smoothing, hysteresis), and ``total``, all of it.
        uncertainty: half the width of the 95 % interval of the rounds' median total, as a share of it.
    """

    path: Path
    contract: Contract
    threads: int
    frames: int
    parts: Mapping[str, Spread]
    uncertainty: float


@dataclass(frozen=True)
class Conditions:
    """What the machine did meanwhile.

    Attributes:
        seconds, rounds: of timing.
        drift: the time of a frame in the last third of the rounds, as a multiple of that in the first third.
        others_share: how much of all cores other programs took, in [0, 1]; None where there is no /proc.
        board: at the end; what throttled it at any time in between is in `throttled`.
    """

    seconds: float
    rounds: int
    drift: float
    others_share: float | None
    board: Board


class _Case:
    """One artifact with one number of threads, and its times in ms, a list per part."""

    def __init__(self, path: Path, classifier: Classifier, threads: int, picture: bytes) -> None:
        self.path, self.classifier, self.threads, self._picture = path, classifier, threads, picture
        self._rules = Rules.of(classifier)
        self._decision: Decision | None = None
        self.times_ms: dict[str, list[float]] = {part: [] for part in PARTS}
        self.medians_ms: list[float] = []  # of the rounds
        cv2.setNumThreads(threads)
        least_s = min(self._frame()[0] for _ in range(4)) / 1e3
        low, high = _FRAMES_A_TURN
        self._frames_a_turn = min(high, max(low, round(_TURN_S / least_s)))

    def turn(self) -> None:
        """Some frames. The first is not counted: the others have driven this one out of the processor's caches."""
        cv2.setNumThreads(self.threads)
        self._frame()
        totals = []
        for _ in range(self._frames_a_turn):
            total_ms, timings = self._frame()
            totals.append(total_ms)
            decide_ms = total_ms - timings.total_ms
            values = (total_ms, timings.decode_ms, timings.preprocess_ms, timings.inference_ms, decide_ms)
            for part, value in zip(PARTS, values, strict=True):
                self.times_ms[part].append(value)
        self.medians_ms.append(float(np.median(totals)))

    def _frame(self) -> tuple[float, Timings]:
        start = time.perf_counter()
        result = self.classifier.classify(self._picture)
        self._decision = decide(self._decision, start, result.probabilities, self._rules)
        return (time.perf_counter() - start) * 1e3, result.timings

    def speed(self) -> Speed:
        parts = {part: Spread.of(times) for part, times in self.times_ms.items()}
        frames = len(self.times_ms["total"])
        return Speed(
            self.path, self.classifier.contract, self.threads, frames, parts, median_uncertainty(self.medians_ms)
        )


def time_artifacts(
    paths: Sequence[Path],
    picture: bytes,
    threads: Sequence[int],
    seconds: float,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[list[Speed], Conditions]:
    """Times every artifact with every number of threads.

    Args:
        picture: a file's bytes, see `edgecnn_runtime.decode.decode`.
        threads: numbers of threads, each at least 1.
        seconds: no new round begins later, once there are `MIN_ROUNDS`; none is needed where every median is known
            within 1 %.
        progress: called with the share of the time that is over, in [0, 1].

    Returns:
        A `Speed` for each, in the order of the artifacts and then of the threads.

    Raises:
        ModelError: an artifact cannot be loaded or fails.
        PictureError: the picture cannot be decoded.
    """
    opencv_threads = cv2.getNumThreads()
    try:
        cases = [_Case(path, Classifier.load(path, count), count, picture) for path in paths for count in threads]
        start_s, others = time.perf_counter(), _Others()
        throttled: dict[str, None] = {}
        rounds, elapsed_s = 0, 0.0
        while rounds < MIN_ROUNDS or (elapsed_s < seconds and not _precise(cases)):
            # The order turns round: whoever comes second finds a warmer processor.
            for case in cases if rounds % 2 else reversed(cases):
                case.turn()
            rounds += 1
            throttled.update(dict.fromkeys(read_board().throttled or ()))
            elapsed_s = time.perf_counter() - start_s
            progress(min(1.0, max(elapsed_s / max(seconds, 1e-9), rounds / MIN_ROUNDS if elapsed_s > seconds else 0.0)))
        board = read_board()
        if board.throttled is not None:
            board = Board(board.temperature_c, tuple(throttled), board.throttled_before)
        return [case.speed() for case in cases], Conditions(
            round(elapsed_s, 3), rounds, _drift(cases), others.share(), board
        )
    finally:
        cv2.setNumThreads(opencv_threads)


def measure_start(path: Path, picture: bytes) -> Start:
    """Loads the artifact in a process of its own and classifies the picture there. Raises ModelError."""
    # -P: a module in the current folder must not stand in for one of ours.
    command = [sys.executable, "-P", "-m", __name__, str(path)]
    done = subprocess.run(command, input=picture, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if done.returncode:
        raise ModelError(f"{path}: failed in a process of its own (exit code {done.returncode})")
    return Start(**json.loads(done.stdout))


def median_uncertainty(values: Sequence[float]) -> float:
    """Half the width of the 95 % interval of a median, as a share of it: the order statistics at n/2 ± 0.98 sqrt(n)
    (Conover, "Practical Nonparametric Statistics", normal approximation), which assume nothing of the distribution."""
    ordered = sorted(values)
    half = 0.98 * math.sqrt(len(ordered))
    low, high = max(0, math.floor(len(ordered) / 2 - half)), min(len(ordered), math.ceil(len(ordered) / 2 + half))
    return round((ordered[high - 1] - ordered[low]) / 2 / float(np.median(ordered)), 4)


def slower_int8(speeds: Sequence[Speed]) -> list[tuple[Speed, Speed]]:
    """(int8, float32) of the same backbone and input size where int8 is slower, by the medians of inference with the
    fewest threads that were timed, and surely so; float32 is the fastest such file. In the order of the int8 files."""
    fewest = min(speed.threads for speed in speeds)
    alone = [speed for speed in speeds if speed.threads == fewest]

    def key(speed: Speed) -> tuple[str, int, int]:
        return speed.contract.provenance.backbone, speed.contract.height, speed.contract.width

    def inference_ms(speed: Speed) -> float:
        return speed.parts["inference"].p50

    found = []
    for speed in alone:
        floats = [other for other in alone if (key(other), _precision(other)) == (key(speed), "float32")]
        if _precision(speed) == "int8" and floats:
            best = min(floats, key=inference_ms)
            margin = max(_SLOWER, 1 + speed.uncertainty + best.uncertainty)
            if inference_ms(speed) > margin * inference_ms(best):
                found.append((speed, best))
    return found


def remarks(speeds: Sequence[Speed], conditions: Conditions) -> list[str]:
    """What a reader of the figures must know, each one sentence without a full stop; empty where all is well."""
    said = [
        f"{int8.path.name} is slower here than {best.path.name}: inference takes {int8.parts['inference'].p50:.2f} ms "
        f"against {best.parts['inference'].p50:.2f}; on this device float32 is the better file"
        for int8, best in slower_int8(speeds)
    ]
    board, others = conditions.board, conditions.others_share
    if board.throttled:
        said.append(f"the board slowed itself down meanwhile ({', '.join(board.throttled)}): see to power and cooling")
    if others is not None and others > _BUSY:
        said.append(f"the machine was busy: other programs took {others:.0%} of all cores; end them and measure again")
    if conditions.drift > _DRIFT:
        said.append(
            f"frames took {conditions.drift - 1:.0%} longer at the end than at the beginning: the processor may have "
            "got hot, or something else began to run"
        )
    worst = max(speed.uncertainty for speed in speeds)
    if worst > _UNSURE:
        said.append(f"times varied: medians are known within {worst:.0%} only; more --seconds, or less load, help")
    return said


def camera_like_picture(resolution: tuple[int, int]) -> bytes:
    """A JPEG file of (width, height) px: the fake camera's test card, half transparent, on soft ground, since a
    plain one is decoded in half the time of a photo."""
    coarse = np.random.default_rng(0).integers(0, 256, (45, 80, 3), dtype=np.uint8)
    ground = cv2.resize(coarse, resolution, interpolation=cv2.INTER_CUBIC)
    card = draw_card(0, 0.0, resolution, COLOURS["red"])
    picture = cv2.addWeighted(card, 0.5, ground, 0.5, 0.0)
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes())


class _Others:
    """What other programs take of the processor from now on."""

    def __init__(self) -> None:
        self._before = _processor_times()

    def share(self) -> float | None:
        now = _processor_times()
        if self._before is None or now is None:
            return None
        whole_s, busy_s, own_s = (late - early for late, early in zip(now, self._before, strict=True))
        return round(min(1.0, max(0.0, (busy_s - own_s) / whole_s)), 3) if whole_s else None


def _processor_times() -> tuple[float, float, float] | None:
    """Seconds of all cores: passed, not idle, of this process."""
    try:
        first = Path("/proc/stat").read_text("ascii").splitlines()[0]
    except OSError:
        return None
    # user, nice, system, idle, waiting for disks, interrupts (two kinds), what the virtual machine lacked; see proc(5)
    ticks = [int(word) for word in first.split()[1:9]]
    second = os.sysconf("SC_CLK_TCK")
    return sum(ticks) / second, (sum(ticks) - ticks[3] - ticks[4]) / second, time.process_time()


def _precision(speed: Speed) -> str:
    return speed.contract.provenance.precision


def _precise(cases: Sequence[_Case]) -> bool:
    return all(median_uncertainty(case.medians_ms) <= _PRECISE for case in cases)


def _drift(cases: Sequence[_Case]) -> float:
    third = len(cases[0].medians_ms) // 3
    return round(
        float(np.median([np.median(c.medians_ms[-third:]) / np.median(c.medians_ms[:third]) for c in cases])), 3
    )


def _resident_mb() -> float | None:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _main(path: str) -> None:
    picture = sys.stdin.buffer.read()
    start = time.perf_counter()
    classifier = Classifier.load(path)
    loaded = time.perf_counter()
    classifier.classify(picture)
    end = time.perf_counter()
    before_mb = _resident_mb()
    again = Classifier.load(path)  # the engine itself is there by now
    again.classify(picture)
    after_mb = _resident_mb()
    added_mb = None if before_mb is None or after_mb is None else round(after_mb - before_mb, 1)
    load_ms, first_ms = round((loaded - start) * 1e3, 3), round((end - loaded) * 1e3, 3)
    print(json.dumps(asdict(Start(load_ms, first_ms, before_mb, added_mb))))


if __name__ == "__main__":
    _main(sys.argv[1])
