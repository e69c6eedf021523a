"""Keras callbacks of training. Importing this module imports Keras: import it inside functions."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edgecnn_runtime.errors import EdgecnnError

Rows = list[dict[str, float]]


class Validation(keras.callbacks.Callback):  # type: ignore[misc]
    """Adds val_loss (cross-entropy) and val_accuracy to the logs of an epoch.

    Instead of Keras' own validation, since the network may be trained at a smaller size than it is used at.
    """

    def __init__(self, measure: Callable[[], tuple[float, float]]) -> None:
        super().__init__()
        self._measure = measure

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if logs is not None:  # shared by all callbacks: those that come later see what is added
            logs["val_loss"], logs["val_accuracy"] = self._measure()


class Checkpoint(keras.callbacks.Callback):  # type: ignore[misc]
    """After every epoch, everything that the next one depends on, in one file that is whole or absent.

    Keras' BackupAndRestore forgets what EarlyStopping and ReduceLROnPlateau have seen, so a resumed training would not
    give the same weights. It must be the last of the callbacks: it restores what the others reset at the beginning.
    At the end the model has the weights as trained, also where the optimizer averages them.
    """

    def __init__(self, path: Path, others: list[Any], each_epoch: Callable[[Rows], None]) -> None:
        super().__init__()
        self.rows: Rows = []
        self._path, self._others, self._each_epoch = path, others, each_epoch
        self._trained: list[Any] = []

    def first_epoch(self, epochs: int) -> int:
        """Where training goes on, counted from 0; `epochs` where nothing is left to do. Reads `rows`."""
        state = self._read()
        if state is None:
            return 0
        note = json.loads(str(state["note"]))
        self.rows = note["rows"]
        return epochs if note["stopped"] else len(self.rows)

    def on_train_begin(self, logs: Any = None) -> None:
        state = self._read()
        if state is None:
            return
        self.model.optimizer.build(self.model.trainable_variables)
        for name, variables in self._variables().items():
            for number, variable in enumerate(variables):
                variable.assign(state[f"{name}/{number}"])
        self._trained = [state[f"model/{number}"] for number in range(len(self.model.variables))]
        for other, values in zip(self._others, json.loads(str(state["note"]))["others"], strict=True):
            vars(other).update(values)
        for number, other in enumerate(self._others):
            count = sum(name.startswith(f"best{number}/") for name in state)
            if count:
                other.best_weights = [state[f"best{number}/{i}"] for i in range(count)]

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.rows.append({name: float(value) for name, value in (logs or {}).items()})
        arrays = {
            f"{name}/{number}": np.asarray(variable)
            for name, variables in self._variables().items()
            for number, variable in enumerate(variables)
        }
        for number, other in enumerate(self._others):
            for i, weights in enumerate(getattr(other, "best_weights", None) or ()):
                arrays[f"best{number}/{i}"] = np.asarray(weights)
        note = {
            "rows": self.rows,
            "stopped": bool(self.model.stop_training),
            # Not min_delta: Keras gives it its sign in the first epoch after every beginning.
            "others": [
                {k: value for k, value in vars(other).items() if isinstance(value, int | float) and k != "min_delta"}
                for other in self._others
            ],
        }
        write_arrays(self._path, {**arrays, "note": np.array(json.dumps(note))})
        self._trained = [arrays[f"model/{number}"] for number in range(len(self.model.variables))]
        self._each_epoch(self.rows)

    def on_train_end(self, logs: Any = None) -> None:
        # By now Keras has put an average of the weights in their place, unless EarlyStopping has restored its best.
        if not any(getattr(other, "best_weights", None) for other in self._others):
            for variable, value in zip(self.model.variables, self._trained, strict=True):
                variable.assign(value)

    def _variables(self) -> Mapping[str, list[Any]]:
        # All variables of the model: the seeds of its dropout layers are among them.
        return {"model": self.model.variables, "optimizer": self.model.optimizer.variables}

    def _read(self) -> dict[str, Any] | None:
        return read_arrays(self._path)


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes arrays by name, whole or not at all. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as stream:
            np.savez(stream, **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_arrays(path: Path) -> dict[str, Any] | None:
    """What `write_arrays` has written; None where there is no file. Raises EdgecnnError when it is damaged."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except Exception as error:  # zipfile, zlib and numpy raise what they like
        raise EdgecnnError(f"{path}: the checkpoint is damaged; remove it and resume, or train again") from error
