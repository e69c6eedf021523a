"""Runs mutations of one graph through the structure check and then the engine, in a process that may die of it.

    python fuzz_child.py GRAPH SEED COUNT

Prints each mutation's number before the engine sees it, and at the end how many passed the check and how many ran.
"""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgecnn_runtime.backends import PIXELS, module_for
from edgecnn_runtime.errors import ModelError

EVIL = (0, 1, 2, 3, 8, 32, 127, 128, 255, 256, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
SIDE_PX = 32


def flip(data: bytearray, place: int, rng: random.Random) -> None:
    data[place] ^= 1 << rng.randrange(8)


def number(data: bytearray, place: int, rng: random.Random) -> None:
    data[place & ~3 : (place & ~3) + 4] = struct.pack("<I", rng.choice(EVIL))


def nudge(data: bytearray, place: int, rng: random.Random) -> None:
    place = min(place & ~3, len(data) - 4)
    old = struct.unpack_from("<I", data, place)[0]
    struct.pack_into("<I", data, place, (old + rng.choice((-16, -8, -4, -1, 1, 4, 8, 16, 64))) % 2**32)


def short(data: bytearray, place: int, rng: random.Random) -> None:
    data[place & ~1 : (place & ~1) + 2] = struct.pack("<H", rng.choice((0, 4, 6, 8, 12, 16, 24)))


def splice(data: bytearray, place: int, rng: random.Random) -> None:
    source, length = rng.randrange(len(data)), rng.choice((4, 4, 8, 13))
    data[place : place + length] = data[source : source + length]


def cut(data: bytearray, place: int, rng: random.Random) -> None:
    if rng.random() < 0.1:
        del data[place:]


MUTATIONS: tuple[Callable[[bytearray, int, random.Random], None], ...] = (flip, number, nudge, short, splice, cut)


def mutate(graph: bytes, seed: int) -> bytes:
    """One to three seeded changes."""
    rng, data = random.Random(seed), bytearray(graph)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if len(data) > 8:
            rng.choice(MUTATIONS)(data, rng.randrange(len(data)), rng)
    return bytes(data)


def main(path: Path, seed: int, count: int) -> None:
    """See the module."""
    module, graph = module_for(path), path.read_bytes()
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    passed = ran = 0
    for index in range(seed, seed + count):
        try:
            mutated = mutate(graph, index)
            module.check_structure(mutated)
            print(index, flush=True)
            passed += 1
            backend = module.load(mutated, 1, PIXELS)
            if (backend.height, backend.width) == (SIDE_PX, SIDE_PX):
                backend.run(pixels)
                ran += 1
        except ModelError as error:
            assert "\n" not in str(error), repr(error)  # noqa: PT017 - most mutations are errors
    print("passed", passed, "ran", ran)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
