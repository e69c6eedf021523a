"""The least that a program could do with an int8 artifact: OpenCV and the bare interpreter, nothing else.

    python bench/_bare.py ARTIFACT FOLDER threads|processes

takes every JPEG file of a folder through it with all cores and prints how many there were.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]


def bare_program(artifact: Path) -> Callable[[Picture], Any]:
    """What takes a picture ``(H, W, 3)`` uint8 to the network's output tensor: `cv2.resize` (linear, the whole picture,
    channels left as they are), set_tensor, invoke, get_tensor, in one thread. Ends the program for inputs not uint8."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=artifact.read_bytes(), num_threads=1)
    interpreter.allocate_tensors()
    (source,), (sink,) = interpreter.get_input_details(), interpreter.get_output_details()
    if source["dtype"] is not np.uint8:
        sys.exit(f"{artifact} must be an int8 artifact, which takes uint8 pixels")
    height, width = int(source["shape"][1]), int(source["shape"][2])

    def run(picture: Picture) -> Any:
        resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
        interpreter.set_tensor(source["index"], resized[np.newaxis])
        interpreter.invoke()
        return interpreter.get_tensor(sink["index"])

    return run


def decode_and_invoke(artifact: Path, paths: Sequence[str]) -> int:
    """Returns how many pictures it took through the network."""
    cv2.setNumThreads(1)
    program = bare_program(artifact)
    return len([program(np.asarray(cv2.imread(path), np.uint8)) for path in paths])


def main() -> None:
    artifact, folder, way = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    paths, workers = sorted(map(str, folder.glob("*.jpg"))), len(os.sched_getaffinity(0))
    shares = [paths[first::workers] for first in range(workers)]
    if way == "threads":
        with ThreadPoolExecutor(workers) as threads:
            print(sum(threads.map(partial(decode_and_invoke, artifact), shares)))
    else:
        with multiprocessing.get_context("spawn").Pool(workers) as processes:
            print(sum(processes.map(partial(decode_and_invoke, artifact), shares)))


if __name__ == "__main__":
    main()
