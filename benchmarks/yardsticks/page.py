"""How a run is shown: one table on the screen, and the page of the documentation.

console.print(table(run, kept))
markdown(template, {"cpu": run})            # the template's {tables} filled in
"""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from .figure import Figure, Machine, Row, Run

NAMES = {"cpu": "On a CPU", "cuda": "On a GPU"}


def table(run: Run, kept: Run | None) -> Table:
    """All figures with what was asked and kept; each row's method above its figures."""
    shown = Table(title=escape(machine(run.machine)), box=box.SIMPLE_HEAD, title_justify="left")
    shown.add_column("what was measured, and how", ratio=1)
    for column in ("figure", "quartiles", "asked", "kept", "medians"):
        shown.add_column(column, no_wrap=True)
    for row in run.rows:
        shown.add_row(Text(f"{row.title} ({row.name})", style="bold"))
        for line in (row.method, *row.remarks, *([f"Skipped: {row.skipped}."] if row.skipped else [])):
            shown.add_row(Text(line, style="dim"))
        before = kept.row(row.name) if kept else None
        for own in row.figures:
            old = before.figure(own.name) if before else None
            style = "red" if own.met is False else None
            cells = (own.name, value(own), quartiles(own), asked(own), value(old) if old else "", medians(own))
            shown.add_row(*(Text(cell) for cell in cells), style=style)
        shown.add_section()
    return shown


def markdown(template: str, runs: Mapping[str, Run]) -> str:
    """The page: a chapter for each kind of device."""
    parts = [
        part
        for kind, run in runs.items()
        for part in (f"## {NAMES[kind]}", f"{machine(run.machine)}.", *(_section(row) for row in run.rows))
    ]
    return template.replace("{tables}", "\n\n".join(parts))


def machine(told: Machine) -> str:
    """The machine in a line."""
    where = "" if told["device"] == "cpu" else f"{told['device']}; "
    return (
        f"{where}{told['processor']}; threads: {told['threads']}; turns: {told['repeats']}; {told['shape']} with "
        f"random weights, but where a real model is named; torch {told['torch']}, transformers {told['transformers']}"
    )


def value(own: Figure) -> str:
    """The figure as the tables show it."""
    if own.unit == "times":
        return f"{own.value:.3f}" if own.value < 2 else f"{own.value:.2f}"
    return f"{own.value:.4f}" if own.unit == "" else f"{own.value:.3g} {own.unit}"


def quartiles(own: Figure) -> str:
    """Where the middle half of the turns lies."""
    return "" if own.low == own.high else f"{own.low:.3g} to {own.high:.3g}"


def asked(own: Figure) -> str:
    """What was asked, and whether it is met."""
    if own.asked is None:
        return ""
    return f"{'at least' if own.better == 'more' else 'at most'} {own.asked:g}{'' if own.met else ': missed'}"


def medians(own: Figure) -> str:
    """The times of the two works."""
    return " / ".join(f"{1000 * one:.3g} ms" if one < 1 else f"{one:.3g} s" for one in own.seconds)


def _section(row: Row) -> str:
    lines = [f"### {row.title}", "", row.method, ""]
    if row.skipped:
        return "\n".join([*lines, f"Left out: {row.skipped}."])
    lines += ["| what | figure | quartiles | asked | medians |", "|---|---|---|---|---|"]
    lines += [
        f"| {' | '.join((own.name, value(own), quartiles(own), asked(own), medians(own)))} |" for own in row.figures
    ]
    return "\n".join([*lines, *(f"\n{remark[0].upper()}{remark[1:]}." for remark in row.remarks)])
