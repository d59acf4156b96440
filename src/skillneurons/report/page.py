"""A page: what stands on it, and the one file that is made of that.

    page = Page(title, lead, sections=(Section("origins", "Origins (Table 3)", figures=(...)),))
    write(page, folder)                          # folder/report.html

The file holds all it needs and is forbidden to ask for more: its policy allows its own script, by its hash, its own
style, and pictures that are written out in it. All text is escaped by the template. The same page gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..evidence.verdict import Outcome
from ..files import replacing
from .claims import Told
from .neurons import Neurons

PAGE = "report.html"
LONGEST = 300
"""Rows of a table that are shown."""


@dataclass(frozen=True)
class Table:
    """Cells as they are shown; `more` rows are left out; a `raw` table is folded away."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    more: int = 0
    raw: bool = False

    @classmethod
    def of(cls, title: str, table: pd.DataFrame) -> Table:
        """A result's own table, numbers with four digits."""
        columns = tuple(str(name).replace("_", " ") for name in table.columns)
        rows = table.head(LONGEST).itertuples(index=False)
        return cls(title, columns, tuple(tuple(map(_cell, row)) for row in rows), max(0, len(table) - LONGEST), True)

    def numeric(self, column: int) -> bool:
        """Whether a column holds figures, and is set to the right."""
        told = [row[column] for row in self.rows if row[column]]
        return bool(told) and all(text[:1] in "+-−.0123456789" for text in told)


@dataclass(frozen=True)
class Figure:
    """A picture as an element of the page, with what it shows."""

    caption: str
    svg: Markup


@dataclass(frozen=True)
class Section:
    """A part of the page: `verdicts` has (task or "", sentence, outcome or None)."""

    name: str
    title: str
    verdicts: tuple[tuple[str, str, Outcome | None], ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """`lead` says what was asked of whom, `verdict` what came of it; `facts` are (name, value, what stands beside)."""

    title: str
    lead: str
    verdict: str = ""
    facts: tuple[tuple[str, str, str], ...] = ()
    doubts: tuple[str, ...] = ()
    claims: tuple[Told, ...] = ()
    tables: tuple[Table, ...] = ()
    sections: tuple[Section, ...] = ()
    neurons: Neurons | None = None
    commands: tuple[str, ...] = ()


def write(page: Page, folder: Path) -> Path:
    """Write the page into a folder, whole or not at all; returns its path."""
    path = folder / PAGE
    with replacing(path) as temporary:
        temporary.write_text(rendered(page), encoding="utf-8")
    return path


def rendered(page: Page) -> str:
    """The page as HTML."""
    script, style = _part("script.js"), _part("style.css")
    told = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = _environment().get_template("page.html")
    return template.render(page=page, script=Markup(script), style=Markup(style), hash=told)


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader(__package__, "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _cell(value: object) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e6 else f"{value:.4g}"
    return str(value)
