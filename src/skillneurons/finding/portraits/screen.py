"""A portrait on one screen, or on a notebook's page: facts, firing by label, texts with their tokens shaded."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..show import percent
from .shading import Shades, excerpt, printable, shaded_html

if TYPE_CHECKING:
    from .portrait import Example, Portrait

BAR = 24
"""Signs of a bar that stands for all samples of a label."""
TOKENS = 30
"""Tokens of a text that are shown."""
_EIGHTHS = " ▏▎▍▌▋▊▉"


def screen(portrait: Portrait) -> RenderableType:
    """Facts first, then how often it fires by label, then the texts."""
    shades = _shades(portrait)
    return Group(
        Text(_title(portrait), style="bold"),
        *(Text(line) for line in _facts(portrait)),
        Text(),
        _grid(("trial", "position", "dev predictivity", "baseline", "above it says"), _trials(portrait), left=(4,)),
        Text(),
        Text(_firing(portrait)),
        _bars(portrait),
        Text(),
        _texts("Highest", portrait.highest, shades),
        Text(),
        _texts("Lowest", portrait.lowest, shades),
        Text(),
        Text(f"A token's block is the neuron's activation on it, {shades}.", style="dim"),
    )


def page(portrait: Portrait) -> str:
    """The same as HTML."""
    shades = _shades(portrait)
    rows = [
        f"<tr><td>{html.escape(label)}</td><td><progress max='{samples}' value='{fired}'></progress></td>"
        f"<td>{html.escape(share)}</td></tr>"
        for label, fired, samples, share in _shares(portrait)
    ]
    trials = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in _trials(portrait)
    )
    heads = "".join(
        f"<th>{name}</th>" for name in ("trial", "position", "dev predictivity", "baseline", "above it says")
    )
    parts = [
        f"<p><b>{html.escape(_title(portrait))}</b></p>",
        *(f"<p>{html.escape(line)}</p>" for line in _facts(portrait)),
        f"<table><thead><tr>{heads}</tr></thead><tbody>{trials}</tbody></table>",
        f"<table><caption>{html.escape(_firing(portrait))}</caption><tbody>{''.join(rows)}</tbody></table>",
    ]
    for title, examples in (("Highest", portrait.highest), ("Lowest", portrait.lowest)):
        body = "".join(
            f"<tr><td>{own.activation:.3g}</td><td>{html.escape(own.label)}</td><td style='text-align:left'>"
            f"{shaded_html(own.tokens.tokens, own.tokens.inputs, shades)}</td></tr>"
            for own in examples
        )
        parts.append(f"<table><caption>{title}</caption><tbody>{body}</tbody></table>")
    return "\n".join(parts)


def _title(portrait: Portrait) -> str:
    return f"Neuron {portrait.neuron} of layer {portrait.layer} for {portrait.standing.subtask}"


def _facts(portrait: Portrait) -> list[str]:
    own = portrait.standing
    over = f" (standard deviation {100 * own.std:.1f} over {len(own.trials)} trials)" if len(own.trials) > 1 else ""
    return [
        f"rank {own.rank} of {own.of}; dev predictivity {percent(own.predictivity)}{over}",
        f"p {own.p_value:.2g}, q {own.q_value:.2g}",
    ]


def _trials(portrait: Portrait) -> list[tuple[str, ...]]:
    return [
        (
            str(trial), str(own.position), percent(own.predictivity), f"{own.baseline:.3g}",
            ", ".join(portrait.says(trial)),
        )
        for trial, own in enumerate(portrait.standing.trials)
    ]  # fmt: skip


def _firing(portrait: Portrait) -> str:
    return (
        f"Firing on {portrait.split}: above {portrait.baseline:.3g} at position {portrait.position}, "
        f"trial {portrait.trial}"
    )


def _shares(portrait: Portrait) -> list[tuple[str, int, int, str]]:
    """Label, samples that fired, samples, and the share in words."""
    found = []
    for label, fired, samples in zip(portrait.labels, portrait.fired, portrait.samples, strict=True):
        share = f"{percent(fired / samples)}  {fired} of {samples}" if samples else "no samples"
        found.append((label, int(fired), int(samples), share))
    return found


def _bars(portrait: Portrait) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for label, fired, samples, share in _shares(portrait):
        grid.add_row(printable(label), _bar(fired / samples if samples else 0.0), share)
    return grid


def _bar(share: float) -> str:
    eighths = round(share * BAR * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()).ljust(BAR, "·")


def _texts(title: str, examples: Sequence[Example], shades: Shades) -> Table:
    grid = _grid((title, "label", "text"), [], left=(1, 2))
    for own in examples:
        seen = own.tokens
        text = excerpt(seen.tokens, seen.inputs, seen.usual.inputs, shades, TOKENS)
        grid.add_row(f"{own.activation:.3g}", printable(own.label), text)
    return grid


def _shades(portrait: Portrait) -> Shades:
    return Shades.of([own.tokens.inputs for own in (*portrait.highest, *portrait.lowest)])


def _grid(columns: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int]) -> Table:
    grid = Table(header_style="dim", box=None, padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        grid.add_column(column, justify="left" if index in left else "right")
    for row in rows:
        grid.add_row(*(printable(cell) for cell in row))
    return grid
