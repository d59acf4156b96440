"""A finding on one screen: the verdict and the answer first, then what stands beside them."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from .nulls.least import too_small
from .peers.result import OURS, TITLES

if TYPE_CHECKING:
    from .agreement import Agreement
    from .nulls.result import Nulls
    from .peers.result import Peers

AGAINST = ("The top neuron against", ("null", "advantage", ""))
ALIKE = ("How alike two trials rank the neurons", ("", ""))
WHY_NOT = "Why not simply another order"
PEER_COLUMNS = ("its best", "neuron", "layer", "test", "95 % interval", "correlation", "in common")
NEURON_COLUMNS = ("neuron", "layer", "dev predictivity", "test accuracy", "95 % interval")


def summary(about: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The figures that stand beside the neurons: what, how much, with which interval."""
    results = about["results"]
    accuracy = _mean(results["prompt_accuracy"])
    rows = [("prompt", percent(accuracy), interval(results["prompt_interval"]))]
    if "neurons_accuracy" in results:
        rows.append(
            ("top neurons together", percent(_mean(results["neurons_accuracy"])), "logistic regression on train")
        )
    rows.append(("commonest label", percent(about["majority"]), "always answering it"))
    return rows


def neuron_rows(about: dict[str, Any], subtask: str, most: int) -> list[tuple[str, ...]]:
    """The best neurons of a subtask: name, layer, predictivity, test accuracy, interval."""
    return [
        (
            str(own["neuron"]), str(own["layer"]), percent(own["predictivity"]),
            percent(own["test_accuracy"]), interval(own),
        )
        for own in about["results"]["top_neurons"]
        if own["subtask"] == subtask and own["rank"] <= most
    ]  # fmt: skip


def heading(about: dict[str, Any]) -> str:
    """What was asked of whom."""
    trials, model = about["trials"], about["model"]
    if Path(about["source"]["model"]).is_absolute():  # a folder, whose own name says enough
        model = Path(about["source"]["model"]).name
    counted = f"{trials} trial{'s' if trials > 1 else ''}"
    return (
        f"{about['task']} on {model}: {sum(about['layers'])} neurons, {counted}, "
        f"{about['config']['prompt']} prompt of {about['positions']}"
    )


def doubts(about: dict[str, Any]) -> list[str]:
    """What a reader should know before trusting the figures."""
    poor = [str(trial + 1) for trial, good in enumerate(about["results"]["prompt_worth_ranking"]) if not good]
    found = []
    if poor and about["config"]["prompt"] == "soft":
        found.append(
            f"The prompt of trial {', '.join(poor)} did not beat the majority label on dev by a margin worth ranking "
            "on: try --lr auto, more --steps, or other label words."
        )
    found += too_small(about)
    for split, cut in about["cut"].items():
        if cut:
            found.append(f"{cut} of {about['sizes'][split]} {split} inputs were cut to fit.")
    return found


def peer_rows(peers: Peers, subtask: str) -> list[tuple[str, ...]]:
    """Each order's best neuron, and how alike the order is to that by predictivity."""
    table = peers.table()
    rows = table[table["subtask"] == subtask].to_dict("records")
    return [
        (
            TITLES[row["order"]], f"{row['neuron']}", f"{row['layer']}", percent(row["test_accuracy"]),
            interval({"low": row["low"], "high": row["high"]}),
            "" if row["order"] == OURS else _number(row["correlation"]),
            "" if row["order"] == OURS else percent(row["overlap"]),
        )
        for row in rows
    ]  # fmt: skip


def screen(
    about: dict[str, Any],
    nulls: Nulls | None = None,
    agreement: Agreement | None = None,
    peers: Peers | None = None,
    most: int = 5,
) -> RenderableType:
    """The first screen."""
    parts: list[RenderableType] = [Text(heading(about)), Text()]
    if nulls is not None:
        parts += [Text(nulls.verdict, style="bold"), Text()]
    several = len(about["subtasks"]) > 1
    for own in about["subtasks"]:
        title = f"Top neurons, {own['name']}" if several else "Top neurons"
        grid = _grid(title, NEURON_COLUMNS)
        for row in neuron_rows(about, own["name"], most):
            grid.add_row(*row)
        parts += [grid, Text()]
    beside = _grid("Beside them, on test", ("what", "accuracy", ""), left=(0, 2))
    for line in summary(about):
        beside.add_row(*line)
    parts.append(beside)
    if nulls is not None:
        for own in about["subtasks"]:
            title, columns = AGAINST
            grid = _grid(f"{title}, {own['name']}" if several else title, columns, left=(0, 2))
            parts += [Text(), _filled(grid, nulls.lines(own["name"]))]
    if agreement is not None:
        parts += [Text(), _filled(_grid(*ALIKE, left=(0, 1)), agreement.lines())]
    if peers is not None:
        for own in about["subtasks"]:
            title = f"{WHY_NOT}, {own['name']}" if several else WHY_NOT
            grid = _grid(title, PEER_COLUMNS, left=(0,))
            parts += [Text(), _filled(grid, peer_rows(peers, own["name"]))]
    if found := doubts(about):
        parts.append(Text())
    parts += [Text("! " + doubt, style="yellow") for doubt in found]
    return Group(*parts)


def as_text(about: dict[str, Any], nulls: Nulls | None = None) -> str:
    """The first screen as plain text."""
    out = io.StringIO()
    Console(file=out, width=100, no_color=True, legacy_windows=False).print(screen(about, nulls))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def as_html(
    about: dict[str, Any],
    nulls: Nulls | None = None,
    agreement: Agreement | None = None,
    peers: Peers | None = None,
) -> str:
    """The first screen for a notebook, and for the run's page."""
    parts = [f"<p><b>{html.escape(heading(about))}</b></p>"]
    if nulls is not None:
        parts.append(f"<p><strong>{html.escape(nulls.verdict)}</strong></p>")
    for own in about["subtasks"]:
        parts.append(_html(f"Top neurons, {own['name']}", NEURON_COLUMNS, neuron_rows(about, own["name"], 5)))
    parts.append(_html("Beside them, on test", ("what", "accuracy", ""), summary(about)))
    if nulls is not None:
        for own in about["subtasks"]:
            title, columns = AGAINST
            parts.append(_html(f"{title}, {own['name']}", columns, nulls.lines(own["name"])))
    if agreement is not None:
        parts.append(_html(*ALIKE, agreement.lines()))
    if peers is not None:
        for own in about["subtasks"]:
            parts.append(_html(f"{WHY_NOT}, {own['name']}", PEER_COLUMNS, peer_rows(peers, own["name"])))
    parts += [f"<p>{html.escape(doubt)}</p>" for doubt in doubts(about)]
    return "\n".join(parts)


def percent(value: float) -> str:
    """A share in per cent, one decimal."""
    return f"{100 * value:.1f} %"


def interval(bounds: Mapping[str, Any]) -> str:
    """`low to high`, in per cent."""
    return f"{100 * bounds['low']:.1f} to {percent(bounds['high'])}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _filled(grid: Table, rows: Sequence[Sequence[str]]) -> Table:
    for row in rows:
        grid.add_row(*row)
    return grid


def _grid(title: str, columns: Sequence[str], left: Sequence[int] = ()) -> Table:
    grid = Table(
        title=title, title_justify="left", title_style="", header_style="dim", box=None, padding=(0, 2, 0, 0),
        show_header=any(columns),
    )  # fmt: skip
    for index, column in enumerate(columns):
        grid.add_column(column, justify="left" if index in left else "right")
    return grid


def _html(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{html.escape(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
