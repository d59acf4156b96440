"""The fastest model within a budget: candidates from the largest predicted gain on, the first that obeys it on dev.

    found = within(model, skill, budget="accuracy -1.0", out="runs/sst2/budget")
    found                                      # what was tried; found.table(), found.verdict, found.plot()
    evaluate(found.small.model, skill.task, found.small.prompt)
    found.save("small")                        # a folder to ship

What a candidate gains is told beforehand by its multiplications for one input of dev's median length, counted in a pass
of a model like the one that would be shipped. Each is built, tuned and evaluated on dev, the fastest first. The walk
ends with the first that loses no more than the budget allows against the trial's own prompt on the whole model, and
where none does, with that. The chosen one answers test, once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import UInt8
from rich.console import RenderableType
from torch import Tensor

from ..errors import SkillNeuronsError
from ..evidence.result import told
from ..finding.skill import SkillNeurons
from ..finding.standing import refuse_foreign, refuse_trial
from ..models import Backbone
from ..progress import say
from ..tuning.evaluate import evaluate
from ..tuning.prompt import Prompt
from .candidates import Candidate
from .config import PruneConfig, allowed, obeys
from .search import Search, Tried
from .small import Small
from .walk import Walk

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class Within:
    """The fastest model within a budget: `small`, and the `walk` that led to it."""

    walk: Walk
    small: Small

    def save(self, folder: str | Path) -> Path:
        """Write the model as a folder to ship; see `load_pruned`.

        Raises `SkillNeuronsError` where the folder holds something else, or cannot be written.
        """
        return self.small.save(folder)

    def table(self) -> pd.DataFrame:
        """One row for the dense model and for every candidate that was tried; see `Walk`."""
        return self.walk.table()

    @property
    def verdict(self) -> str:
        """Whether the budget holds on test too, in plain words."""
        return self.walk.verdict

    def plot(self, ax: Axes | None = None) -> Axes:
        """Points lost on dev against the gain in multiplications."""
        return self.walk.plot(ax)

    def screen(self) -> RenderableType:
        """The walk, the chosen model and the verdict."""
        return self.walk.screen()

    def __repr__(self) -> str:
        return f"{self.walk!r}\n{self.verdict}"


def within(
    model: Backbone,
    skill: SkillNeurons,
    *,
    budget: str = "accuracy -1.0",
    trial: int | None = None,
    config: PruneConfig | None = None,
    out: str | Path | None = None,
    **options: Any,
) -> Within:
    """The fastest model of a run's trial that loses no more accuracy on dev than `budget` allows.

    `trial`: without it the best on dev. Options are those of `PruneConfig`; `keep` is the smallest share that stays,
    `layers` the most that are pruned. With `out` every finished candidate is kept there: the same call goes on where a
    killed one stopped, and another budget begins with what is known. Where no candidate obeys the budget the result is
    the model as it is. Raises `SkillNeuronsError` for a budget that is none, a trial that the run does not have, layers
    that the model does not have, and where the run is of another model.
    """
    points = allowed(budget)
    config = config or PruneConfig.make(**options)
    refuse_foreign(model, skill)
    trial = int(np.argmax([prompt.accuracy for prompt in skill.prompts])) if trial is None else trial
    refuse_trial(skill, trial)
    folder = None if out is None else Path(out)
    search = Search(model, skill, config, trial, folder)
    whole = search.cost(Candidate())
    ways = search.ways(whole)
    chosen, found = Candidate(), Tried(skill.prompts[trial])
    rows = [_row(chosen, whole, whole, found, found.prompt)]
    for number, (cost, candidate) in enumerate(ways, 1):
        tried = search.tried(candidate)
        rows.append(row := _row(candidate, cost, whole, tried, skill.prompts[trial]))
        say(
            f"{number} of {len(ways)}, {row['times']:.1f} times fewer multiplications: FFNs {row['ffns']}, prompt "
            f"{row['prompt']}; dev {100 * row['dev']:.1f} % ({100 * row['difference']:+.1f} points)"
        )
        if obeys(row["difference"], points):
            chosen, found = candidate, tried
            break
    place = 0 if chosen == Candidate() else len(rows) - 1
    rows = [row | {"chosen": at == place} for at, row in enumerate(rows)]
    small = search.small(chosen, found)
    about = told(Walk.version, config, skill) | {
        "model": skill.about["model"], "task": skill.about["task"], "trial": trial, "seed": skill.config.seed,
        "majority": skill.about["majority"], "budget": budget, "points": points, "samples": found.prompt.samples,
        "tokens": search.tokens, "left": len(ways) - len(rows) + 1, "chosen": search.identity(chosen),
    }  # fmt: skip
    walk = Walk(about, rows, {"right": _right(small, folder, search.identity(chosen))})
    if folder is not None:
        walk.save(folder)
    return Within(walk, replace(small, figures=walk.figures()))


def _row(candidate: Candidate, cost: int, whole: int, found: Tried, dense: Prompt) -> dict[str, Any]:
    return {
        "ffns": candidate.ffns, "prompt": candidate.beside, "multiplications": cost, "times": whole / cost,
        "baseline": found.baseline, "dev": found.prompt.accuracy, "difference": found.prompt.accuracy - dense.accuracy,
    }  # fmt: skip


def _right(small: Small, folder: Path | None, identity: str) -> UInt8[Tensor, "model sample"]:
    """Which test samples the dense model and the chosen one have right; read, where it answered them before."""
    if folder is not None:
        try:
            before = Walk.load(folder)
            if before.about["chosen"] == identity:
                return before.arrays["right"]
        except SkillNeuronsError:
            pass  # there is none, or none that is whole
    skill = small.skill
    dense = skill.tested.predicted[small.prompt.trial] == skill.tested.labels
    chosen = dense if small.model is small.dense else evaluate(small.model, skill.task, small.prompt).correct
    return torch.from_numpy(np.stack([dense, chosen]).astype(np.uint8))
