"""Plots of a run as SVG that follows the colours of the page it stands in.

Text stays text, so that the reader's fonts draw every script. Colours are CSS variables (`--ink`, `--muted`, `--rule`,
`--accent`), each with a default for the plot alone. Equal input gives equal text.
"""

from __future__ import annotations

import io
import math
import re
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgecnn_runtime.metrics import Bin, wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# matplotlib knows no CSS variables: it draws in these colours, which stand for them.
INK, MUTED, RULE, ACCENT = "#010203", "#010204", "#010205", "#010206"
_VARIABLES = {
    INK: "var(--ink,#1c2024)",
    MUTED: "var(--muted,#60686f)",
    RULE: "var(--rule,#d9dde1)",
    ACCENT: "var(--accent,#1f66b0)",
}
RIGHT_RGB, WRONG_RGB = (46, 111, 180), (205, 92, 32)

MAX_NUMBERED = 40
MAX_IMAGE_SIDE_PX = 400
LABEL_COLUMNS = 18
FONT_PT = 9.0
MIN_FONT_PT = 5.5
_COLUMN_EM = 0.62


def curves(history: Mapping[str, Sequence[float]]) -> str:
    """Loss and accuracy over the epochs, side by side: the training split dashed, the validation split solid.

    Args:
        history: columns of equal length by name: ``epoch`` (else counted from 1), ``loss``, ``accuracy`` (fractions),
            ``val_loss``, ``val_accuracy``. A metric without any column gets no panel; other columns are left out.

    Returns:
        One ``<svg>`` element; an empty text where there is nothing to draw.
    """
    from matplotlib.figure import Figure

    metrics = [name for name in ("loss", "accuracy") if history.get(name) or history.get(f"val_{name}")]
    if not metrics:
        return ""
    figure = Figure(figsize=(4.9 * len(metrics), 2.9))
    for axes, name in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        _curve(axes, history, name)
    figure.subplots_adjust(left=0.62 / 4.9 / len(metrics), right=0.98, top=0.9, bottom=0.17)
    return _svg(figure, "curves-" + "-".join(metrics))


