from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import cv2
import pytest

from edgecnn_runtime.parallel import map_ordered


def test_answers_come_in_order_and_each_thread_has_one_worker() -> None:
    made: list[int] = []

    def make() -> int:
        made.append(threading.get_ident())
        return threading.get_ident()

    def task(worker: int, item: int) -> tuple[int, bool]:
        time.sleep(0.002 * (item % 3))
        return item, worker == threading.get_ident()

    assert list(map_ordered(make, task, range(40), 3)) == [(item, True) for item in range(40)]
    assert len(made) == len(set(made)) <= 3


def test_an_endless_source_is_read_as_it_is_used() -> None:
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        while True:
            yield taken
            taken += 1

    answers = map_ordered(lambda: None, lambda _, item: item, source(), 2)
    assert [next(answers) for _ in range(5)] == [0, 1, 2, 3, 4]
    answers.close()  # type: ignore[attr-defined]
    assert taken < 20


def test_an_error_comes_at_its_place_and_opencv_gets_its_threads_back() -> None:
    threads = cv2.getNumThreads()

    def task(_: None, item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    answers = map_ordered(lambda: None, task, range(100), 2)
    assert [next(answers) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(answers)
    assert cv2.getNumThreads() == threads


def test_nothing_to_do_and_too_few_workers() -> None:
    assert list(map_ordered(lambda: None, lambda _, item: item, [], 4)) == []
    assert list(map_ordered(lambda: None, lambda _, item: item, [1, 2], 0)) == [1, 2]
