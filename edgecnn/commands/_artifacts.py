"""What `export` and `quickstart` share: a run's artifacts, measured and shown."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Container, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecnn.data.cache import DecodedPictures, decode_pictures
from edgecnn.evaluation.summary import write_run_report
from edgecnn.training.head import predict
from edgecnn.training.run import Config, Run
from edgecnn.training.train import Pictures, load_model
from edgecnn_converters import formats
from edgecnn_converters.artifacts import Artifact, Labelled, make_artifact, rejected
from edgecnn_converters.formats import tflite
from edgecnn_converters.freeze import freeze
from edgecnn_converters.gate import MAX_DROP_POINTS
from edgecnn_converters.ladder import pareto
from edgecnn_converters.quantization.repair import Prepared
from edgecnn_runtime.classifier import apply_temperature
from edgecnn_runtime.commands import is_terminal
from edgecnn_runtime.contract import Contract, Decision, Provenance, Publication
from edgecnn_runtime.dataset import LabelledPicture, read_dataset
from edgecnn_runtime.decode import Picture
from edgecnn_runtime.errors import EdgecnnError, UsageError

CALIBRATION_PICTURES = 100
EXIT_REFUSED, EXIT_UNDECIDED = 3, 4

Variant = tuple[str, str]  # format, precision
Progress = Callable[[str, int, int], None]


def say(words: str) -> None:
    """One line on stderr, beside progress bars too."""
    print(f"edgecnn: {words}", file=sys.stderr, flush=True)


def choose_variants(wanted_formats: Sequence[str], wanted_precisions: Sequence[str]) -> list[Variant]:
    """The formats and precisions to make; an empty sequence means all. Raises UsageError when none remains."""
    chosen = [
        (name, precision)
        for name in wanted_formats or formats.names()
        for precision in formats.get(name).PRECISIONS
        if not wanted_precisions or precision in wanted_precisions
    ]
    made = {precision for _, precision in chosen}
    if missing := [precision for precision in wanted_precisions if precision not in made]:
        raise UsageError(f"precision {missing[0]} does not exist for {' or '.join(wanted_formats or formats.names())}")
    return list(dict.fromkeys(chosen))


def check_free(folder: Path, backbone: str, variants: Sequence[Variant], overwrite: bool) -> None:
    """Raises EdgecnnError when an artifact exists and may not be replaced, or the folder cannot be written to."""
    for name, precision in variants:
        path = folder / f"{backbone}-{precision}.{name}"
        for taken in (path, rejected(path)):
            if taken.exists() and not overwrite:
                raise EdgecnnError(f"{taken} exists already; add --overwrite to replace it")
    try:
        tempfile.TemporaryFile(dir=next(path for path in (folder, *folder.absolute().parents) if path.exists())).close()
    except OSError as error:
        raise EdgecnnError(f"{folder}: cannot be written to: {error.strerror}") from error


def export_run(
    run: Run,
    pictures: Pictures,
    variants: Sequence[Variant],
    workers: int,
    progress: Progress,
    commands: Sequence[str] = (),
    max_drop_points: float = MAX_DROP_POINTS,
    more: tuple[Sequence[Picture], npt.NDArray[np.int64]] = ((), np.empty(0, np.int64)),
    second_look: bool = True,
    publication: Publication | None = None,
) -> list[Artifact]:
    """Makes a run's artifacts in its folder ``artifacts`` and writes the report anew with their figures.

    Args:
        more: further pictures for the gate besides those of validation, preprocessed, and indexes of their labels.
        second_look: whether the gate asks about further views where the pictures do not decide.
    """
    model = load_model(run)
    decision = Decision(run.metrics["temperature"], run.metrics["reject_threshold"])

    def ask(pixels: Sequence[Picture]) -> npt.NDArray[np.float32]:
        return apply_temperature(predict(model, pixels), decision.temperature)

    val, index = pictures.of("val"), pictures.of("test")
    held_out = [*(pictures.pixels[i] for i in val), *more[0]]
    truth = np.concatenate([pictures.truth[val], more[1]])
    validation = Labelled(held_out, truth, ask(held_out), ask if second_look else None) if len(truth) else None
    test_pixels = [pictures.pixels[i] for i in index]
    reference = predict(model, test_pixels)
    softened = apply_temperature(reference, decision.temperature)
    test = Labelled(test_pixels, pictures.truth[index], softened) if len(index) else None
    function = freeze(model, run.config.height, run.config.width)
    contract = run_contract(run.config, run.labels, run.metrics["data_sha256"], decision, publication or Publication())
    calibration = calibration_pictures(pictures, run.config.seed)
    folder = run.folder / "artifacts"
    training = [np.asarray(pictures.pixels[i]) for i in pictures.of("train")]
    made = make_all(
        function, contract, variants, calibration, validation, test, folder, workers, progress, max_drop_points,
        training,
    )  # fmt: skip
    if test is not None:
        write_run_report(run, pictures, {"test": reference}, run.folder.name, made, commands, model)
    return made


def make_all(
    function: Any,
    contract: Contract,
    variants: Sequence[Variant],
    calibration: Sequence[Any],
    validation: Labelled | None,
    test: Labelled | None,
    folder: Path,
    workers: int,
    progress: Progress,
    max_drop_points: float = MAX_DROP_POINTS,
    training: Sequence[Any] = (),
) -> list[Artifact]:
    """Makes artifacts one after the other, see `edgecnn_converters.artifacts.make_artifact`. Where int8 is refused, by
    whatever repair, float16 is made too, unless there is such a file.

    Args:
        training: preprocessed pictures that int8 may be fine-tuned with; without any, those of calibration.
    """

    @cache  # what was tuned for one format is good for the other
    def tune() -> Prepared:
        return tflite.fine_tuned(function, calibration, training or calibration, progress)

    folder.mkdir(parents=True, exist_ok=True)
    made: list[Artifact] = []
    pending = list(variants)
    for name, precision in pending:
        artifact = make_artifact(
            function, contract, name, precision, calibration, validation, test, folder, workers, max_drop_points,
            tune=tune, say=say if is_terminal() else lambda words: None,
        )  # fmt: skip
        made.append(artifact)
        instead = (name, "float16")
        there = (folder / f"{contract.provenance.backbone}-float16.{name}").exists()
        if artifact.rejected and precision == "int8" and instead not in pending and not there:
            pending.append(instead)
        progress("exporting", len(made), len(pending))
    return made


def run_contract(
    config: Config, labels: tuple[str, ...], data_sha256: str, decision: Decision, publication: Publication
) -> Contract:
    """The contract of a run's model, without what is measured of an artifact."""
    weights = {
        "imagenet": f"ImageNet ({config.backbone}), head trained by recipe {config.recipe}",
        "none": f"trained from scratch by recipe {config.recipe}",
    }.get(config.weights, f"{Path(config.weights).name}, head trained by recipe {config.recipe}")
    return Contract(
        height=config.height,
        width=config.width,
        labels=labels,
        activation=config.head.output,  # type: ignore[arg-type]
        decision=decision,
        preprocessing=config.preprocessing,
        provenance=Provenance(
            backbone=config.backbone,
            precision="",
            weights=weights,
            data_hash=data_sha256,
            seed=config.seed,
            publication=publication,
        ),
    )


