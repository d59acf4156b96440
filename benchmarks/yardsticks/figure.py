"""What comes out of a measurement: figures, in rows, of one run.

    plain_over_ours = ratio("28 tokens: plain workflow / ours", seconds["plain"], seconds["ours"], "more", asked=2.1)
    Row("tuning", "The tuning step", METHOD, (plain_over_ours,))

A ratio is the median of the turns' ratios, each of two works that ran one after the other; `low` and `high` are their
quartiles. A file holds them as JSON, numbers to five digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

Better = Literal["more", "less"]
Machine = Mapping[str, str | int]


@dataclass(frozen=True)
class Figure:
    """A measured value with the quartiles of its turns, which way is better, and what is asked of it at least or most.

    `unit`: times, s or h; "" of a share or a correlation. `seconds`: medians of the two works of a ratio.
    """

    name: str
    value: float
    low: float
    high: float
    better: Better
    unit: str = ""
    asked: float | None = None
    seconds: tuple[float, ...] = ()

    @property
    def met(self) -> bool | None:
        """Whether the figure is as asked; None where nothing is."""
        if self.asked is None:
            return None
        return self.value >= self.asked if self.better == "more" else self.value <= self.asked


@dataclass(frozen=True)
class Row:
    """What one measurement gave: `method` says how, `remarks` what is to be known; `skipped`, why there is nothing."""

    name: str
    title: str
    method: str
    figures: tuple[Figure, ...] = ()
    remarks: tuple[str, ...] = ()
    skipped: str | None = None

    def figure(self, name: str) -> Figure | None:
        """The figure of that name, None where it was not measured."""
        return next((own for own in self.figures if own.name == name), None)


@dataclass(frozen=True)
class Run:
    """The rows that were measured on one machine."""

    machine: Machine
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row | None:
        """The row of that name, None where it was not measured."""
        return next((own for own in self.rows if own.name == name), None)

    def record(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {"machine": dict(self.machine), "rows": [asdict(row) for row in self.rows]}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Run:
        """The run whose `record` this is."""
        rows = []
        for own in record["rows"]:
            figures = tuple(Figure(**{**figure, "seconds": tuple(figure["seconds"])}) for figure in own["figures"])
            rows.append(Row(**{**own, "figures": figures, "remarks": tuple(own["remarks"])}))
        return cls(record["machine"], tuple(rows))


def figure(name: str, values: Sequence[float], better: Better, unit: str = "", asked: float | None = None) -> Figure:
    """The median of some values, with their quartiles."""
    low, middle, high = (_short(value) for value in np.quantile(values, [0.25, 0.5, 0.75]))
    return Figure(name, middle, low, high, better, unit, asked)


def ratio(
    name: str, above: Sequence[float], below: Sequence[float], better: Better, asked: float | None = None
) -> Figure:
    """How many times as long the work `above` takes as the work `below`, turn by turn; both are seconds."""
    found = figure(name, [one / other for one, other in zip(above, below, strict=True)], better, "times", asked)
    return replace(found, seconds=tuple(_short(float(np.median(own))) for own in (above, below)))


def _short(value: float) -> float:
    return float(f"{value:.5g}")
