"""What the page's feed hands over; the page itself is looked at in tests/runtime/commands/test_live_page.py."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from edgecnn_runtime import Classifier
from edgecnn_runtime.cameras import Frame
from edgecnn_runtime.classifier import Result, Timings
from edgecnn_runtime.errors import EdgecnnError
from edgecnn_runtime.live.artifact import Model
from edgecnn_runtime.live.decision import Decision, Rules
from edgecnn_runtime.live.loop import Tuning
from edgecnn_runtime.live.observation import Observation
from edgecnn_runtime.live.stats import Stats
from edgecnn_runtime.live.views import page_server
from edgecnn_runtime.live.views.page import Feed, PageView


def observation(shape: tuple[int, int] = (48, 64), index: int = 0) -> Observation:
    probabilities = np.array([0.9, 0.1], np.float32)
    result = Result("a", 0.9, probabilities, ("a", "b"), Timings(0, 1, 2))
    frame = Frame(np.full((*shape, 3), 200, np.uint8), time.monotonic(), index, index / 25)
    return Observation(frame, result, Decision("a", 0.9, None, 0.0, 0.0, probabilities), Stats())


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((48, 64), (48, 64)),
        ((720, 960), (720, 960)),
        ((1080, 1920), (540, 960)),
        ((1920, 1080), (720, 405)),
        ((2, 4000), (1, 960)),
    ],
)
def test_a_picture_is_made_smaller_and_never_larger(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    data = Feed().jpeg(observation(shape))
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape[:2] == expected


def test_a_frame_is_encoded_once_for_all_viewers() -> None:
    feed, first, second = Feed(), observation(), observation(index=1)
    data = feed.jpeg(first)
    assert feed.jpeg(first) is data
    assert feed.jpeg(second) is not data


def test_whoever_waits_gets_the_newest_moment_and_skips_what_was_between() -> None:
    async def viewer() -> list[int]:
        feed = Feed()
        feed.attach()
        seen = [(await feed.other_than(0, 0.01)).serial]
        for index in range(5):
            feed.publish(observation(index=index), Stats())
        seen.append((await feed.other_than(0, 10)).serial)
        waiting = [asyncio.create_task(feed.other_than(5, 10)) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.to_thread(feed.publish, None, Stats())
        seen += [moment.serial for moment in await asyncio.gather(*waiting)]
        last = asyncio.create_task(feed.other_than(6, 60))
        await asyncio.sleep(0)
        feed.end()
        return [*seen, (await last).serial]

    assert asyncio.run(viewer()) == [0, 5, 6, 6, 6, 6]


def test_nothing_is_encoded_for_nobody_and_the_last_picture_stays(
    tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("encoded for nobody")

    monkeypatch.setattr(cv2, "imencode", refuse)
    classifier = Classifier.load(tiny_artifact)
    page = PageView(Model(0, tiny_artifact.name, classifier.contract), Tuning(Rules.of(classifier)), port=0)
    one = observation()
    assert page.show(one)
    assert page.wait(Stats(frames=1))
    time.sleep(0.6)  # waiting viewers hear of it twice a second
    assert page.wait(Stats(frames=1, seconds=1.0))
    assert page.feed.newest.observation is one
    assert page.feed.newest.stats.seconds == 1.0
    page.close()
    page.close()
    with pytest.raises(EdgecnnError, match="the page's server has ended"):
        page.show(one)


def test_who_connects_and_asks_nothing_loses_the_place(tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_server, "_REQUEST_S", 0.5)
    classifier = Classifier.load(tiny_artifact)
    page = PageView(Model(0, tiny_artifact.name, classifier.contract), Tuning(Rules.of(classifier)), port=0)
    address = ("127.0.0.1", urlsplit(page.url).port or 0)
    with (
        socket.create_connection(address, 20) as silent,
        socket.create_connection(address, 20) as slow,
        contextlib.closing(http.client.HTTPConnection(*address, timeout=20)) as viewer,
    ):
        slow.sendall(b"GET /state HTTP")
        viewer.connect()
        its_own = viewer.sock
        for _ in range(2):
            viewer.request("GET", "/state")
            answer = viewer.getresponse()
            assert (answer.status, answer.read()[:1], viewer.sock) == (200, b"{", its_own)
            assert (silent.recv(1), slow.recv(1)) == (b"", b"")
    page.close()