def further_pictures(run: Run, data: Path, progress: Progress) -> tuple[list[Picture], npt.NDArray[np.int64]]:
    """Labelled pictures that the run has never seen, preprocessed, and the indexes of their labels.

    Raises EdgecnnError for a label that the run does not know, and where nothing remains.
    """
    contract = run_contract(run.config, run.labels, "", Decision(), Publication())
    seen = {picture.sha256 for picture in run.pictures}
    pixels, truth, _ = decode_labelled(data, read_dataset(data).pictures, contract, "the run", seen, progress)
    if not pixels:
        raise EdgecnnError(f"{data}: all of its pictures are the run's own already; --data adds others")
    return pixels, truth


def decode_labelled(
    data: Path,
    pictures: Sequence[LabelledPicture],
    contract: Contract,
    owner: str,
    seen: Container[str],
    progress: Progress,
) -> tuple[list[Picture], npt.NDArray[np.int64], list[LabelledPicture]]:
    """Labelled pictures, preprocessed as a contract says, without those whose contents (SHA-256) are in `seen`.

    Args:
        data: where they come from, and owner: whose labels the contract has, both for the errors.

    Returns:
        The pictures, the indexes of their labels, ``(N,)``, and where each is from. Raises EdgecnnError for a label
        that is none. What cannot be read is named on stderr and left out.
    """
    labels = contract.labels
    if unknown := sorted({picture.label for picture in pictures} - set(labels)):
        raise EdgecnnError(f"{data}: {owner} has no label {unknown[0]!r} (it has: {', '.join(labels[:10])})")
    if not pictures:
        return [], np.empty(0, np.int64), []
    decoded = decode_pictures(
        [picture.path for picture in pictures], contract.preprocessing, contract.height, contract.width,
        progress=lambda done, total: progress("decoding", done, total),
    )  # fmt: skip
    for _, reason in decoded.unreadable:
        say(f"left out: {reason}")
    new = [i for i, content in enumerate(decoded.hashes) if content not in seen]
    kept = [pictures[decoded.readable[i]] for i in new]
    truth = np.array([labels.index(picture.label) for picture in kept], np.int64)
    return [np.asarray(decoded.pictures[i]) for i in new], truth, kept


