"""Examining labelled pictures before training: what is wrong with which file, and what to do about it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgecnn.data.cache import DecodedPictures, decode_pictures
from edgecnn.data.duplicates import Groups, group_numbers, near_duplicates
from edgecnn.data.forgiving import read_forgiving
from edgecnn.data.headers import SUFFIXES, Header, read_header
from edgecnn.data.suspects import FeignedAccuracy, feigned_accuracy, suspected_labels
from edgecnn_runtime.contract import Preprocessing
from edgecnn_runtime.dataset import Dataset, LabelledPicture
from edgecnn_runtime.decode import HEIC_SUFFIXES, Picture
from edgecnn_runtime.decode import SUFFIXES as PICTURE_SUFFIXES
from edgecnn_runtime.errors import EdgecnnError
from edgecnn_runtime.parallel import map_ordered

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
TINY_PX = 64
FEW, TOO_FEW = 20, 3
UNBALANCED, VERY_UNBALANCED = 3, 10
_READ = PICTURE_SUFFIXES + HEIC_SUFFIXES
_FLAT_DEVIATION = 2.0  # grey levels; compression alone stays below
_GREY_CHROMA = 6  # levels by which the channels of a grey photo may differ after compression
_HEADER_BYTES = 2**20

Progress = Callable[[str, int, int], None]
Look = Callable[[Picture], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        files: relative to the data's folder; empty where it is about the data as a whole.
        detail: what was found.
        remedy: what to do, the same for all findings of the kind and severity.
        guess: of a suspected label: the class that the picture looks like.
    """

    kind: str
    severity: Severity
    files: tuple[str, ...]
    detail: str
    remedy: str
    guess: str | None = None


@dataclass(frozen=True)
class Checked:
    """All findings, gravest first, and what a page needs to show them.

    Attributes:
        counts: label -> number of readable pictures.
        labels_of: file -> its label.
        left_out: one line for each check that could not be made.
        feigned: None where no near-duplicates are, or no features.
        pixels, positions: ``(N, H, W, 3)`` uint8 RGB, and file -> index in it, of the readable ones.
    """

    counts: Mapping[str, int]
    labels_of: Mapping[str, str]
    findings: tuple[Finding, ...]
    left_out: tuple[str, ...]
    feigned: FeignedAccuracy | None
    pixels: Picture
    positions: Mapping[str, int]


@dataclass(frozen=True)
class _Material:
    dataset: Dataset
    headers: Sequence[Header]
    decoded: DecodedPictures
    readable: Sequence[LabelledPicture] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "readable", [self.dataset.pictures[i] for i in self.decoded.readable])

    def name(self, picture: LabelledPicture) -> str:
        try:
            return picture.path.relative_to(self.dataset.root).as_posix()
        except ValueError:  # a CSV may name pictures anywhere
            return picture.path.as_posix()


def check_data(
    data: Path,
    preprocessing: Preprocessing,
    side_px: int,
    look: Look | None,
    workers: int,
    progress: Progress = lambda what, done, total: None,
) -> Checked:
    """Examines labelled pictures; alters nothing.

    Args:
        data: as for `read_dataset`. What that refuses becomes a finding, as long as some picture has a label.
        preprocessing, side_px: as training sees the pictures, so that both share the decoded cache.
        look: features ``(N, F)`` float32 of pictures ``(N, H, W, 3)`` uint8 RGB, for the checks that need them; None to
            leave these out. An EdgecnnError that it raises is said in `left_out`.

    Raises:
        EdgecnnError: there is nothing to examine: no data, no labels, no readable picture.
    """
    dataset, problems = read_forgiving(data)
    paths = [picture.path for picture in dataset.pictures]
    headers = list(map_ordered(lambda: None, lambda _, path: _header(path), paths, workers))
    decoded = decode_pictures(
        paths, preprocessing, side_px, side_px, progress=lambda done, total: progress("decoding", done, total)
    )
    material = _Material(dataset, headers, decoded)
    groups = near_duplicates(
        decoded.pictures, decoded.hashes, lambda done, total: progress("duplicates", done, total), workers
    )
    remedy = "mend this first: training refuses the data"
    findings = [Finding("structure", "error", (), problem, remedy) for problem in problems]
    findings += [*_others(data), *_files(material), *_sizes(material), *_colours(material), *_groups(material, groups)]
    counts = Counter(dict.fromkeys(dataset.labels, 0))
    counts.update(picture.label for picture in material.readable)
    findings += _balance(counts)
    suspects, feigned, left_out = _by_features(material, groups, look)
    findings += suspects
    return Checked(
        counts,
        {material.name(picture): picture.label for picture in dataset.pictures},
        tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))),
        left_out,
        feigned,
        decoded.pictures,
        {material.name(picture): position for position, picture in enumerate(material.readable)},
    )


def _header(path: Path) -> Header:
    try:
        with open(path, "rb") as stream:
            return read_header(stream.read(_HEADER_BYTES))
    except OSError:
        return Header(None)


def _others(data: Path) -> Iterator[Finding]:
    """Files in the folders that training passes over."""
    found: Counter[str] = Counter()
    for _, folders, names in os.walk(data):
        folders[:] = [name for name in folders if not name.startswith(".")]
        suffixes = [os.path.splitext(name)[1].lower() for name in names if not name.startswith(".")]
        found.update(suffix or "without a suffix" for suffix in suffixes if suffix not in _READ)
    if found:
        detail = ", ".join(f"{count:,} {suffix}" for suffix, count in found.most_common())
        remedy = "nothing, if they are no pictures; else save them as JPEG or PNG"
        yield Finding("other files", "note", (), f"not looked at: {detail}", remedy)


