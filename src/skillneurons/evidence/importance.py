"""Neuronal importance: how far a task hangs on the neurons of another (paper, section 4.3, Figures 6 and 8).

    found = importance(model, sst2, imdb, mnli, out="runs/importance")
    found.table()                            # a row for every (evaluation, source)
    found.same_kind_test(); found.verdict; found.plot()
    mean_importance(importance(..., tuned=adapters), importance(..., tuned=biases))          # Figure 8

Neurons are perturbed in the order of a source task while an evaluation task's own prompts answer. With accuracies
A(source, share) and those of random orders A(random, share), over the range of shares,

    area(source)       = mean over shares of A(random, share) - A(source, share)     (the trapezoid)
    importance(source) = (area(source) - mean of the areas) / their standard deviation

mean and standard deviation over the sources of one evaluation task: z-scores, for tasks differ in how far they can
fall. An evaluation task is its own source, too. Curves are kept in `out`, one folder a task, and are not made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..errors import SkillNeuronsError
from ..figures import drawing
from ..finding.agreement import comparable
from ..finding.skill import SkillNeurons
from ..models import Backbone
from ..tuning.tuned import Tuned
from .config import PerturbConfig
from .curves import SKILL, Curves, perturb
from .groupings import Grouped, grouped
from .heat import by_kind, heat
from .orders import of_run
from .result import BetweenTasks, told
from .verdict import of_kinds

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class Importance(BetweenTasks):
    """Areas and z-scores; `arrays["area"]` and `arrays["score"]` [evaluation, source]."""

    name: ClassVar[str] = "importance"

    @property
    def areas(self) -> Float[np.ndarray, "evaluation source"]:
        """Accuracy lost to a source's order beyond what random orders cost, on the average over the shares."""
        return self.arrays["area"].numpy()

    @property
    def scores(self) -> Float[np.ndarray, "evaluation source"]:
        """The areas as z-scores over the sources of each evaluation task; 0 where all are equal."""
        return self.arrays["score"].numpy()

    def same_kind_test(self) -> Grouped:
        """Whether sources of the evaluation task's kind matter more than others, by z-scores; itself is left out.

        Raises `SkillNeuronsError` for tasks without a kind, and where no two tasks share a kind, or all do.
        """
        return grouped(self.scores, self.kinds, names=self.tasks, seed=self.about["config"]["seed"])

    @property
    def verdict(self) -> str:
        """Whether neurons of tasks of one kind matter more to each other, in plain words (see `of_kinds`)."""
        return of_kinds(
            self.same_kind_test,
            "neurons of tasks of the same kind matter more to a task than those of other kinds",
            "neurons of tasks of other kinds matter as much to a task as those of its own",
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """A heat map: evaluation tasks as rows, sources as columns (Figures 6 and 8)."""
        side = 2.2 + 0.62 * len(self.tasks)
        with drawing(ax, size=(side + 1.0, side)) as ax:
            heat(ax, self.scores, self.tasks, self.kinds, label="importance (z)", centred=True, diagonal=True)
            ax.set_xlabel("neurons of")
            ax.set_ylabel("evaluated on")
            by = "" if self.about["by"] == "prompts" else f" ({self.about['by']})"
            ax.set_title(f"Neuronal importance{by}, {self.about['edit']}")
        return ax

    def screen(self) -> RenderableType:
        """The z-scores and the verdict, for a terminal."""
        order, scores = by_kind(self.kinds), self.scores
        grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        grid.add_column("evaluated on")
        for column in order:
            grid.add_column(self.tasks[column], justify="right")
        for row in order:
            grid.add_row(self.tasks[row], *(f"{scores[row, column]:+.2f}" for column in order))
        by = "" if self.about["by"] == "prompts" else f", {self.about['by']}"
        title = Text(f"Neuronal importance of the columns' neurons{by} (z)", style="bold")
        return Group(title, grid, Text(self.verdict))


def importance(
    model: Backbone,
    *skills: SkillNeurons,
    tuned: Sequence[Sequence[Tuned]] = (),
    config: PerturbConfig | None = None,
    out: str | Path | None = None,
    **options: Any,
) -> Importance:
    """Perturb each run's task in the order of every run, and hold the areas against each other.

    Options are those of `PerturbConfig`; `tuned`: for each run, what answers in its prompts' place. Raises
    `SkillNeuronsError` for fewer than two runs, for runs of different models, and where `tuned` is not one a run.
    """
    config = config or PerturbConfig.make(**options)
    names = comparable(skills)
    if tuned and len(tuned) != len(skills):
        raise SkillNeuronsError(
            f"what answers in the prompts' place is given for each run; {len(skills)} runs, {len(tuned)} given."
        )
    curves = {}
    for at, (name, skill) in enumerate(zip(names, skills, strict=True)):
        others = [of_run(names[other], source, config.scope) for other, source in enumerate(skills) if other != at]
        folder = None if out is None else Path(out) / name
        own = tuned[at] if tuned else ()
        curves[name] = perturb(model, skill, orders=others, tuned=own, config=config, out=folder)
    return of_curves(curves, *skills)


def of_curves(curves: Mapping[str, Curves], *skills: SkillNeurons) -> Importance:
    """The importance that curves of every evaluation task tell; each has an order named after every other task."""
    names = list(curves)
    first = curves[names[0]].about
    claims = {(evaluation, source): curves[evaluation].advantage(SKILL if source == evaluation else source)
              for evaluation in names for source in names}  # fmt: skip
    areas = np.array([[claims[evaluation, source].difference for source in names] for evaluation in names])
    scores = standard(areas)
    about = told(Importance.version, PerturbConfig.make(**first["config"]), *skills) | {
        "model": skills[0].about["model"], "tasks": names, "kinds": [skill.about["kind"] for skill in skills],
        "edit": first["edit"], "by": first["by"],
    }  # fmt: skip
    rows = [
        {
            "evaluation": evaluation, "source": source, "area": claim.difference, "low": claim.low,
            "high": claim.high, "p": claim.p, "importance": float(score),
        }
        for ((evaluation, source), claim), score in zip(claims.items(), scores.ravel(), strict=True)
    ]  # fmt: skip
    return Importance(about, rows, {"area": torch.from_numpy(areas), "score": torch.from_numpy(scores)})


def mean_importance(*found: Importance) -> Importance:
    """The mean of several importances of the same runs, such as under adapters and under BitFit (Figure 8).

    Areas and z-scores are averaged one by one; there is no interval. Raises `SkillNeuronsError` where the runs, or
    what was done to the neurons, differ.
    """
    if len({(own.about["identity"], own.about["edit"]) for own in found}) != 1:
        raise SkillNeuronsError(
            "importances are averaged over ways of tuning: the runs are the same, in one order, and so is the edit. "
            "Make them with the same runs and options."
        )
    about = {**found[0].about, "by": " and ".join(own.about["by"] for own in found)}
    areas, scores = (np.mean([own.arrays[name].numpy() for own in found], axis=0) for name in ("area", "score"))
    rows = [
        {"evaluation": row["evaluation"], "source": row["source"], "area": float(area), "importance": float(score)}
        for row, area, score in zip(found[0].rows, areas.ravel(), scores.ravel(), strict=True)
    ]
    return Importance(about, rows, {"area": torch.from_numpy(areas), "score": torch.from_numpy(scores)})


def standard(areas: Float[np.ndarray, "evaluation source"]) -> Float[np.ndarray, "evaluation source"]:
    """Each row less its mean, over its standard deviation (of all its entries, no one taken off their number)."""
    spread = areas.std(1, keepdims=True)
    varied = spread > 1e-12  # beyond rounding
    return np.where(varied, (areas - areas.mean(1, keepdims=True)) / np.where(varied, spread, 1.0), 0.0)