def decode_calibration(paths: Sequence[Path], contract: Contract) -> DecodedPictures:
    """Up to `CALIBRATION_PICTURES`, spread over the paths, whose folders may be classes."""
    count = min(len(paths), CALIBRATION_PICTURES)
    chosen = [paths[number * len(paths) // count] for number in range(count)]
    return decode_pictures(chosen, contract.preprocessing, contract.height, contract.width)


def calibration_pictures(pictures: Pictures, seed: int) -> list[Any]:
    """Up to `CALIBRATION_PICTURES` preprocessed pictures, drawn from the training split alone."""
    train = pictures.of("train")
    chosen = np.random.default_rng(seed).permutation(train)[:CALIBRATION_PICTURES]
    return [np.asarray(pictures.pixels[i]) for i in np.sort(chosen)]


def print_table(artifacts: Sequence[Artifact]) -> None:
    """Prints one line an artifact: size, accuracy with interval, drop, agreement, latency."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    columns = ["format", "precision", "size", "accuracy (95 %)", "drop", "agrees", "latency"]
    for column in columns:
        table.add_column(column, justify="left" if column in columns[:2] else "right", no_wrap=True)
    for artifact in artifacts:
        cells = ["not measured", "", ""]
        if artifact.test is not None and artifact.test.agreement is not None:
            low, high = artifact.test.interval
            cells = [
                f"{artifact.test.accuracy:.1%} ({100 * low:.1f}-{100 * high:.1f})",
                f"{artifact.drop_points:+.2f}",
                f"{artifact.test.agreement:.1%}",
            ]
        size, latency = f"{artifact.size_mb:.2f} MB", f"{artifact.latency_ms:.2f} ms"
        table.add_row(artifact.format, artifact.precision, size, *cells, latency)
    Console().print(table)


def print_gate(artifacts: Sequence[Artifact]) -> None:
    """Prints what the gate says of each artifact, one line an artifact; nothing where it had nothing to judge by."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    judged = [(artifact, artifact.verdict) for artifact in artifacts if artifact.verdict is not None]
    if not judged:
        return
    first = judged[0][1]
    points = "1 point" if first.max_drop_points == 1 else f"{first.max_drop_points:g} points"
    print(f"The gate: a drop of at most {points}, by {first.pictures:,} pictures that calibration never saw")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("format", "precision", "gate", "drop (bounds)", "worst class"):
        table.add_column(column, no_wrap=True)
    for artifact, verdict in judged:
        low, high = verdict.interval
        loses = verdict.worst_drop_points > 0
        worst = f"{verdict.worst_class} {verdict.worst_drop_points:+.1f}" if loses else "none loses"
        word = "REFUSED" if verdict.outcome == "fail" else verdict.outcome
        drop = f"{verdict.drop_points:+.2f} ({low:+.2f} to {high:+.2f})"
        table.add_row(artifact.format, artifact.precision, word, drop, worst)
    Console().print(table)
    for artifact, verdict in judged:
        if verdict.outcome == "fail":
            instead = [
                other for other in artifacts
                if (other.format, other.precision, other.rejected) == (artifact.format, "float16", False)
            ]  # fmt: skip
            words = ""
            if instead and artifact.precision == "int8":
                words = f"; {instead[0].path.name} stands in for it"
            if (earlier := artifact.path.with_suffix("")).exists():
                words += f"; {earlier.name} is that of an earlier export"
            print(f"REFUSED: the drop is larger than allowed; the file is kept as {artifact.path.name}{words}")
    for more in dict.fromkeys(verdict.more_pictures for _, verdict in judged if verdict.outcome == "unproven"):
        names = [
            artifact.path.name
            for artifact, verdict in judged
            if verdict.outcome == "unproven" and verdict.more_pictures == more
        ]
        advice = (
            "the drop is too close to what is allowed for any number of pictures to tell"
            if more is None
            else "too few pictures to be sure either way; "
            f"some {more:,} labelled pictures more, with --data FOLDER, would tell"
        )
        print(f"unproven: {', '.join(names)}: {advice}")


def print_attempts(artifacts: Sequence[Artifact]) -> None:
    """Prints what was tried for each int8 file that cost too much as it was first made; nothing where none did."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    for artifact in artifacts:
        if len(artifact.attempts) < 2:
            continue
        print(f"{artifact.format} int8 cost too much as it is always made; tried besides (● no other beats it):")
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("", "int8 with", "gate", "drop (bounds)", "size MB", "ms"):
            table.add_column(column, justify="left" if column in ("", "int8 with") else "right", no_wrap=True)
        for attempt, best in zip(artifact.attempts, pareto(artifact.attempts), strict=True):
            low, high = attempt.verdict.interval
            word = "refused" if attempt.verdict.outcome == "fail" else attempt.verdict.outcome
            drop = f"{attempt.verdict.drop_points:+.2f} ({low:+.1f} to {high:+.1f})"
            size, latency = f"{attempt.size_mb:.2f}", f"{attempt.latency_ms:.2f}"
            table.add_row("●" if best else "", attempt.words, word, drop, size, latency)
        Console().print(table)
        if artifact.left_out:
            print(f"not tried: {artifact.left_out}")


def exit_code(artifacts: Sequence[Artifact], strict: bool = False) -> int:
    """3 where the gate refused one; with `strict` 4 where it could not decide about one; else 0."""
    if any(artifact.rejected for artifact in artifacts):
        return EXIT_REFUSED
    decided = all(artifact.verdict is not None and artifact.verdict.outcome == "pass" for artifact in artifacts)
    return EXIT_UNDECIDED if strict and not decided else 0


def artifact_document(artifact: Artifact) -> dict[str, Any]:
    """An artifact's figures for --json."""
    test = artifact.test
    return {
        "path": str(artifact.path),
        "format": artifact.format,
        "precision": artifact.precision,
        "size_mb": artifact.size_mb,
        "latency_ms": artifact.latency_ms,
        "accuracy": {"test": None if test is None else test.accuracy},
        "interval": {} if test is None else {"test": list(test.interval)},
        "drop_points": artifact.drop_points,
        "agreement": None if test is None else test.agreement,
        "max_difference": artifact.max_difference,
        "gate": None if artifact.verdict is None else asdict(artifact.verdict),
        "attempts": [
            {
                "words": attempt.words,
                "repair": asdict(attempt.repair),
                "gate": asdict(attempt.verdict),
                "size_mb": attempt.size_mb,
                "latency_ms": attempt.latency_ms,
            }
            for attempt in artifact.attempts
        ],
        "left_out": artifact.left_out,
    }
