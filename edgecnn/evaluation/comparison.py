"""Several networks side by side: table, plot, and which of them no other one beats in everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from edgecnn.evaluation.plots import scatter
from edgecnn.pages import environment, write_page


@dataclass(frozen=True)
class Candidate:
    """One trained network and its int8 artifact.

    Attributes:
        val, test: accuracy of the float model, fractions.
        int8_test, interval: accuracy of the artifact on test, and its 95 % interval.
        gate: what the gate says of the artifact: pass, unproven, or fail, which is a file that `export` refuses.
        latency_ms: median time of one inference of the artifact with one thread, on this machine.
    """

    backbone: str
    val: float
    test: float
    int8_test: float
    interval: tuple[float, float]
    gate: str
    latency_ms: float
    size_mb: float
    train_s: float
    artifact: str


def pareto(candidates: Sequence[Candidate]) -> set[str]:
    """The backbones that no other one beats or equals in validation accuracy, latency and size at once."""

    def beats(other: Candidate, one: Candidate) -> bool:
        figures = [(other.val, one.val), (-other.latency_ms, -one.latency_ms), (-other.size_mb, -one.size_mb)]
        return all(a >= b for a, b in figures) and any(a > b for a, b in figures)

    return {one.backbone for one in candidates if not any(beats(other, one) for other in candidates)}


def write_comparison(path: Path, title: str, protocol: str, candidates: Sequence[Candidate]) -> None:
    """Writes the page, whole or not at all.

    Args:
        protocol: what was the same for all.

    Raises:
        EdgecnnError: the file cannot be written.
    """
    front = pareto(candidates)
    points = [(one.latency_ms, one.int8_test, one.backbone, one.backbone in front) for one in candidates]
    made = environment("evaluation")
    html = made.get_template("comparison.html.jinja").render(
        title=title,
        protocol=protocol,
        candidates=candidates,
        front=front,
        plot=Markup(scatter(points, "latency of the int8 file in ms", "accuracy on test")),
    )
    write_page(path, html)
