"""The report's template, and how figures and pictures are written in it."""

from __future__ import annotations

import functools
import math
from typing import Any

import jinja2

from edgecnn.pages import TINY_PICTURE_SIDE_PX, environment

NBSP, MINUS = "\N{NO-BREAK SPACE}", "\N{MINUS SIGN}"


def render(**context: Any) -> str:
    """The page as text."""
    return _template().render(tiny_px=TINY_PICTURE_SIDE_PX, **context)


@functools.cache
def _template() -> jinja2.Template:
    made = environment("evaluation")
    made.filters.update(number=_number, percent=percent, interval=_interval)
    return made.get_template("report.html.jinja")


def _number(value: float, digits: int, unit: str = "") -> str:
    if math.isnan(value):
        return "–"
    # Rounding first keeps a tiny negative number from becoming "-0.0".
    text = f"{round(value, digits) + 0.0:.{digits}f}".replace("-", MINUS)
    return f"{text}{NBSP}{unit}" if unit else text


def percent(fraction: float) -> str:
    """A fraction as a percentage with one decimal, a dash for NaN."""
    return _number(100 * fraction, 1, "%")


def _interval(interval: tuple[float, float]) -> str:
    return "" if math.isnan(interval[0]) else "–".join(_number(100 * bound, 1) for bound in interval)
