"""Near-duplicates: pictures that show the same shot, as recompressed, resized, cropped, mirrored copies and bursts do.

Two steps. The coarse one compares every picture with every other one by a short descriptor: the lowest frequencies of
the cosine transform (as in the perceptual hash pHash, but with real numbers instead of bits), so that a blocked matrix
product does it, in bounded memory. The fine one registers the few candidates on each other (ECC, Evangelidis and
Psarakis 2008, DOI 10.1109/TPAMI.2008.113) and demands that what is left of brightness, fine detail and colour agrees.
Detail is what tells a copy from a look-alike, such as another shirt on the same plain ground.
"""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from edgecnn_runtime.decode import Picture
from edgecnn_runtime.parallel import map_ordered

Groups = tuple[tuple[int, ...], ...]
_Floats = npt.NDArray[np.float32]
_Pair = tuple[int, int, bool]  # two indexes, whether the second is mirrored

_FREQUENCIES = 8
_COARSE_SIDE_PX = 32
_FINE_SIDE_PX = 64
_MIN_CONTRAST = 4.0  # standard deviation of the grey levels below which nothing can be compared
_CANDIDATE_COSINE = 0.84
_CANDIDATES_PER_PICTURE = 3  # bounds the fine step where thousands look alike; groups still hang together
_BLOCK_ELEMENTS = 2**24  # of the similarity matrix at a time: 64 MB
_MIN_ROUGH_CORRELATION = 0.7  # of the detail; spares most look-alikes the warp at full size
# Photos of clothes: copies from 0.95 up, the most alike of different ones 0.79. Look-alikes of 28 px reach 0.947.
_MIN_CORRELATION = 0.95
_MIN_DETAIL_CORRELATION = 0.94
_DETAIL_SIGMA_PX = 1.5
_FAINT_LEVELS = 4.0  # detail below this many grey levels is mostly compression
_MAX_COLOUR_DIFFERENCE = 6.0
_MAX_SHIFT = 0.12  # fraction of the side by which registration may move a corner
_KEPT_SMALL = 4096  # 50 MB
_ECC = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)


def near_duplicates(
    pictures: Sequence[Picture] | Picture,
    hashes: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> Groups:
    """Groups of pictures that show the same shot.

    Found are equal files, and copies that were recompressed, resized, cropped by some 3 %, shifted by a few pixels,
    brightened, or mirrored. Pictures without contrast are grouped with equal files only.

    Args:
        pictures: ``(N, H, W, 3)`` uint8 RGB 0-255, preprocessed; may be a memory map.
        hashes: content hash of each picture's file.
        progress: called with (done, total) for the candidates that are compared.
        workers: threads; None for one a core.

    Returns:
        The groups of two and more indexes, ascending, ordered by their first index. No index is in two of them.
    """
    same = defaultdict(list)
    for index, content in enumerate(hashes):
        same[content].append(index)
    firsts = [indexes[0] for indexes in same.values()]
    pairs = [(indexes[0], other) for indexes in same.values() for other in indexes[1:]]
    threads = workers or os.cpu_count() or 1
    candidates = sorted(_candidates(_descriptors(pictures, firsts, threads), firsts))

    @functools.lru_cache(_KEPT_SMALL)
    def small(index: int) -> Picture:
        return _shrink(np.ascontiguousarray(pictures[index]), _FINE_SIDE_PX)

    compare = map_ordered(lambda: None, lambda _, pair: _same_shot(*pair, pictures, small), candidates, threads)
    for position, (pair, agree) in enumerate(zip(candidates, compare, strict=True)):
        if agree:
            pairs.append(pair[:2])
        if progress is not None:
            progress(position + 1, len(candidates))
    return _connected(len(hashes), pairs)


def group_numbers(groups: Iterable[Sequence[int]], count: int) -> list[int]:
    """For each of `count` pictures the number of its group; a picture in none of `groups` has one of its own."""
    numbers = list(range(count))
    for group in groups:
        for index in group:
            numbers[index] = group[0]
    return numbers


def _descriptors(pictures: Sequence[Picture] | Picture, indexes: Sequence[int], threads: int) -> _Floats:
    """``(len(indexes), 63)``, of length 1, or 0 for a picture without contrast."""
    ranks = np.arange(_FREQUENCIES, dtype=np.float32)
    # Amplitudes fall with the frequency; weighted by it, all of them count, and not the coarse layout alone.
    weights = np.hypot(ranks[:, None], ranks[None, :])

    def describe(index: int) -> _Floats:
        grey = _grey(_shrink(np.ascontiguousarray(pictures[index]), _COARSE_SIDE_PX))
        if grey.std() < _MIN_CONTRAST:
            return np.zeros(_FREQUENCIES**2 - 1, np.float32)
        coefficients = (cv2.dct(grey)[:_FREQUENCIES, :_FREQUENCIES] * weights).ravel()[1:]
        return np.asarray(coefficients / max(float(np.linalg.norm(coefficients)), 1e-6), np.float32)

    described = list(map_ordered(lambda: None, lambda _, index: describe(index), indexes, threads))
    return np.stack(described) if described else np.empty((0, _FREQUENCIES**2 - 1), np.float32)


def _candidates(descriptors: _Floats, indexes: Sequence[int]) -> set[_Pair]:
    """The most similar pairs above the threshold, a few for each picture."""
    count = len(descriptors)
    rows = max(1, _BLOCK_ELEMENTS // max(count, 1))
    # The cosine transform of a mirrored picture is the same with the sign of every odd column turned.
    signs = np.where(np.arange(1, _FREQUENCIES**2) % _FREQUENCIES % 2, -1, 1).astype(np.float32)
    found: set[_Pair] = set()
    for mirrored, others in ((False, descriptors), (True, descriptors * signs)):
        for start in range(0, count, rows):
            # Later pictures only: each pair once.
            similarity = np.asarray(descriptors[start : start + rows] @ others[start:].T, np.float32)
            for row, column in _best(similarity, _CANDIDATE_COSINE):
                found.add((indexes[start + row], indexes[start + column], mirrored))
    return found


def _best(similarity: _Floats, least: float) -> Iterator[tuple[int, int]]:
    """Row and column, column after row, of the largest values of each row that are at least `least`."""
    rows, columns = np.divmod(np.flatnonzero(similarity.ravel() >= least), similarity.shape[1])
    later = columns > rows
    rows, columns = rows[later], columns[later]
    order = np.lexsort((-similarity[rows, columns], rows))
    rows, columns = rows[order], columns[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    chosen = rank < _CANDIDATES_PER_PICTURE
    return zip(rows[chosen].tolist(), columns[chosen].tolist(), strict=True)


def _same_shot(
    first: int, second: int, mirrored: bool, pictures: Sequence[Picture] | Picture, small: Callable[[int], Picture]
) -> bool:
    """`small` gives the picture of an index with the side of the fine step."""
    side, flip = _FINE_SIDE_PX, slice(None, None, -1 if mirrored else None)
    kept, other = small(first), np.ascontiguousarray(small(second)[:, flip])
    warp = np.eye(2, 3, dtype=np.float32)
    try:
        _, warp = cv2.findTransformECC(_grey(kept), _grey(other), warp, cv2.MOTION_AFFINE, _ECC, None, 3)
    except cv2.error:  # it found no way to make them alike
        return False
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]], np.float32)
    inside = _moved(np.ones((side, side), np.uint8), warp) > 0
    if np.abs(corners @ warp.T - corners[:, :2]).max() > _MAX_SHIFT * side or not inside.any():
        return False
    rough = _detail(_grey(kept)), _detail(_grey(_moved(other, warp, cv2.BORDER_REPLICATE)))
    if _correlation(rough[0][inside], rough[1][inside]) < _MIN_ROUGH_CORRELATION:
        return False
    # The picture itself is moved, then made small: the other way round, interpolation blurs its detail.
    whole = np.ascontiguousarray(pictures[second][:, flip])
    rows, columns = whole.shape[:2]
    up = np.array([[columns / side, 0, (columns / side - 1) / 2], [0, rows / side, (rows / side - 1) / 2], [0, 0, 1]])
    full = (up @ np.vstack([warp, [0, 0, 1]]) @ np.linalg.inv(up))[:2]
    return _agree(kept, _shrink(_moved(whole, full, cv2.BORDER_REPLICATE), side), inside)


