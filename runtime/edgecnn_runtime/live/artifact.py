"""The model's file while a run goes on: another in its place is tried beside the loop, and takes over if it is good.

Replace the file by renaming (`scp new.tflite pi:model.tmp`, then `mv model.tmp model.tflite`): then there is a whole
file at any moment. One that is written in place is not looked at before it has stopped growing.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from edgecnn_runtime.classifier import Classifier
from edgecnn_runtime.contract import Contract
from edgecnn_runtime.errors import EdgecnnError, ModelError, first_line

_SWITCH_S = 0.0005
_JOIN_S = 1.0
_LOOK_S = 1.0  # a file that stayed the same for so long is taken for whole


@dataclass(frozen=True, eq=False)
class Model:
    """What a run's answers come from.

    Attributes:
        number: 0 for the one that the run began with, then counted up.
        name: of its file.
        refused: why the file that has come into its place is not used; empty where there is none.
    """

    number: int
    name: str
    contract: Contract
    refused: str = ""

    def document(self) -> dict[str, Any]:
        """For JSON; fractions in [0, 1], `published_top1` in percent."""
        contract, source = self.contract, self.contract.provenance
        return {
            "number": self.number,
            "artifact": self.name,
            "backbone": source.backbone,
            "precision": source.precision,
            "input_px": [contract.height, contract.width],
            "classes": len(contract.labels),
            "accuracy": None if source.test is None else asdict(source.test),
            "published_top1": source.published_top1,
            "gate": None if source.gate is None else source.gate.outcome,
        }


class ArtifactFile:
    """A model's file, watched by a thread in the `with` statement. All else is for the thread of the loop.

    Args:
        load: opens what is in the file now; called here, and in the thread for every new file.
        say: is told in one line of a new model, and of a file that is refused.

    Attributes:
        classifier: what answers now. Nobody else should keep it: the engine of one that was replaced is to be freed.
        model: what it is.

    Raises:
        EdgecnnError: as `load` does, of the first one; ModelError: it does not pass its self-test here.
    """

    def __init__(self, path: Path, load: Callable[[], Classifier], say: Callable[[str], None] | None = None) -> None:
        self._path, self._load, self._say = path, load, say or _print
        self._judged = _signature(path)  # before it is loaded: one that comes meanwhile is a new one
        self.classifier = load()
        try:
            prove(self.classifier)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        self.model = Model(0, path.name, self.classifier.contract)
        self._news: Classifier | str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"watch {path.name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(_JOIN_S)  # it may be in the middle of a self-test, for which nobody waits long

    def renew(self) -> bool:
        """Puts a good new model in place; whether there was one. Costs nothing where there was none."""
        news, self._news = self._news, None
        if isinstance(news, Classifier):
            self.classifier = news
            self.model = Model(self.model.number + 1, self._path.name, news.contract)
            self._say(f"{self._path}: replaced, answers come from {_words(news.contract)} now")
            return True
        if news is not None:
            self.model = replace(self.model, refused=news)
            self._say(f"{self._path}: the new file is refused, and the model before goes on until a restart: {news}")
        return False

    def _watch(self) -> None:
        before = self._judged
        while not self._stop.wait(_LOOK_S):
            now = _signature(self._path)
            # News that the loop has not taken yet would be lost.
            if now is not None and now == before and now != self._judged and self._news is None:
                news = self._judge()
                if _signature(self._path) == now:
                    self._judged, self._news = now, news
                del news  # else this frame would keep a replaced engine alive
            before = now

    def _judge(self) -> Classifier | str:
        """The new model, proven on this device, or why it is refused."""
        switch_s = sys.getswitchinterval()
        try:
            # The loop lets go of the interpreter's lock several times for a frame, and would wait for it as long each
            # time: with Python's own 5 ms a frame takes three times as long while a file is checked.
            sys.setswitchinterval(_SWITCH_S)
            classifier = self._load()
            prove(classifier)
            return classifier
        except EdgecnnError as error:
            return str(error).removeprefix(f"{self._path}: ")
        except Exception as error:  # whatever a hostile file makes an engine raise, the run goes on
            return f"{type(error).__name__}: {first_line(error)}"
        finally:
            sys.setswitchinterval(switch_s)


def prove(classifier: Classifier) -> None:
    """Raises ModelError where this device computes something else than the lab."""
    contract = classifier.contract
    # The first inference takes longest and finds what engines only refuse when they run, goldens or none.
    classifier.infer(np.zeros((contract.height, contract.width, 3), np.uint8))
    classifier.selftest()


def _signature(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is written or another is put in its place; None while there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _words(contract: Contract) -> str:
    source = contract.provenance
    words = f"{source.backbone} {source.precision}, {len(contract.labels)} labels"
    return words if source.test is None else f"{words}, {source.test.accuracy:.1%} right on its test pictures"


def _print(line: str) -> None:
    # On a terminal the last line is that of the view, and not ended.
    print(f"{chr(10) if sys.stderr.isatty() else ''}edgecnn: {' '.join(line.split())}", file=sys.stderr, flush=True)
