"""The page of a check: one HTML file that needs nothing else, neither network nor script."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgecnn import pages
from edgecnn.data.check import Checked, Finding, Severity
from edgecnn.pages import environment, picture_uri

MAX_SHOWN = 50
MAX_IN_GROUP = 8
_SIDE_PX = 200


@dataclass(frozen=True)
class Section:
    """All findings of one kind and severity, with one remedy."""

    kind: str
    severity: Severity
    remedy: str
    findings: tuple[Finding, ...]


def sections(checked: Checked) -> list[Section]:
    """The findings by kind, gravest kinds first."""
    found: dict[tuple[Severity, str], list[Finding]] = {}
    for finding in checked.findings:
        found.setdefault((finding.severity, finding.kind), []).append(finding)
    return [Section(kind, severity, alike[0].remedy, tuple(alike)) for (severity, kind), alike in found.items()]


def write_page(path: Path, checked: Checked, title: str) -> None:
    """Writes the page in UTF-8, whole or not at all; of each kind at most `MAX_SHOWN` findings.

    Raises:
        EdgecnnError: the file cannot be written.
    """

    def thumbnail(file: str) -> str | None:
        return picture_uri(checked.pixels[checked.positions[file]], _SIDE_PX) if file in checked.positions else None

    html = (
        environment("data")
        .get_template("check.html.jinja")
        .render(
            title=title,
            checked=checked,
            sections=sections(checked),
            thumbnail=thumbnail,
            max_shown=MAX_SHOWN,
            max_in_group=MAX_IN_GROUP,
        )
    )
    pages.write_page(path, html)
