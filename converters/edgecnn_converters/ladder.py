"""The repair ladder: what is tried, one thing after the other, where int8 costs more than the gate allows.

First what makes no file larger or slower, then more and more layers in float, the most sensitive ones first. A step
that brings the file no nearer to the float model, by calibration pictures, is undone before the next one. Last comes
fine-tuning, which takes minutes, with every layer in 8 bits: layers in float beside it gained nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgecnn_converters.gate import CONFIDENCE, LATER, Verdict
from edgecnn_converters.quantization.fine_tuning import TuningError
from edgecnn_converters.quantization.repair import NONE, Repair

_EVERYWHERE: dict[str, Callable[[Repair], Repair]] = {
    "equalization": lambda repair: replace(repair, equalized=True),
    "joint rounding": lambda repair: replace(repair, jointly=True),
    "clipped ranges": lambda repair: replace(repair, clipped=True),
    "head trained again": lambda repair: replace(repair, head=True),
}
_IN_FLOAT = (1, 2, 4, 8, 16)  # layers


@dataclass(frozen=True)
class Attempt:
    """One way of making an int8 file, and what came of it.

    Attributes:
        words: what was done, besides what had helped before.
        graph: the file's graph.
        latency_ms: of one inference with one thread.
    """

    words: str
    repair: Repair
    graph: bytes
    verdict: Verdict
    latency_ms: float

    def __str__(self) -> str:
        (low, high), verdict = self.verdict.interval, self.verdict
        return (
            f"{self.words}: {verdict.outcome}, drop {verdict.drop_points:+.2f} ({low:+.2f} to {high:+.2f}) points, "
            f"{self.size_mb:.2f} MB, {self.latency_ms:.2f} ms"
        )

    @property
    def size_mb(self) -> float:
        return len(self.graph) / 1e6

    @property
    def good(self) -> bool:
        """Whether nothing speaks for going on: it passed, or the pictures do not decide and it lost no more of them
        than is allowed."""
        verdict = self.verdict
        within = verdict.drop_points <= verdict.max_drop_points
        return verdict.outcome == "pass" or (verdict.outcome == "unproven" and within)


def climb(
    attempt: Callable[[str, Repair, float], Attempt | None],
    noise: Callable[[Attempt], float],
    rank: Callable[[Repair], Sequence[str]],
) -> tuple[Attempt, list[Attempt], str]:
    """Tries until something is good, or nothing is left.

    Args:
        attempt: makes and judges a file, given words, a repair and how sure the gate must be; None where the repair
            answers as an earlier one does. For a tuned one it may raise TuningError.
        noise: how far an attempt is from the float model.
        rank: layers for `Repair.in_float`, the most sensitive first.

    Returns:
        The attempt to take, which is the one with the least drop where none is good; all; and what could not be tried
        and why, else "".
    """
    first, left_out = attempt("as always", NONE, CONFIDENCE), ""
    assert first is not None
    tried = [first]

    def climbed(words: str, repair: Repair) -> bool:
        if made := attempt(words, repair, LATER):
            tried.append(made)
        return made is not None and made.good

    def steps() -> bool:
        nonlocal left_out
        repair, least = NONE, noise(tried[0])
        for words, change in _EVERYWHERE.items():
            wanted, before = change(repair), len(tried)
            if climbed(words, wanted):
                return True
            if len(tried) > before and (found := noise(tried[-1])) < least:
                repair, least = wanted, found
        layers = rank(repair)
        for count in _IN_FLOAT:
            words = f"{count} layer{'s' * (count > 1)} in float"
            if count < len(layers) and climbed(words, replace(repair, in_float=tuple(layers[:count]))):
                return True
        try:
            return climbed("fine-tuning (QAT)", Repair(clipped=True, tuned=True, head=True))
        except TuningError as error:
            left_out = f"fine-tuning (QAT): {error}"
            return False

    if tried[0].good or steps():
        return tried[-1], tried, left_out
    return min(tried, key=lambda each: each.verdict.drop_points), tried, left_out


def pareto(attempts: Sequence[Attempt]) -> list[bool]:
    """Of each attempt, whether no other one is at least as good in drop, size and latency, and better in one."""

    def beats(one: Attempt, other: Attempt) -> bool:
        mine, its = [(each.verdict.drop_points, each.size_mb, each.latency_ms) for each in (one, other)]
        return mine != its and all(a <= b for a, b in zip(mine, its, strict=True))

    return [not any(beats(other, each) for other in attempts) for each in attempts]
