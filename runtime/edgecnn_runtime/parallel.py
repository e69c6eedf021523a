"""Work on many pictures with all cores: threads, since engines and OpenCV release the interpreter's lock."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import cv2

Item = TypeVar("Item")
Worker = TypeVar("Worker")
Answer = TypeVar("Answer")

_AHEAD = 4  # pictures in flight per worker: enough to keep it busy, few enough to keep memory low


def map_ordered(
    make_worker: Callable[[], Worker], task: Callable[[Worker, Item], Answer], items: Iterable[Item], workers: int
) -> Iterator[Answer]:
    """`task(worker, item)` for every item, in the items' order; each thread makes one worker (an engine) of its own.

    Raises whatever a task raises, at its place in the order.
    """
    local = threading.local()

    def run(item: Item) -> Answer:
        if not hasattr(local, "worker"):
            local.worker = make_worker()
        return task(local.worker, item)

    source = iter(items)
    opencv_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the cores are busy with whole pictures
    executor = ThreadPoolExecutor(max(1, workers))
    try:
        pending: deque[Future[Answer]] = deque(
            executor.submit(run, i) for i in islice(source, max(1, workers) * _AHEAD)
        )
        while pending:
            answer = pending.popleft().result()
            pending.extend(executor.submit(run, item) for item in islice(source, 1))
            yield answer
    finally:
        executor.shutdown(cancel_futures=True)
        cv2.setNumThreads(opencv_threads)
