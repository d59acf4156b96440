"""What the search within a budget came to: every candidate that was tried, and what the chosen one costs on test.

    walk = found.walk                          # or Walk.load("runs/sst2/budget")
    walk.table()                               # a row for the dense model, one for every candidate in the order tried
    walk.loss                                  # of test accuracy, paired by sample
    walk.verdict; walk.plot()

Dev chose the candidate, so its figure on dev flatters. Test chose nothing, and is asked once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..evidence.claims import Paired, paired
from ..evidence.result import Evidence
from ..evidence.verdict import judged, points, untold, verdict
from ..figures import FAINT, drawing, legend, marker, words
from ..finding.measure import interval
from .costs import DENSE
from .small import Figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class Walk(Evidence):
    """The candidates that were tried: a row for each, after one for the dense model.

    Columns: ffns and prompt (what becomes of them), multiplications (of one input of median length), times (the dense
    model's over these), baseline (of the means), dev (accuracy), difference (to the dense model's), chosen.
    `arrays["right"]` [2, sample]: which test samples the dense model and the chosen one have right.
    """

    name: ClassVar[str] = "walk"

    @property
    def chosen(self) -> dict[str, Any]:
        """The row of the model that was chosen."""
        return next(dict(row) for row in self.rows if row["chosen"])

    @cached_property
    def loss(self) -> Paired:
        """What the chosen model costs of the dense one's accuracy on test, paired by sample."""
        dense, small = self._right
        return paired(dense - small, self.about["seed"])

    def figures(self) -> list[Figures]:
        """Of the dense model and of the chosen one, for the card."""
        shown = [self.rows[0], self.chosen][: 1 if self.rows[0]["chosen"] else 2]
        return [
            Figures(
                model=DENSE if row is self.rows[0] else f"FFNs: {row['ffns']}",
                prompt=row["prompt"], dev=row["dev"], test=float(right.mean()),
                **interval([right], self.about["seed"]),
            )
            for row, right in zip(shown, self._right, strict=False)
        ]  # fmt: skip

    @property
    def verdict(self) -> str:
        """Whether the chosen model is within the budget on test too, in plain words.

        It holds where the 95 % interval of the loss lies below what the budget allows, and does not where it is above.
        """
        dense, small = (float(own.mean()) for own in self._right)
        if dense <= self.about["majority"]:
            return untold(
                f"the dense model does not beat the commonest label ({100 * dense:.1f} % against "
                f"{100 * self.about['majority']:.1f} %), so there is nothing to lose. Tune for longer."
            )
        if self.rows[0]["chosen"]:
            tried = [row["difference"] for row in self.rows[1:]]
            nearest = f", the nearest at {100 * max(tried):+.1f} points" if tried else ""
            return verdict(
                "fails",
                "a faster model is within the budget",
                "no faster model is within the budget on dev, so that the model stays as it is",
                f"{len(tried)} tried{nearest}",
            )
        most = self.about["points"] / 100
        return verdict(
            judged(most - self.loss.high, most - self.loss.low, within=0.0),
            "on test too the chosen model is within the budget",
            "on test the chosen model loses more than the budget allows",
            f"{100 * small:.1f} % against {100 * dense:.1f} %, "
            f"{points(-self.loss.difference, -self.loss.high, -self.loss.low)}, with {self.chosen['times']:.1f} times "
            "fewer multiplications",
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Points lost on dev against the gain in multiplications, and the budget."""
        with drawing(ax, size=(6.4, 3.6)) as ax:
            dense, *tried = self.rows
            others = [row for row in tried if not row["chosen"]]
            series: dict[str, list[Mapping[str, Any]]] = {DENSE: [dense], "tried": others, "chosen": [self.chosen]}
            for index, (label, own) in enumerate(series.items()):
                times, lost = ([row["times"] for row in own], [100 * row["difference"] for row in own])
                ax.plot(times, lost, linestyle="", label=label, **marker(index))
            ax.axhline(-self.about["points"], color=FAINT, linestyle=":")
            ax.set_xlabel("times fewer multiplications than the dense model")
            ax.set_ylabel("accuracy on dev, points against it")
            ax.set_title(f"{words(self.about['task'])}: within {self.about['budget']} (dotted)")
            legend(ax)
        return ax

    def screen(self) -> RenderableType:
        """The walk, the chosen model, the verdict, and what dev and test are good for."""
        grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title_justify="left")
        grid.title = f"{self.about['task']}: {self.about['budget']} on dev, from the largest predicted gain on"
        for column in ("FFNs kept", "prompt", "times faster", "dev", "points", "in budget"):
            grid.add_column(column, justify="left" if column in ("FFNs kept", "prompt") else "right")
        for row in self.rows:
            dense = row is self.rows[0]
            grid.add_row(
                "(dense)" if dense else row["ffns"], row["prompt"], f"{row['times']:.1f}", f"{100 * row['dev']:.1f} %",
                "" if dense else f"{100 * row['difference']:+.1f}", "" if dense else "yes" if row["chosen"] else "no",
                style="bold" if row["chosen"] else None,
            )  # fmt: skip
        about = self.about
        said = (
            f"Times faster are predicted, from the multiplications for an input of {about['tokens']} tokens, dev's "
            f"median. The first within the budget is chosen; {about['left']} slower ones were not tried. Dev "
            f"({about['samples']} samples) chose, so its figure flatters: test was asked once, afterwards."
        )
        return Group(grid, Text(said, style="dim"), Text(self.verdict))

    @property
    def _right(self) -> Float[np.ndarray, "model sample"]:
        return self.arrays["right"].numpy().astype(float)
