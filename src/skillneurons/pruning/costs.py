"""What pruning costs: the accuracy of every model that was tried, beside the dense one's (Table 4).

    costs = pruned.costs                       # or Costs.load("runs/sst2/pruned")
    costs.table()                              # a row for every (trial, baseline, retuned)
    costs.means()                              # over trials: accuracy on dev and test, and the loss, with intervals
    costs.verdict; costs.plot()

The dense model's answers are those of the run. Neurons, prompts and the baseline were all chosen on dev: figures on
test do not flatter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Float
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..evidence.claims import Paired, paired
from ..evidence.result import Evidence
from ..evidence.verdict import POINT, judged, points, untold, verdict
from ..figures import FAINT, drawing, intervals, name_rows, words
from ..finding.measure import interval
from .small import Figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DENSE = "dense"


@dataclass(frozen=True, eq=False, repr=False)
class Costs(Evidence):
    """Accuracies of pruned models: a row for every (trial, baseline, retuned); `arrays["right"]` [row, sample]."""

    name: ClassVar[str] = "costs"

    def means(self) -> pd.DataFrame:
        """One row per (baseline, retuned), the dense model first.

        Columns: dev and test (over trials), std (of test over trials), low and high (95 % over samples), loss (of test
        accuracy, against dense, paired by sample) with loss_low, loss_high and p, parameters, share (of the dense
        model's).
        """
        table, rows = self.table(), []
        for baseline, retuned in self._kinds():
            own = table[(table["baseline"] == baseline) & (table["retuned"] == retuned)]
            right, loss = self._right(baseline, retuned), self.loss(baseline, retuned)
            rows.append(
                {
                    "baseline": baseline, "retuned": retuned, "dev": own["dev"].mean(), "test": right.mean(),
                    "std": own["test"].std(ddof=1), **interval([right], self.about["seed"]), "loss": loss.difference,
                    "loss_low": loss.low, "loss_high": loss.high, "p": loss.p,
                    "parameters": int(own["parameters"].iloc[0]), "share": own["share"].iloc[0],
                }
            )  # fmt: skip
        return pd.DataFrame(rows)

    def figures(self) -> list[Figures]:
        """Of the dense model and of the pruned one, for the card."""
        shown = [(DENSE, False), (self.about["baseline"], self.about["retuned"])]
        return [
            Figures(
                model=DENSE if row["baseline"] == DENSE else f"pruned, `{row['baseline']}`",
                prompt="tuned further" if row["retuned"] else "the run's",
                **{name: row[name] for name in ("dev", "test", "low", "high")},
            )
            for row in self.means().to_dict("records")
            if (row["baseline"], row["retuned"]) in shown
        ]

    def loss(self, baseline: str, retuned: bool) -> Paired:
        """What pruning with this baseline costs of the dense model's test accuracy, paired by sample."""
        return self._losses[baseline, retuned]

    @cached_property
    def _losses(self) -> dict[tuple[str, bool], Paired]:
        dense = self._right(DENSE, False)
        return {kind: paired(dense - self._right(*kind), self.about["seed"]) for kind in self._kinds()}

    @property
    def verdict(self) -> str:
        """Whether the pruned model answers as well as the dense one to within a point, in plain words.

        It holds where the 95 % interval of the loss lies below one point, and does not where it lies above.
        """
        baseline, retuned = self.about["baseline"], self.about["retuned"]
        loss = self.loss(baseline, retuned)
        dense, pruned = (float(self._right(*kind).mean()) for kind in ((DENSE, False), (baseline, retuned)))
        if dense <= self.about["majority"]:
            return untold(
                f"the dense model does not beat the commonest label ({100 * dense:.1f} % against "
                f"{100 * self.about['majority']:.1f} %), so there is nothing to lose. Tune for longer."
            )
        share = next(row["share"] for row in self.rows if row["baseline"] == baseline)
        return verdict(
            judged(POINT - loss.high, POINT - loss.low, within=0.0),
            "the pruned model answers as well as the dense one, to within a point",
            "pruning costs more than a point",
            f"{100 * pruned:.1f} % against {100 * dense:.1f} % on test, "
            f"{points(-loss.difference, -loss.high, -loss.low)}, with {100 * share:.1f} % of the parameters (neurons "
            f"frozen at {_named(baseline)}, prompts {'tuned further' if retuned else 'as they were'})",
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """The accuracies on test, with 95 % intervals over samples."""
        means = self.means()
        with drawing(ax, size=(6.4, 3.0)) as ax:
            bounds = 100 * means[["low", "high"]].to_numpy()
            intervals(ax, 0, 1, "", 100 * means["test"].to_numpy(), bounds)
            names = [
                f"{row['baseline']}{', tuned further' if row['retuned'] else ''} ({100 * row['share']:.1f} %)"
                for row in means.to_dict("records")
            ]
            name_rows(ax, names)
            ax.axvline(100 * self.about["majority"], color=FAINT, linestyle=":")
            ax.set_xlabel("accuracy on test, % (dotted: one answer for all)")
            ax.set_title(f"{words(self.about['task'])}: pruned (share of parameters)")
        return ax

    def screen(self) -> RenderableType:
        """The accuracies, the losses, and the verdict."""
        grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title_justify="left")
        layers, config = self.about["layers"], self.about["config"]
        grid.title = (
            f"{self.about['task']}: {100 * config['keep']:g} % of the neurons kept in layers "
            f"{', '.join(map(str, layers))}"
        )
        for column in ("frozen at", "prompt", "dev", "test", "points against dense", "parameters"):
            grid.add_column(column, justify="left" if column in ("frozen at", "prompt") else "right")
        for row in self.means().to_dict("records"):
            dense = row["baseline"] == DENSE
            chosen = (row["baseline"], row["retuned"]) == (self.about["baseline"], self.about["retuned"])
            grid.add_row(
                "(dense)" if dense else _named(row["baseline"]), "tuned further" if row["retuned"] else "the run's",
                f"{100 * row['dev']:.1f} %", f"{100 * row['test']:.1f} %",
                "" if dense else points(-row["loss"], -row["loss_high"], -row["loss_low"]).removesuffix(" points"),
                f"{100 * row['share']:.1f} %", style="bold" if chosen else None,
            )  # fmt: skip
        return Group(grid, Text(self.verdict))

    def _kinds(self) -> list[tuple[str, bool]]:
        return list(dict.fromkeys((row["baseline"], row["retuned"]) for row in self.rows))

    def _right(self, baseline: str, retuned: bool) -> Float[np.ndarray, " sample"]:
        """How often each sample was right, over trials."""
        own = [(row["baseline"], row["retuned"]) == (baseline, retuned) for row in self.rows]
        return self.arrays["right"].numpy()[np.array(own)].mean(0)


def _named(baseline: str) -> str:
    return {"one": "one mean", "positions": "a mean per position"}[baseline]