def _files(material: _Material) -> Iterator[Finding]:
    for index, reason in material.decoded.unreadable:
        picture = material.dataset.pictures[index]
        kind = "truncated" if "truncated" in reason else "unreadable"
        reason = reason.removeprefix(f"{picture.path}: ")
        yield Finding(kind, "error", (material.name(picture),), reason, "copy the files again or remove them")
    for picture, header in zip(material.dataset.pictures, material.headers, strict=True):
        if header.format and picture.path.suffix.lower() not in SUFFIXES[header.format]:
            detail = f"holds a {header.format} picture"
            remedy = "rename the files to what they hold; other programs may refuse them"
            yield Finding("wrong extension", "warning", (material.name(picture),), detail, remedy)
        if header.orientation != 1:
            detail = f"EXIF orientation {header.orientation}"
            remedy = "nothing here, where they are turned upright; other programs may see them lying"
            yield Finding("EXIF-rotated", "note", (material.name(picture),), detail, remedy)


def _sizes(material: _Material) -> Iterator[Finding]:
    pairs = zip(material.dataset.pictures, material.headers, strict=True)
    tiny = [(picture, header.size_px) for picture, header in pairs if header.size_px and min(header.size_px) < TINY_PX]
    if len(tiny) > len(material.dataset.pictures) / 2:
        side = Counter(min(size) for _, size in tiny).most_common(1)[0][0]
        detail = f"{len(tiny):,} pictures have a short side below {TINY_PX} px, most of {side} px"
        yield Finding("tiny", "note", (), detail, "a small input (--size) may do as well, and is faster")
        return
    for picture, (width, height) in tiny:
        remedy = "take larger pictures: enlarged ones show no detail"
        yield Finding("tiny", "warning", (material.name(picture),), f"{width} x {height} px", remedy)


def _colours(material: _Material) -> Iterator[Finding]:
    grey = []
    for picture, pixels in zip(material.readable, material.decoded.pictures, strict=True):
        sample = pixels[::4, ::4].reshape(-1, 3)
        if sample.std(0).max() < _FLAT_DEVIATION:
            level = ", ".join(str(round(float(value))) for value in sample.mean(0))
            remedy = "remove them: there is nothing to see"
            yield Finding("single-colour", "warning", (material.name(picture),), f"RGB {level} all over", remedy)
        elif int(np.ptp(sample, axis=1).max()) <= _GREY_CHROMA:
            grey.append(picture)
    if len(grey) < len(material.readable) / 2:
        remedy = "mind that the model may take greyness for a class; --filter gray makes all of them grey"
        for picture in grey:
            yield Finding("grey among colour", "note", (material.name(picture),), "has no colour", remedy)


def _groups(material: _Material, groups: Groups) -> Iterator[Finding]:
    for group in groups:
        pictures = [material.readable[index] for index in group]
        exact = len({material.decoded.hashes[index] for index in group}) == 1
        kind = "exact duplicates" if exact else "near duplicates"
        labels = sorted({picture.label for picture in pictures})
        splits = [split for split in ("train", "val", "test") if any(p.split == split for p in pictures)]
        files = tuple(material.name(picture) for picture in pictures)
        if len(labels) > 1:
            remedy = "keep one, with the right label: the labels disagree"
            yield Finding(f"{kind} across classes", "error", files, f"labels {', '.join(labels)}", remedy)
        if len(splits) > 1:
            remedy = "keep them in one split: what was trained on must not be tested on"
            yield Finding(f"{kind} across splits", "error", files, f"in {', '.join(splits)}", remedy)
        elif len(labels) == 1:
            remedy = "keep the best of each, or all in one split"
            yield Finding(f"{kind} in a class", "warning", files, f"{len(files)} times {labels[0]}", remedy)


def _balance(counts: Mapping[str, int]) -> Iterator[Finding]:
    for label, count in counts.items():
        if count < FEW:
            severity: Severity = "error" if count < TOO_FEW else "warning"
            remedy = f"add pictures: {TOO_FEW} are the least that can be split, {FEW} and more make sense"
            yield Finding("too few pictures", severity, (), f"{label}: {count}", remedy)
    most, least = max(counts, key=lambda label: counts[label]), min(counts, key=lambda label: counts[label])
    ratio = counts[most] / max(counts[least], 1)
    if ratio > UNBALANCED:
        remedy = "add pictures of the rare classes, or expect them to be recognised less often"
        detail = f"{most} has {counts[most]:,} pictures, {least} {counts[least]:,}: {ratio:.1f} times as many"
        yield Finding("imbalance", "warning" if ratio > VERY_UNBALANCED else "note", (), detail, remedy)


def _by_features(
    material: _Material, groups: Groups, look: Look | None
) -> tuple[list[Finding], FeignedAccuracy | None, tuple[str, ...]]:
    labels = material.dataset.labels
    if look is None or len(labels) < 2:
        return [], None, ()
    try:
        features = look(material.decoded.pictures)
    except EdgecnnError as error:
        return [], None, (f"suspected labels were not looked for: {error}",)
    truth = np.array([labels.index(picture.label) for picture in material.readable], np.int64)
    numbers = group_numbers(groups, len(truth))
    remedy = "look at each: correct the label, or leave it if it is right"
    findings = []
    for suspect in suspected_labels(features, truth, numbers, len(labels)):
        picture, guess = material.readable[suspect.index], labels[suspect.guess]
        detail = f"labelled {picture.label}, looks like {guess} ({suspect.guess_probability:.0%})"
        findings.append(Finding("suspected label", "warning", (material.name(picture),), detail, remedy, guess))
    return findings, feigned_accuracy(features, truth, numbers, 0, len(labels)), ()