def _curve(axes: Axes, history: Mapping[str, Sequence[float]], name: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    styles = {name: (MUTED, (0, (4, 2)), "training"), f"val_{name}": (ACCENT, "solid", "validation")}
    for column, (colour, dashes, split) in styles.items():
        values = history.get(column) or ()
        epochs = history.get("epoch") or range(1, len(values) + 1)
        if values:
            # A single epoch is a point, which a line without markers does not show.
            axes.plot(
                epochs, values, color=colour, ls=dashes, lw=1.8, label=split, marker="o" if len(values) == 1 else ""
            )
    axes.set_title(name, loc="left", fontsize=FONT_PT + 2, color=INK)
    axes.set_xlabel("epoch", fontsize=FONT_PT, color=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    if name == "accuracy":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g} %"))
    axes.margins(x=0.02)
    axes.grid(axis="y", color=RULE, lw=0.8)
    _plain_frame(axes)
    axes.legend(frameon=False, fontsize=FONT_PT, labelcolor=INK)


def _plain_frame(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=FONT_PT, labelcolor=MUTED)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(RULE)


def scatter(points: Sequence[tuple[float, float, str, bool]], x_name: str, y_name: str) -> str:
    """Named points; those that stand out are filled and joined by a line.

    Args:
        points: (x, y, name, whether it stands out); y is a fraction, x is not negative.

    Returns:
        One ``<svg>`` element.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure = Figure(figsize=(8.0, 3.8))
    axes = figure.add_subplot()
    front = sorted((x, y) for x, y, _, stands_out in points if stands_out)
    if front:
        axes.plot(*zip(*front, strict=True), color=RULE, lw=1.5)
    for x, y, name, stands_out in points:
        axes.plot(x, y, "o", ms=8, color=ACCENT, mfc=ACCENT if stands_out else "none")
        axes.annotate(
            name, (x, y), (7, 5), textcoords="offset points", fontsize=FONT_PT, color=INK if stands_out else MUTED,
            parse_math=False,
        )  # fmt: skip
    axes.set_xlabel(x_name, fontsize=FONT_PT, color=MUTED)
    axes.set_ylabel(y_name, fontsize=FONT_PT, color=MUTED)
    axes.set_xlim(0, 1.3 * max(x for x, *_ in points))  # room for the names
    axes.margins(y=0.15)
    low, high = axes.get_ylim()
    ticks = MaxNLocator(nbins=6, steps=[1, 2, 5, 10]).tick_values(low, high)
    axes.set_yticks([tick for tick in ticks if low <= tick <= min(high, 1.0)])  # the margin may lie above 100 %
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g} %"))
    axes.grid(axis="y", color=RULE, lw=0.8)
    _plain_frame(axes)
    figure.subplots_adjust(left=0.1, right=0.99, top=0.96, bottom=0.14)
    return _svg(figure, "scatter")


def reliability(bins: Sequence[Bin], title: str) -> str:
    """Reliability diagram: how often the answers of each range of probability are right.

    A point's area grows with its pictures, its whisker is the 95 % Wilson interval; on the dashed line a probability
    means what it says.

    Args:
        bins: see `edgecnn_runtime.metrics.reliability_bins`.

    Returns:
        One ``<svg>`` element; an empty text without bins.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MultipleLocator, PercentFormatter

    if not bins:
        return ""
    figure = Figure(figsize=(4.4, 4.0))
    axes = figure.add_axes((0.145, 0.125, 0.84, 0.8))
    axes.plot((0, 1), (0, 1), color=MUTED, lw=1.2, ls=(0, (4, 3)), label="as probable as stated")
    accuracy = [each.right / each.pictures for each in bins]
    intervals = np.array([wilson_interval(each.right, each.pictures) for each in bins])
    confidence = [each.confidence for each in bins]
    axes.vlines(confidence, intervals[:, 0], intervals[:, 1], color=ACCENT, lw=1.2)
    most = max(each.pictures for each in bins)
    sizes = [12 + 90 * each.pictures / most for each in bins]
    axes.scatter(confidence, accuracy, sizes, color=ACCENT, linewidths=0, zorder=3, label="test pictures")
    axes.set_title(title, loc="left", fontsize=FONT_PT + 2, color=INK, parse_math=False)
    axes.set_xlabel("stated probability", fontsize=FONT_PT, color=MUTED)
    axes.set_ylabel("share that is right", fontsize=FONT_PT, color=MUTED)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(0.2))
        axis.set_major_formatter(PercentFormatter(1.0, 0, "\N{NO-BREAK SPACE}%"))
    axes.set(xlim=(-0.02, 1.03), ylim=(-0.02, 1.03))
    axes.grid(color=RULE, lw=0.8)
    _plain_frame(axes)
    axes.legend(frameon=False, fontsize=FONT_PT, labelcolor=INK, loc="upper left", scatterpoints=1)
    return _svg(figure, f"reliability-{title}")


