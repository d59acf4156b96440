"""What the guide to transfer comes to: ON and zero-shot transfer of every two tasks, how well the one tells the other.

    found.table()                          # a row for every (target, source)
    found.suggest("sst2")                  # its sources, the best one first
    found.indicator(); found.gain()        # rank correlation with transferability, and what the restriction gains
    found.verdict; found.plot()
    found.save("runs/transfer"); Transfer.load("runs/transfer")

Matrices are [target, source]: `on` over all neurons, `on_restricted` over the target's skill neurons, `accuracy` of the
source's prompts on the target's test samples, `relative` that accuracy over the one of the target's own prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..errors import SkillNeuronsError
from ..evidence.heat import heat
from ..evidence.result import BetweenTasks
from ..evidence.verdict import Outcome, judged, untold, verdict
from ..figures import drawing, panels
from ..finding.nulls.least import LEVEL
from .config import TransferConfig
from .indicator import Gained, Indicated, by_target, gained, indicated

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Indicator = Literal["on", "on_restricted"]
Matrix = Literal["on", "on_restricted", "accuracy", "relative"]
LABELS = MappingProxyType(
    {
        "on": "ON, all neurons",
        "on_restricted": "ON, skill neurons of the target",
        "accuracy": "accuracy on test",
        "relative": "accuracy over that of the target's own prompts",
    }
)
LITTLE = 0.05
"""A difference of rank correlations that is too little to matter."""


@dataclass(frozen=True, eq=False, repr=False)
class Transfer(BetweenTasks):
    """ON and zero-shot transfer between the tasks of several runs; `arrays` has the matrices [target, source]."""

    name: ClassVar[str] = "transfer"

    def table(self) -> pd.DataFrame:
        """One row for every (target, source), a target under its own prompts among them.

        Columns: on and on_restricted (of a task with itself over different trials); accuracy on the target's test
        samples, a mean over the source's trials, their std, its 95 % interval (low, high) over samples; relative and
        difference, that accuracy over and less the one of the target's own prompts.
        """
        numbers = ("on", "on_restricted", "accuracy", "std", "low", "high", "relative", "difference")
        return super().table().astype(dict.fromkeys(numbers, float))

    def matrix(self, name: Matrix) -> Float[np.ndarray, "target source"]:
        """One of the matrices. Raises `SkillNeuronsError` for a name that there is not."""
        if name not in LABELS:
            raise SkillNeuronsError(f"a matrix is one of {', '.join(LABELS)}; given: {name!r}.")
        return self.arrays[name].numpy()

    def suggest(self, target: str) -> pd.DataFrame:
        """The target's sources, the best first: by accuracy, equal ones by `on_restricted`; columns as in `table`.

        Raises `SkillNeuronsError` for a task that there is not.
        """
        if target not in self.tasks:
            raise SkillNeuronsError(f"a target is one of {', '.join(self.tasks)}; given: {target!r}.")
        rows = self.table()
        rows = rows[(rows["target"] == target) & (rows["source"] != target)]
        return rows.sort_values(["accuracy", "on_restricted"], ascending=False, kind="stable", ignore_index=True)

    def correlations(self) -> pd.DataFrame:
        """One row a target: Spearman's rank correlation of either ON with transferability over its sources.

        NaN where all sources are equal in one of the two.
        """
        found = {name: by_target(self.matrix(name), self.matrix("relative")) for name in ("on", "on_restricted")}
        return pd.DataFrame({"target": self.tasks, **found})

    def indicator(self, name: Indicator = "on_restricted") -> Indicated:
        """How well an ON tells transferability: the mean of `correlations` with its interval over tasks and its p.

        Raises `SkillNeuronsError` for another name.
        """
        if name not in self._indicators:
            raise SkillNeuronsError(f"an indicator is one of {', '.join(self._indicators)}; given: {name!r}.")
        return self._indicators[name]

    def gain(self) -> Gained:
        """How much better ON tells transferability over the target's skill neurons than over all neurons."""
        return gained(self.matrix("on_restricted"), self.matrix("on"), self.matrix("relative"), self._config)

    @property
    def verdict(self) -> str:
        """Whether ON over skill neurons tells transferability, and better than over all neurons, in plain words.

        The first holds with p at most 0.05, and does not where the correlation is not above 0 or half of all
        relabellings do as well. The second is told by its interval; 0.05 is too little to matter. Targets whose own
        prompts do not beat the commonest label are named.
        """
        own, every, gain = self.indicator(), self.indicator("on"), self.gain()
        if np.isnan(own.correlation):
            return untold(
                "a rank correlation takes a target with two sources that differ, in ON and in transfer. Give three "
                "runs at least, of prompts that have learned their tasks."
            )
        said = [
            verdict(
                _outcome(own),
                "prompts transfer better the more of the target's active skill neurons they share",
                "prompts that share more of the target's active skill neurons transfer no better",
                f"rank correlation {_told(own)}",
            ),
            verdict(
                judged(gain.low, gain.high, within=LITTLE),
                "skill neurons tell transferability better than all neurons",
                "all neurons tell transferability as well as skill neurons",
                f"{gain.difference:+.2f}{_interval(gain, '+.2f')} beyond {_told(every)}",
            ),
        ]
        if weak := [task for task, own, most in self._alone() if own <= most]:
            said.append(f"On {', '.join(weak)} the own prompts do not beat the commonest label.")
        return " ".join(said)

    def plot(self, ax: Axes | None = None, matrix: Matrix | None = None) -> Axes:
        """Heat maps of ON over the target's skill neurons and of zero-shot transfer, side by side; returns the first.

        With `ax` or `matrix` one matrix alone, `relative` unless told otherwise.
        """
        size = (3.4 + 0.62 * len(self.tasks), 2.4 + 0.62 * len(self.tasks))
        if ax is None and matrix is None:
            with panels(2, size=size) as axes:
                self._draw(axes[0], "on_restricted")
                self._draw(axes[1], "relative")
            return axes[0]
        with drawing(ax, size=size) as ax:
            self._draw(ax, matrix or "relative")
        return ax

    def screen(self) -> RenderableType:
        """For each target its own prompts, its commonest label, the best source, what ON picks; then the verdict."""
        grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title_justify="left")
        grid.title = "Which prompts to start from: accuracy on the target's test samples, %"
        for column in ("target", "own", "commonest", "start from", "with them", "ON picks"):
            left = column in ("target", "start from", "ON picks")
            grid.add_column(column, justify="left" if left else "right", no_wrap=column == "with them")
        none = []
        for task, own, most in self._alone():
            best, *_ = sources = self.suggest(task).to_dict("records")
            picked = max(sources, key=lambda source: source["on_restricted"])
            grid.add_row(
                task, f"{100 * own:.1f}", f"{100 * most:.1f}", best["source"],
                f"{100 * best['accuracy']:.1f} ({100 * best['low']:.1f} to {100 * best['high']:.1f})",
                f"{picked['source']}, {100 * picked['accuracy']:.1f}",
            )  # fmt: skip
            none += [task] if best["low"] <= most else []
        beaten = [f"No other task's prompts beat the commonest label of {', '.join(none)}."] if none else []
        return Group(grid, *map(Text, beaten), Text(self.verdict))

    def _alone(self) -> list[tuple[str, float, float]]:
        """Each task, the accuracy of its own prompts, the share of its commonest label."""
        own = np.diag(self.matrix("accuracy")).tolist()
        return list(zip(self.tasks, own, self.about["majority"], strict=True))

    @cached_property
    def _config(self) -> TransferConfig:
        return TransferConfig.make(**self.about["config"])

    @cached_property
    def _indicators(self) -> dict[str, Indicated]:
        relative = self.matrix("relative")
        return {name: indicated(self.matrix(name), relative, self._config) for name in ("on", "on_restricted")}

    def _draw(self, ax: Axes, name: Matrix) -> None:
        heat(ax, self.matrix(name), self.tasks, self.kinds, label=LABELS[name])
        ax.set_xlabel("prompts of")
        ax.set_ylabel("target")


def _outcome(found: Indicated) -> Outcome:
    if found.p <= LEVEL:
        return "holds"
    fewest = 1 / found.permutations > LEVEL  # no p could be small enough
    return "fails" if not fewest and (found.correlation <= 0 or found.p >= 0.5) else "open"


def _told(found: Indicated) -> str:
    drawn = "" if found.exact else " drawn"
    p = f"p {found.p:.2g} over {found.permutations} relabellings{drawn}"
    return f"{found.correlation:.2f}{_interval(found, '.2f')}, {p}"


def _interval(found: Indicated | Gained, form: str) -> str:
    return "" if np.isnan(found.low) else f" ({found.low:{form}} to {found.high:{form}})"
