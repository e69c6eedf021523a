"""What the service manager is told, over a real socket, by the real loop."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from edgecnn_runtime import Classifier
from edgecnn_runtime.classifier import Result
from edgecnn_runtime.live.capture import Health, open_frames
from edgecnn_runtime.live.loop import run
from edgecnn_runtime.live.stats import Stats
from edgecnn_runtime.live.views.manager import ManagerView, open_manager

if not hasattr(socket, "AF_UNIX"):
    pytest.skip("systemd is of Linux", allow_module_level=True)


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(tmp_path / "notify"))
        one.setblocking(False)
        yield one


def messages(heard: socket.socket) -> list[dict[str, str]]:
    found = []
    while True:
        try:
            lines = heard.recv(4096).decode().split("\n")
        except BlockingIOError:
            return found
        found.append(dict(line.split("=", 1) for line in lines))


class Hanging:
    """A model that answers some frames, and then does not come back until it is let go."""

    def __init__(self, classifier: Classifier, answers: int) -> None:
        self.classifier, self.left, self.hangs, self.free = classifier, answers, threading.Event(), threading.Event()
        self.contract, self.reject_threshold = classifier.contract, 0.0

    def classify(self, picture: Any, color: Any) -> Result:
        self.left -= 1
        if self.left < 0:
            self.hangs.set()
            self.free.wait(60)
        return self.classifier.classify(picture, color)


def test_a_model_that_hangs_is_told_by_silence(tiny_artifact: Path, heard: socket.socket) -> None:
    model, stop = Hanging(Classifier.load(tiny_artifact), 40), threading.Event()
    view = ManagerView(str(heard.getsockname()), watchdog_s=0.4)
    with open_frames("fake:") as frames:
        arguments = (cast(Classifier, model), frames, [view], None, None, stop)
        loop = threading.Thread(target=run, args=arguments)
        loop.start()
        assert model.hangs.wait(30)
        before = messages(heard)
        assert len(before) > 3
        assert before[0]["READY"] == before[0]["WATCHDOG"] == "1"
        assert before[0]["STATUS"].split()[0] in model.contract.labels
        time.sleep(1.0)
        assert messages(heard) == []
        stop.set()
        model.free.set()
        loop.join(30)
    view.close()
    assert messages(heard)[-1] == {"STOPPING": "1"}


def test_a_camera_that_hangs_is_told_by_silence_and_a_lost_one_is_not(heard: socket.socket) -> None:
    view = ManagerView(str(heard.getsockname()), watchdog_s=0.0)
    view.wait(Stats(health=Health("lost")))
    view.wait(Stats(health=Health("hung")))
    view.wait(Stats())
    assert [message["STATUS"] for message in messages(heard)] == ["camera lost, trying again: no frame", "no frame"]


def test_a_manager_that_does_not_listen_holds_up_nothing(heard: socket.socket, tmp_path: Path) -> None:
    view = ManagerView(str(heard.getsockname()), watchdog_s=0.0)
    for _ in range(2000):  # more than any socket keeps
        view.wait(Stats())
    assert messages(heard)
    view.wait(Stats())
    assert len(messages(heard)) == 1
    (tmp_path / "notify").unlink()
    view.wait(Stats())
    view.close()


@pytest.mark.parametrize(
    ("environment", "every_s"),
    [
        ({}, None),
        ({"NOTIFY_SOCKET": "vsock:2:1"}, None),
        ({"NOTIFY_SOCKET": "/x"}, 1.0),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "30000000"}, 1.0),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, 1.0),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"}, 1.0),
    ],
)
def test_whether_somebody_wants_to_hear_and_how_often(environment: dict[str, str], every_s: float | None) -> None:
    manager = open_manager(environment)
    assert (None if manager is None else manager._every_s) == every_s
    if manager is not None:
        manager.close()
