"""Predictivity by several definitions side by side: how many neurons have how much of it, and which come first.

    found = choices(skill)                   # or pooled(model, skill): both are Distributions
    found.table()                            # a row for every (subtask, definition)
    found.orders()                           # {definition: scores [neuron]}, to perturb in
    found.verdict; found.plot(); panels(found, choices(other), ...)

As in Figures 3, 9 and 10 a histogram is the mean of the trials' own, with bars of one standard error over trials. The
table is of the predictivity averaged over trials (Eq. 6). The run's own definition stands first in both.

Equal scores are ordered at random by the run's seed; a task of several subtasks takes theirs in turn (section 3.2), so
its score is minus a neuron's rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .. import figures
from ..config import Config
from ..errors import SkillNeuronsError
from ..figures import INK, drawing, histogram, legend, line, words
from ..finding.agreement import compared, rank_correlation, shared
from ..finding.peers.result import OURS, by_score
from ..finding.ranked import ranked
from ..finding.ranking import in_turn
from ..finding.skill import SkillNeurons
from .result import Evidence, told

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EDGES = np.linspace(0, 1, 101)
"""Of the histograms: hundredths."""
Trial = Mapping[str, Float[np.ndarray, "subtask neuron"]]
"""One trial's predictivity by each definition."""


class Distributions(Evidence):
    """Predictivity by several definitions, the run's own first.

    `arrays`: `scores.<definition>` [subtask, neuron], averaged over trials, the layers' neurons one after another;
    `counts.<definition>` [trial, subtask, bin], neurons in every hundredth of predictivity.
    """

    titles: ClassVar[Mapping[str, str]]
    """The definitions as pictures name them, in order."""

    @classmethod
    def of(cls, skill: SkillNeurons, trials: Sequence[Trial]) -> Self:
        """From every trial's predictivity by each of the definitions."""
        own = ranked(skill)
        arrays, rows, neurons = {}, [], sum(skill.widths)
        top = compared(neurons)
        for name in cls.titles:
            arrays[f"scores.{name}"] = torch.from_numpy(np.mean([trial[name] for trial in trials], axis=0))
            counts = [
                [np.histogram(values.round(12), EDGES.round(12))[0] for values in trial[name]] for trial in trials
            ]
            arrays[f"counts.{name}"] = torch.from_numpy(np.array(counts))
        layers = np.repeat(np.arange(len(skill.widths)), skill.widths)
        within = np.concatenate([np.arange(width) for width in skill.widths])
        names = [subtask["name"] for subtask in skill.about["subtasks"]]
        for index, subtask in enumerate(names):
            for name in cls.titles:
                values = arrays[f"scores.{name}"][index].numpy()
                best = own.best[index] if name == OURS else by_score(values.round(12), skill.config.seed)
                rows.append(
                    {
                        "subtask": subtask,
                        "definition": name,
                        "median": float(np.median(values)),
                        "best": float(values[best[0]]),
                        "layer": int(layers[best[0]]),
                        "neuron": int(within[best[0]]),
                        "correlation": rank_correlation(own.predictivity[index].round(12), values.round(12)),
                        "top": top,
                        "overlap": shared(own.best[index], best, top),
                        "chance": top / neurons,
                    }
                )
        first = skill.scores[0]
        usual = [0.5 if first.weighted else float(own.max() / own.sum()) for own in first.totals]
        about = told(cls.version, Config(), skill) | {
            "model": skill.about["model"], "task": skill.about["task"], "subtasks": names, "trials": len(trials),
            "usual": usual, "seed": skill.config.seed,
        }  # fmt: skip
        return cls(about, rows, arrays)

    def scores(self, definition: str) -> Float[np.ndarray, "subtask neuron"]:
        """Predictivity by a definition, averaged over trials; the layers' neurons one after another.

        Raises `SkillNeuronsError` for a definition that is not among them.
        """
        if definition not in self.titles:
            raise SkillNeuronsError(f"a definition is one of {', '.join(self.titles)}; given: {definition!r}.")
        return self.arrays[f"scores.{definition}"].numpy()

    def orders(self, subtask: str | None = None) -> dict[str, Float[np.ndarray, " neuron"]]:
        """The orders that are not the run's own: scores [neuron], larger ones first; of one subtask or of the task."""
        seed = self.about["seed"]
        if subtask is not None:
            index = self._subtask(subtask)
            return {name: self.scores(name)[index].round(12) for name in self.titles if name != OURS}
        return {name: task_order(self.scores(name).round(12), seed) for name in self.titles if name != OURS}

    def screen(self) -> RenderableType:
        """The table and the verdict, for a terminal."""
        grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        several = len(self.about["subtasks"]) > 1
        for column in (*(["subtask"] if several else []), "predictivity by"):
            grid.add_column(column)
        top = self.rows[0]["top"]
        for column in ("median", "best", "layer, neuron", "rank correlation", f"top {top} in common"):
            grid.add_column(column, justify="right")
        for row in self.rows:
            correlation = "" if row["correlation"] is None else f"{row['correlation']:.2f}"
            alike = ("", "") if row["definition"] == OURS else (correlation, f"{100 * row['overlap']:.1f} %")
            grid.add_row(
                *([row["subtask"]] if several else []), self.titles[row["definition"]], f"{100 * row['median']:.1f} %",
                f"{100 * row['best']:.1f} %", f"{row['layer']}, {row['neuron']}", *alike,
            )  # fmt: skip
        last = ("by chance", "", "", "", "", f"{100 * self.rows[0]['chance']:.1f} %")
        grid.add_row(*([""] if several else []), *last, style="dim")
        return Group(grid, Text(self.verdict))

    def plot(self, ax: Axes | None = None, subtask: str | None = None) -> Axes:
        """How many neurons have which predictivity by each definition, on dev; of a subtask, without one the first.

        Bars of one standard error over trials, where there are several; a dotted line at the share of the commonest
        label, or at half where both sides weigh the same.
        """
        with drawing(ax) as ax:
            self._histograms(ax, self._subtask(subtask))
            legend(ax)
        return ax

    def _histograms(self, ax: Axes, index: int) -> None:
        middles, trials = 100 * (EDGES[:-1] + EDGES[1:]) / 2, self.about["trials"]
        seen = []
        for series, (name, title) in enumerate(self.titles.items()):
            counts = self.arrays[f"counts.{name}"][:, index].numpy()
            mean = counts.mean(0)
            some = mean > 0
            seen.append(some)
            histogram(ax, 100 * EDGES, mean, series, title)
            if trials > 1:
                error = counts.std(0, ddof=1) / trials**0.5
                shift = (series - (len(self.titles) - 1) / 2) / (1 + len(self.titles))
                colour = line(series)["color"]
                ax.errorbar(middles[some] + shift, mean[some], error[some], linestyle="", ecolor=colour, elinewidth=1.0)
        ax.axvline(
            100 * self.about["usual"][index], color=INK, linestyle=":", linewidth=1.2, label="one answer for all"
        )
        filled = np.flatnonzero(np.any(seen, axis=0))
        ax.set_xlim(100 * EDGES[filled[0]] - 1, 100 * EDGES[filled[-1] + 1] + 1)
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.8 / trials)
        ax.set_xlabel("predictivity on dev, %")
        ax.set_ylabel("neurons")
        task, name = self.about["task"], self.about["subtasks"][index]
        ax.set_title(words(task if task == name else f"{task}: {name}"))

    def _subtask(self, name: str | None) -> int:
        names = self.about["subtasks"]
        if name is not None and name not in names:
            raise SkillNeuronsError(f"a subtask is one of {', '.join(names)}; given: {name!r}.")
        return 0 if name is None else names.index(name)


