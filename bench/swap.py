"""Models that are replaced while `edgecnn live` runs: wrong answers, missed frames, memory.

    python bench/swap.py --artifact models/efficientnet_lite0-int8.tflite

A fake camera gives 30 frames a second. The artifact, and the same network with other labels, take each other's place
again and again, as files that are renamed over the one that the loop watches.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench._report import Report, Target, arguments, finish, resident_mb
from edgecnn_converters.goldens import make_goldens
from edgecnn_runtime import Classifier
from edgecnn_runtime.classifier import read_artifact, write_artifact
from edgecnn_runtime.live.artifact import ArtifactFile
from edgecnn_runtime.live.capture import open_frames
from edgecnn_runtime.live.loop import run
from edgecnn_runtime.live.observation import Observation
from edgecnn_runtime.live.stats import Stats

QUIET_S = 1.0  # after each swap, to know what this machine misses by itself
CHECKED = 5  # frames after each swap whose probabilities are computed a second time; later on every 30th
MAX_GROWTH_MB = 5.0
WARM_UP = 10
LIMIT_S = 30.0


@dataclass
class Swap:
    """One of them: frames missed in the quiet time before, while the new file was tried, and as it took over."""

    quiet: int = 0
    tried: int = 0
    takeover: int = 0
    tried_s: float = 0.0


class Swapper:
    """A view that replaces the file, and checks the answers."""

    def __init__(self, place: Path, sources: tuple[Path, Path], count: int) -> None:
        self.swaps: list[Swap] = []
        self.wrong, self.checked, self.resident_mb = 0, 0, [0.0]
        self._place, self._sources, self._count = place, sources, count
        self._classifiers = [Classifier.load(source) for source in sources]
        self._before: tuple[int, int] | None = None  # number of the model, index of the frame
        self._now = Swap()
        self._seen, self._changed_s, self._put_s = 0, time.monotonic(), 0.0

    def show(self, observation: Observation) -> bool:
        """See `edgecnn_runtime.live.views.View`."""
        assert observation.model is not None
        number, index, now_s = observation.model.number, observation.frame.index, time.monotonic()
        last, last_index = self._before or (number, index - 1)
        self._before = number, index
        missed = index - last_index - 1
        if number != last:
            self._now.takeover, self._now.tried_s = missed, now_s - self._put_s
            self.swaps.append(self._now)
            self.resident_mb.append(resident_mb())
            self._now, self._seen, self._changed_s, self._put_s = Swap(), 0, now_s, 0.0
        elif self._put_s:
            self._now.tried += missed
        else:
            self._now.quiet += missed
        self._check(observation)
        if not self._put_s and now_s - self._changed_s >= QUIET_S:
            if len(self.swaps) == self._count:
                return False
            beside = self._place.with_name("beside")
            shutil.copy(self._sources[(number + 1) % 2], beside)
            os.replace(beside, self._place)
            self._put_s = time.monotonic()
        return self.wait(observation.stats)

    def wait(self, stats: Stats) -> bool:
        """See `edgecnn_runtime.live.views.View`. Ends where a file is not taken."""
        return not self._put_s or time.monotonic() - self._put_s < LIMIT_S

    def close(self) -> None:
        """Nothing is open."""

    def _check(self, observation: Observation) -> None:
        assert observation.model is not None
        self._seen += 1
        own, result = self._classifiers[observation.model.number % 2], observation.result
        labels = own.contract.labels
        right = result.labels == labels and observation.decision.label in (None, *labels)
        if self._seen <= CHECKED or self._seen % 30 == 0:
            self.checked += 1
            again = own.classify(observation.frame.picture, "bgr")
            right &= np.array_equal(again.probabilities, result.probabilities)
            right &= result.label in (None, labels[int(result.probabilities.argmax())])
        self.wrong += not right


def with_other_labels(artifact: Path, path: Path) -> Path:
    """The same network under other names, with goldens of its own."""
    graph, contract, module = read_artifact(artifact)
    named = replace(contract, labels=tuple(f"{label} (2)" for label in contract.labels), goldens=())
    write_artifact(path, graph, replace(named, goldens=make_goldens(Classifier(graph, named, module))))
    return path


def measure(artifact: Path, count: int) -> Report:
    """All swaps in one run of the loop."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(shutil.copy(artifact, Path(folder) / f"model{artifact.suffix}"))
        view = Swapper(place, (artifact, with_other_labels(artifact, Path(folder) / f"other{artifact.suffix}")), count)
        file = ArtifactFile(place, lambda: Classifier.load(place), lambda line: None)
        with open_frames("fake:") as frames, file:
            summary = run(file, frames, [view])
    swaps, resident_mb = view.swaps, view.resident_mb[1:]
    warm = resident_mb[min(WARM_UP, len(swaps) // 2) :]
    half = len(warm) // 2 or 1
    growth_mb = statistics.median(warm[-half:]) - statistics.median(warm[:half])
    tried_s, quiet_s = sum(swap.tried_s for swap in swaps), QUIET_S * len(swaps)
    missed = [swap.tried + swap.takeover for swap in swaps]
    counts = Counter(swap.takeover for swap in swaps)
    takeovers = ", ".join(f"{times} x {lost}" for lost, times in sorted(counts.items()))
    return Report(
        "swap",
        f"{len(swaps)} swaps of {artifact.name} while the loop runs",
        ("", "frames missed", "seconds", "a second"),
        [
            (name, str(missed), f"{seconds:.0f}", f"{missed / max(seconds, 1e-9):.2f}")
            for name, missed, seconds in (
                ("nothing happens", sum(swap.quiet for swap in swaps), quiet_s),
                ("a new file is found and tried", sum(swap.tried for swap in swaps), tried_s),
            )
        ],
        [
            Target("swaps done", len(swaps), count, at_least=True),
            Target("wrong answers", view.wrong, 0),
            Target(
                "frames missed by a swap, from the renaming to the first answer, largest", max(missed, default=0), 1
            ),
            Target(
                "memory, median of the later half of the swaps less that of the earlier, MB", growth_mb, MAX_GROWTH_MB
            ),
        ],
        [
            f"{summary}",
            f"labels checked of {summary.stats.frames} frames, probabilities of {view.checked}",
            f"frames missed as a model took over: {takeovers}; from the file's renaming to the first answer: "
            f"{statistics.median(swap.tried_s for swap in swaps):.1f} s (median)",
        ],
        {"swaps": [vars(swap) for swap in swaps], "resident_mb": resident_mb},
    )


def main() -> int:
    """Returns the exit code."""
    parser = arguments(__doc__)
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--swaps", type=int, default=100)
    options = parser.parse_args()
    return finish(measure(options.artifact, options.swaps), options.out)


if __name__ == "__main__":
    sys.exit(main())
