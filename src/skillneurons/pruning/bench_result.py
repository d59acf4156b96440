"""What timing gave: times, ratios and sizes of a shipped model beside the dense one.

found.table()                 # a row for every (tokens, batch, model)
found.screen(); found.plot(); found.save("small-speed")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..figures import drawing, intervals, legend, name_rows, words
from ..files import write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "bench.json"
DENSE, READ, PRUNED = "dense as shipped by the library", "dense, only what is read", "pruned"


@dataclass(frozen=True, eq=False, repr=False)
class Bench:
    """Times of models in turn: a record for every (tokens, batch, model), with its `seconds`, one a turn.

    `about` says of what, with how many threads, and which dense model: None of random weights.
    """

    about: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]

    def table(self) -> pd.DataFrame:
        """One row for every (tokens, batch, model).

        Columns: seconds of one call (median over turns) with the quartiles low and high, per_second (inputs), faster
        than the dense model as shipped by the library (median of the turns' ratios) with faster_low and faster_high,
        and faster_read, than the dense model of which only that is computed that is read; multiplications of one
        input, with fewer and fewer_read, how many times fewer than either; parameters, prompt not counted, and bytes.
        """
        return pd.DataFrame([self._row(row) for row in self.rows])

    def _row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        dense, read = (self._beside(row, name) for name in (DENSE, READ))
        own = np.array(row["seconds"])
        low, middle, high = np.quantile(own, [0.25, 0.5, 0.75])
        ratios = np.array(dense["seconds"]) / own
        faster = dict(zip(("faster_low", "faster", "faster_high"), np.quantile(ratios, [0.25, 0.5, 0.75]), strict=True))
        return {
            "tokens": row["tokens"], "batch": row["batch"], "model": row["model"],
            "seconds": middle, "low": low, "high": high, "per_second": row["batch"] / middle,
            **faster, "faster_read": np.median(np.array(read["seconds"]) / own),
            "multiplications": row["multiplications"], "fewer": dense["multiplications"] / row["multiplications"],
            "fewer_read": read["multiplications"] / row["multiplications"],
            "parameters": row["parameters"], "bytes": row["bytes"],
        }  # fmt: skip

    def _beside(self, row: Mapping[str, Any], model: str) -> Mapping[str, Any]:
        size = row["tokens"], row["batch"]
        return next(own for own in self.rows if (own["tokens"], own["batch"]) == size and own["model"] == model)

    def plot(self, ax: Axes | None = None) -> Axes:
        """How many times as fast as the dense model each is, with the quartiles."""
        table = self.table()
        kinds = list(table.groupby(["tokens", "batch"], sort=False))
        with drawing(ax, size=(7.2, 3.2)) as ax:
            for index, ((tokens, batch), own) in enumerate(kinds):
                bounds = own[["faster_low", "faster_high"]].to_numpy()
                label = f"{tokens} tokens, batch {batch}"
                intervals(ax, index, len(kinds), label, own["faster"].to_numpy(), bounds)
            name_rows(ax, list(dict.fromkeys(table["model"])))
            ax.set_xlabel("times as fast as the dense model as shipped by the library")
            ax.set_title(f"{words(self.about['task'])}: {words(self.about['model'])}, {self._threads}")
            legend(ax)
        return ax

    def screen(self) -> RenderableType:
        """Times, ratios and sizes, and what the dense model is."""
        about, parts = self.about, []
        for tokens, own in self.table().groupby("tokens", sort=False):
            grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title_justify="left")
            grid.title = (
                f"{escape(about['task'])}: inputs of {tokens} tokens, prompt of {about['positions']}, {self._threads}"
            )
            grid.add_column("")
            for batch in own["batch"].unique():
                what = "ms, one input" if batch == 1 else f"inputs a second, {batch} at a time"
                grid.add_column(what, justify="right")
                grid.add_column("times as fast", justify="right")
            for what in ("by arithmetic", "parameters", "MB"):
                grid.add_column(what, justify="right")
            for model, timed in own.groupby("model", sort=False):
                cells = [cell for row in timed.to_dict("records") for cell in _timed(row)]
                row = timed.iloc[0]
                arithmetic = f"{row['fewer']:.2f} ({row['fewer_read']:.2f})"
                sizes = f"{row['parameters'] / 1e6:.4g} M", f"{row['bytes'] / 1e6:.4g}"
                grid.add_row(escape(str(model)), *cells, arithmetic, *sizes)
            parts.append(grid)
        dense = about["dense"] or "random weights in its shape, which are as fast"
        note = (
            f"Medians of {about['config']['turns']} turns, [quartiles]. Times as fast as the first row, in brackets as "
            f"the second; by arithmetic: how many times fewer multiplications. The dense model: {dense}."
        )
        return Group(*parts, Text(note))

    def save(self, folder: str | Path) -> Path:
        """Write bench.json."""
        path = Path(folder) / NAME
        write_json(path, {key: own if key == "rows" else dict(own) for key, own in asdict(self).items()})
        return path

    @property
    def _threads(self) -> str:
        count = self.about["threads"]
        return "1 thread" if count == 1 else f"{count} threads"

    def __repr__(self) -> str:
        return self.table().round(4).to_string(index=False)

    def _repr_html_(self) -> str:
        return str(self.table().round(4).to_html(index=False))


def _timed(row: Mapping[Any, Any]) -> tuple[str, str]:
    """What was measured, with its quartiles, and how many times as fast that is."""
    low, middle, high = (row[name] for name in ("low", "seconds", "high"))
    if row["batch"] == 1:
        shown = f"{1e3 * middle:.4g} [{1e3 * low:.4g}, {1e3 * high:.4g}]"
    else:
        shown = f"{row['batch'] / middle:.4g} [{row['batch'] / high:.4g}, {row['batch'] / low:.4g}]"
    return escape(shown), f"{row['faster']:.2f} ({row['faster_read']:.2f})"
