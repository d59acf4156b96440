"""How alike tasks order the neurons: Spearman's rank correlation of every two runs, layer by layer (section 4.3).

    found = correlate(sst2, imdb, mnli, qnli)
    found.table()                            # a row per two runs and layer; without a layer, their mean
    found.same_kind_test(); found.verdict    # do tasks of one kind order them more alike?
    found.layers()                           # the same in each layer
    found.plot(); found.plot(layer=11); found.plot_layers()

In layer L with neurons N of it, ranks R of a task's predictivities (Eq. 6), equal ones sharing their mean rank:

    rho(one, other, L) = corr( R_one(N), R_other(N) )         Figure 14
    rho(one, other)    = mean over L of rho(one, other, L)    Figure 5

A task of several subtasks has no predictivity of its own: its ranking, which takes the subtasks' in turn, stands for
it. A layer in which all neurons of a run are equal has no correlation and is left out of the mean. `same_kind_test` is
that of `skillneurons.evidence.groupings`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from pydantic import Field
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..config import Config
from ..errors import SkillNeuronsError
from ..figures import drawing, panels
from ..finding.agreement import comparable, rank_correlation, ranking_of
from ..finding.skill import SkillNeurons
from .groupings import MOST, Grouped, grouped
from .heat import by_kind, heat
from .result import BetweenTasks, told
from .verdict import of_kinds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABEL = "Spearman's rank correlation"


class CorrelateConfig(Config):
    """How the test over kinds of tasks is made."""

    groupings: Annotated[int, Field(ge=100)] = MOST
    """Groupings that are gone through one by one; of more, as many are drawn at random."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of groupings that are drawn."""


@dataclass(frozen=True, eq=False, repr=False)
class Correlation(BetweenTasks):
    """The rank correlation of every two runs; `arrays["correlation"]` [layer, task, task] has it layer by layer."""

    name: ClassVar[str] = "correlation"

    def values(self, layer: int | None = None) -> Float[np.ndarray, "task task"]:
        """The correlations of a layer, from 0; without one, their mean over layers. NaN where there is none.

        Raises `SkillNeuronsError` for a layer that the model does not have.
        """
        every = self.arrays["correlation"].numpy()
        if layer is None:
            return mean_over_layers(every)
        if not 0 <= layer < len(every):
            raise SkillNeuronsError(f"{self.about['model']} has layers 0 to {len(every) - 1}; given: layer {layer}.")
        return every[layer]

    def same_kind_test(self, layer: int | None = None) -> Grouped:
        """Whether tasks of one kind are more alike, in a layer or, without one, on the mean over layers.

        Raises `SkillNeuronsError` for tasks without a kind, and where no two tasks share a kind, or all do.
        """
        config = CorrelateConfig.make(**self.about["config"])
        return grouped(self.values(layer), self.kinds, names=self.tasks, most=config.groupings, seed=config.seed)

    @property
    def verdict(self) -> str:
        """Whether tasks of one kind order the neurons more alike, in plain words (see `of_kinds`)."""
        return of_kinds(
            self.same_kind_test,
            "tasks of the same kind order the neurons more alike than tasks of different kinds",
            "tasks of different kinds order the neurons as alike as tasks of the same kind",
        )

    def layers(self) -> pd.DataFrame:
        """One row a layer: the same test in it; see `Grouped` for the columns.

        The paper finds layers more task-specific the higher they are (appendix E). Raises as `same_kind_test` does.
        """
        tests = [asdict(self.same_kind_test(layer)) for layer in range(len(self.arrays["correlation"]))]
        return pd.DataFrame(tests).rename_axis("layer").reset_index()

    def plot(self, ax: Axes | None = None, layer: int | None = None) -> Axes:
        """A heat map of the tasks, grouped by kind: the mean over layers (Figure 5), or one layer's."""
        side = 2.2 + 0.62 * len(self.tasks)
        values = self.values(layer)
        with drawing(ax, size=(side + 1.0, side)) as ax:
            heat(ax, values, self.tasks, self.kinds, label=LABEL)
            ax.set_title("Mean over the layers" if layer is None else f"Layer {layer}")
        return ax

    def plot_layers(self) -> Axes:
        """A heat map for each layer, the lowest first, all on one scale of colours (Figure 14). Returns the first."""
        every = self.arrays["correlation"].numpy()
        side = 1.6 + 0.5 * len(self.tasks)
        between = every[:, ~np.eye(len(self.tasks), dtype=bool)]
        known = between[~np.isnan(between)]
        span = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
        with panels(len(every), size=(side, side)) as axes:
            for layer, (ax, values) in enumerate(zip(axes, every, strict=True)):
                heat(ax, values, self.tasks, self.kinds, label=LABEL, span=span, key=False)
                ax.set_title(f"Layer {layer}")
        return axes[0]

    def screen(self) -> RenderableType:
        """The mean over layers of every two runs, and the verdict, for a terminal."""
        order, values = by_kind(self.kinds), self.values()
        grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        grid.add_column("kind", style="dim")
        grid.add_column("")
        for column in order:
            grid.add_column(self.tasks[column], justify="right")
        for row in order:
            cells = ["" if row == column else f"{values[row, column]:.2f}" for column in order]
            grid.add_row(self.kinds[row] or "", self.tasks[row], *cells)
        title = f"{LABEL}, mean over {len(self.arrays['correlation'])} layers"
        return Group(Text(title, style="bold"), grid, Text(self.verdict))


def correlate(*skills: SkillNeurons, config: CorrelateConfig | None = None, **options: Any) -> Correlation:
    """Compare how several runs of one model order its neurons, in each layer and on the mean over layers.

    Options are those of `CorrelateConfig` (`groupings`, `seed`), or `config` gives them all at once. Raises
    `SkillNeuronsError` for fewer than two runs, and for runs of different models.
    """
    config = config or CorrelateConfig.make(**options)
    names, kinds = comparable(skills), [skill.about["kind"] for skill in skills]
    every = layerwise(skills)
    about = told(Correlation.version, config, *skills)
    about |= {"model": skills[0].about["model"], "tasks": names, "kinds": kinds}
    mean = mean_over_layers(every)
    rows = [
        {
            "one": names[one], "other": names[other], "kind_one": kinds[one], "kind_other": kinds[other],
            "layer": layer, "correlation": None if np.isnan(own[one, other]) else float(own[one, other]),
        }
        for one, other in combinations(range(len(names)), 2)
        for layer, own in [(None, mean), *enumerate(every)]
    ]  # fmt: skip
    return Correlation(about, rows, {"correlation": torch.from_numpy(every)})


def layerwise(skills: Sequence[SkillNeurons]) -> Float[np.ndarray, "layer task task"]:
    """Spearman's correlation of every two runs' own rankings, in each layer; NaN where all neurons of one are equal."""
    values = [ranking_of(skill)[0].round(12) for skill in skills]
    ends = np.cumsum(skills[0].widths)
    found = np.full((len(ends), len(skills), len(skills)), np.nan)
    for layer, (end, width) in enumerate(zip(ends, skills[0].widths, strict=True)):
        for one in range(len(skills)):
            for other in range(one + 1):
                own = rank_correlation(*(values[task][end - width : end] for task in (one, other)))
                found[layer, one, other] = found[layer, other, one] = np.nan if own is None else own
    return found


def mean_over_layers(values: Float[np.ndarray, "layer task task"]) -> Float[np.ndarray, "task task"]:
    """The mean over the layers that have a value; NaN where none has."""
    told = ~np.isnan(values)
    return np.where(told.any(0), np.where(told, values, 0.0).sum(0) / np.maximum(told.sum(0), 1), np.nan)