def confusion_matrix(counts: npt.NDArray[np.integer], labels: Sequence[str]) -> str:
    """Confusion matrix: rows are the true classes, columns the predictions; right is blue, wrong is orange.

    The opacity is the square root of a cell's share of its row, so that rare mistakes can be seen. Counts stand in the
    cells where they fit, up to 40 classes; beyond that some rows only are labelled, and above 400 classes a pixel
    stands for several cells and shows the largest of them.

    Args:
        counts: (classes, classes) integers, rows truth.
        labels: class names in order; long ones are shortened, control characters replaced.

    Returns:
        One ``<svg>`` element.
    """
    from matplotlib.figure import Figure

    classes = len(labels)
    shown = [_shortened(label) for label in labels]
    numbered = classes <= MAX_NUMBERED
    margin = 0.42 + FONT_PT * _COLUMN_EM / 72 * max(map(_columns, shown))
    cell = min(0.8, max(4.4 / classes, 0.27)) if numbered else 6.0 / classes
    side = cell * classes
    upright = max(map(_columns, shown)) * FONT_PT * _COLUMN_EM > cell * 72 * 0.95
    bottom = (margin if upright else 0.65) if numbered else 0.35
    width, height = margin + side + 0.1, bottom + side + 0.1

    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((margin / width, bottom / height, side / width, side / height))
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(_coloured(share), interpolation="none", extent=(-0.5, classes - 0.5, classes - 0.5, -0.5))
    axes.set_xlabel("predicted", fontsize=FONT_PT, color=MUTED)
    axes.set_ylabel("truth", fontsize=FONT_PT, color=MUTED)
    rows = list(range(0, classes, 1 if numbered else math.ceil(classes / 30)))
    axes.set_yticks(rows, [shown[row] for row in rows], parse_math=False)
    if numbered:
        # Anchored text ends at the axis whatever font the reader's browser has.
        axes.set_xticks(rows, shown, parse_math=False)
        for text in axes.get_xticklabels() if upright else ():
            text.set(rotation=90, rotation_mode="anchor", ha="right", va="center")
        _write_counts(axes, counts, share, cell * 72)
    else:
        axes.set_xticks([])
    axes.tick_params(length=0, labelsize=FONT_PT, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_color(RULE)
    return _svg(figure, "confusion")


def _coloured(share: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """RGBA, uint8, one pixel per cell or per block of cells, transparent where the share is 0."""
    block = math.ceil(len(share) / MAX_IMAGE_SIDE_PX)
    blocks = math.ceil(len(share) / block)
    padded = np.zeros((blocks * block, blocks * block))
    padded[: len(share), : len(share)] = share
    largest = padded.reshape(blocks, block, blocks, block).max(axis=(1, 3))
    image = np.empty((blocks, blocks, 4), np.uint8)
    image[..., :3] = np.where(np.eye(blocks, dtype=bool)[..., None], RIGHT_RGB, WRONG_RGB)
    image[..., 3] = np.rint(np.sqrt(largest) * 255)
    return image


def _write_counts(axes: Axes, counts: npt.NDArray[np.integer], share: npt.NDArray[np.float64], cell_pt: float) -> None:
    size_pt = min(FONT_PT, 0.92 * cell_pt / (_COLUMN_EM * len(str(counts.max()))))
    if size_pt < MIN_FONT_PT:
        return
    for row, column in np.argwhere(counts > 0):
        # White on the strongest cells; elsewhere the page shines through and its own ink reads best.
        colour = "#ffffff" if share[row, column] > 0.7 else INK
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=size_pt, color=colour)


def _columns(text: str) -> int:
    """Width in terminal columns: Chinese, Japanese and Korean characters take two, combining accents none."""
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def _shortened(label: str) -> str:
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in label)
    if _columns(text) <= LABEL_COLUMNS:
        return text
    # The end stays too: names of one family often differ only there.
    head, tail = text, text
    while _columns(head) > LABEL_COLUMNS - 7:
        head = head[:-1]
    while _columns(tail) > 6:
        tail = tail[1:]
    return f"{head.rstrip()}…{tail.lstrip()}"


def _svg(figure: Figure, name: str) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasSVG(figure)
    text = io.StringIO()
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.sans-serif": ["DejaVu Sans"]}),
        warnings.catch_warnings(),
    ):
        # The reader's browser draws the text; that matplotlib's own font lacks a character does not matter.
        warnings.filterwarnings("ignore", message="Glyph")
        empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=empty)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    # Several plots on one page would repeat matplotlib's names of groups.
    svg = re.sub(r'<g id="[\w.]+"', "<g", svg)
    return re.sub(r"(?<=: )#01020[3-6]", lambda match: _VARIABLES[match[0]], svg)