def task_order(scores: Float[np.ndarray, "subtask neuron"], seed: int) -> Float[np.ndarray, " neuron"]:
    """One score a neuron for the whole task, larger ones first.

    A single subtask's scores as they are; of several, minus the rank in the order that takes their neurons in turn.
    """
    if len(scores) == 1:
        return scores[0]
    order = [neuron for _, neuron in in_turn([by_score(own, seed) for own in scores])]
    found = np.empty(len(order))
    found[order] = -np.arange(len(order), dtype=np.float64)
    return found


def panels(*found: Distributions, columns: int = 3) -> Axes:
    """The pictures of several results side by side, a panel for every task and subtask; the first panel's axes.

    The results are of one kind. Raises `SkillNeuronsError` where they are not, or where there is none.
    """
    kinds = sorted({own.name for own in found})
    if len(kinds) != 1:
        given = f"given: {' and '.join(kinds) or 'none'}"
        raise SkillNeuronsError(f"panels stand side by side for results of one kind; {given}. Draw them one by one.")
    each = [(own, index) for own in found for index in range(len(own.about["subtasks"]))]
    columns = min(columns, len(each))
    with figures.panels(len(each), columns, size=(3.6 + 1.8 / columns, 2.9)) as axes:
        for ax, (own, index) in zip(axes, each, strict=True):
            own._histograms(ax, index)
        legend(axes[columns - 1])
    return axes[0]