def _moved(picture: Picture, warp: npt.NDArray[np.floating], border: int = cv2.BORDER_CONSTANT) -> Picture:
    size = picture.shape[1], picture.shape[0]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(picture, warp, size, flags=flags, borderMode=border), np.uint8)


def _agree(first: Picture, second: Picture, inside: npt.NDArray[np.bool_]) -> bool:
    grey, other = _grey(first), _grey(second)
    if _correlation(grey[inside], other[inside]) < _MIN_CORRELATION:
        return False
    other = (other - other[inside].mean()) * (grey[inside].std() / max(float(other[inside].std()), 1e-6))
    detail, other_detail = _detail(grey), _detail(other)
    evened, other_evened = _even(detail), _even(other_detail)
    if _correlation(detail[inside], other_detail[inside]) < _MIN_DETAIL_CORRELATION:
        return False
    if _correlation(evened[inside], other_evened[inside]) < _MIN_DETAIL_CORRELATION:
        return False
    chroma, other_chroma = (
        cv2.cvtColor(picture, cv2.COLOR_RGB2Lab)[inside][:, 1:].astype(np.float32) for picture in (first, second)
    )
    return float(np.abs(chroma - other_chroma).mean()) <= _MAX_COLOUR_DIFFERENCE


def _detail(grey: _Floats) -> _Floats:
    return np.asarray(grey - cv2.GaussianBlur(grey, (0, 0), _DETAIL_SIGMA_PX), np.float32)


def _even(detail: _Floats) -> _Floats:
    """Detail over its local strength, so that an outline on a plain ground does not outweigh all that is inside it."""
    strength = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 2 * _DETAIL_SIGMA_PX))
    return np.asarray(detail / (strength + _FAINT_LEVELS), np.float32)


def _correlation(first: _Floats, second: _Floats) -> float:
    first, second = first - first.mean(), second - second.mean()
    return float((first * second).sum() / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-6))


def _shrink(picture: Picture, side: int) -> Picture:
    mode = cv2.INTER_AREA if min(picture.shape[:2]) >= side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (side, side), interpolation=mode), np.uint8)


def _grey(picture: Picture) -> _Floats:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32)


def _connected(count: int, pairs: Iterable[tuple[int, int]]) -> Groups:
    """The connected components of two and more, by union-find."""
    parents = list(range(count))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    for first, second in pairs:
        low, high = sorted((root(first), root(second)))
        parents[high] = low
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index in range(count):
        members[root(index)].append(index)
    return tuple(tuple(group) for group in members.values() if len(group) > 1)
