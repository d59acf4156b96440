"""The result of `nulls`: a finding's neurons beside what the nulls produce.

    found.verdict; found.table(); found.lines(); found.plot()
    found.save("runs/sst2"); Nulls.load("runs/sst2")

A folder holds `nulls.json`, the figures, and `nulls.safetensors`: every neuron's predictivity [subtask, neuron], that
of the random-weight model, and what the shuffles gave (`maxima` [subtask, permutation], `counts` [subtask, bin]).
Both carry the run's identity and what was tried, and are read together or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from ...errors import SkillNeuronsError
from ...figures import INK, drawing, legend, words
from ...figures import histogram as area
from ..beside import keep, kept, remedy
from ..stored import foreign
from .permutation import EDGES, Shuffled, histogram
from .verdict import Against, points, verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMAT = 1
NAME = "nulls"
"""Of the files: nulls.json, nulls.safetensors."""
_WIDE = 2  # bins of `EDGES` in one of the picture's


@dataclass(frozen=True, eq=False)
class Nulls:
    """A finding beside its nulls.

    `about` says of what run, and what was tried; `rows` has one entry for each subtask and null; `predictivity`
    [subtask, neuron] that of the neurons `found`, and of the `random-model` where it was tried; `shuffled` what
    shuffled labels gave.
    """

    about: Mapping[str, Any]
    rows: tuple[Against, ...]
    predictivity: Mapping[str, Float[np.ndarray, "subtask neuron"]] = field(repr=False)
    shuffled: Shuffled | None = field(repr=False)

    @property
    def verdict(self) -> str:
        """One plain sentence: more predictive than anything the nulls produce, or not, or not all was tried."""
        return verdict(self.rows)

    def table(self) -> pd.DataFrame:
        """One row per (subtask, null).

        Columns: subtask, null, predictivity (the null's, on dev: the 95 % threshold of shuffled labels), top (the top
        neuron's, on dev), p_value and above (shuffled labels: how many neurons are above the threshold), advantage,
        low, high (the top neuron's accuracy less the null's on test, with its 95 % interval), beaten.
        """
        table = pd.DataFrame([{**asdict(row), "beaten": row.beaten} for row in self.rows])
        numbers = ("p_value", "advantage", "low", "high")  # None where a null has no such figure
        return table.astype({**dict.fromkeys(numbers, float), "above": "Int64"})

    def lines(self, subtask: str | None = None) -> list[tuple[str, str, str]]:
        """What a first screen shows: the null, the top neuron's advantage over it, how sure that is.

        `subtask`: the first, unless named.
        """
        name = self.about["subtasks"][self._subtask(subtask)]
        found: list[tuple[str, str, str]] = []
        for row in (own for own in self.rows if own.subtask == name):
            what = row.null
            if row.p_value is None:
                bounds = f"{points(row.low)} to {points(row.high)}"
                found.append((what, f"{points(row.advantage)} points on test", bounds))
            else:
                more = points(row.top - row.predictivity)
                above = f"{row.above} neuron{'' if row.above == 1 else 's'} above {100 * row.predictivity:.1f} %"
                found.append((what, f"{more} points on dev", f"p {row.p_value:.2g}, {above}"))
        return found

    def plot(self, ax: Axes | None = None, subtask: str | None = None) -> Axes:
        """The predictivity of all neurons, that under the nulls beside it (as the paper's Figures 3 and 9).

        Shares of the neurons on a logarithmic axis; lines for the top neuron, the threshold of shuffled labels and
        input length. `subtask`: the first, unless named.
        """
        index = self._subtask(subtask)
        rows = {row.null: row for row in self.rows if row.subtask == self.about["subtasks"][index]}
        names = {"found": "neurons found", "random-model": "random-weight model"}
        series = {names[key]: histogram(values[index]) for key, values in self.predictivity.items()}
        if self.shuffled is not None:
            series["shuffled labels"] = self.shuffled.counts[index]
        with drawing(ax, size=(8.0, 3.8)) as ax:
            for place, (label, counts) in enumerate(series.items()):
                wide = counts.reshape(-1, _WIDE).sum(1)
                area(ax, EDGES[::_WIDE], wide / wide.sum(), place, label)
            ax.axvline(rows["input length"].top, color=INK, linestyle="-", linewidth=1.2, label="top neuron")
            for null, style, label in (
                ("shuffled labels", "--", "95 % of shuffles below"), ("input length", ":", "input length"),
            ):  # fmt: skip
                if null in rows:
                    ax.axvline(rows[null].predictivity, color=INK, linestyle=style, linewidth=1.2, label=label)
            ax.set_yscale("log")
            ax.set(xlabel="predictivity on dev", ylabel="share of neurons", title=self._title(index))
            ax.set_xlim(0.495, EDGES[max(np.flatnonzero(counts)[-1] for counts in series.values()) + 1] + 0.02)
            legend(ax)
        return ax

    def save(self, folder: str | Path) -> None:
        """Write nulls.json and nulls.safetensors into a folder, the run's say.

        Raises `SkillNeuronsError` where the folder holds another run, or cannot be written.
        """
        tensors = {key: torch.from_numpy(values) for key, values in self.predictivity.items()}
        if self.shuffled is not None:
            tensors |= {"maxima": torch.from_numpy(self.shuffled.maxima)}
            tensors |= {"counts": torch.from_numpy(self.shuffled.counts)}
        content = {"verdict": self.verdict, "rows": [asdict(row) for row in self.rows]}
        keep(Path(folder), NAME, self.about, content, tensors)

    @classmethod
    def load(cls, folder: str | Path) -> Nulls:
        """Read what `save` wrote.

        Raises `SkillNeuronsError` where it is missing, truncated, of another version, or not of the folder's run.
        """
        folder = Path(folder)
        about, content, tensors = kept(folder, NAME, FORMAT)
        try:
            rows = tuple(Against(**row) for row in content["rows"])
            arrays_of = {key: tensors[key].numpy() for key in ("found", "random-model") if key in tensors}
            null = None
            if about["permutations"]:
                null = Shuffled(tuple(about["subtasks"]), tensors["maxima"].numpy(), tensors["counts"].numpy())
        except (KeyError, TypeError) as error:
            raise foreign(folder / f"{NAME}.json", remedy(NAME)) from error
        return cls(about, rows, arrays_of, null)

    def __repr__(self) -> str:
        return f"{self.verdict}\n{self.table().round(3).to_string(index=False)}"

    def _repr_html_(self) -> str:
        return f"<p>{self.verdict}</p>{self.table().round(3).to_html(index=False)}"

    def _subtask(self, name: str | None) -> int:
        names = self.about["subtasks"]
        if name is not None and name not in names:
            raise SkillNeuronsError(f"a subtask is one of {', '.join(names)}; given: {name!r}.")
        return 0 if name is None else names.index(name)

    def _title(self, subtask: int) -> str:
        names = self.about["subtasks"]
        task = self.about["task"]
        return words(task if len(names) == 1 else f"{task}, {names[subtask]}")
