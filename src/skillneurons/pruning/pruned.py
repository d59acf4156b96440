"""What pruning gives: a model for each trial, its prompt, and what it costs.

small = prune(model, skill)
small.table(); small.verdict; small.plot()
small.model(0), small.prompts[0]            # go together
small.save("small", trial=0)                # without a trial, the best on dev
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from rich.console import RenderableType

from ..finding.skill import SkillNeurons
from ..finding.standing import refuse_trial
from ..models import Backbone, NeuronSet
from ..tuning.prompt import Prompt
from .config import Baseline
from .costs import Costs
from .cut import Means, cut
from .means import of_run
from .small import Small

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class Pruned:
    """A model pruned to the skill neurons of a run, one for each trial: the neurons are the same, the means its own.

    `kept` are the neurons that stay in `layers`; `prompts`, each trial's, go with `model(trial)`; `costs` is what it
    costs. `estimates` has the means by trial where they were estimated anew.
    """

    costs: Costs
    dense: Backbone
    skill: SkillNeurons
    kept: NeuronSet
    layers: tuple[int, ...]
    prompts: tuple[Prompt, ...]
    estimates: Mapping[int, Means] = field(default_factory=dict)

    @property
    def baseline(self) -> Baseline:
        """At which means the neurons are frozen: `one` or `positions`."""
        return self.costs.about["baseline"]

    @property
    def best(self) -> int:
        """The trial that is best on dev."""
        return int(np.argmax([prompt.accuracy for prompt in self.prompts]))

    def model(self, trial: int) -> Backbone:
        """The pruned model of a trial; what is not cut shares its weights with the dense one."""
        refuse_trial(self.skill, trial)
        means = self.estimates.get(trial) or of_run(self.skill, trial)
        return cut(self.dense, self.kept, self.layers, means, self.baseline == "one")

    def save(self, folder: str | Path, trial: int | None = None) -> Path:
        """Write the model of a trial, of the best on dev without one, as a folder to ship; see `load_pruned`.

        Raises `SkillNeuronsError` where the folder holds something else, or cannot be written.
        """
        chosen = self.best if trial is None else trial
        return Small(
            self.dense, self.skill, self.model(chosen), self.prompts[chosen], self.kept, self.baseline,
            self.costs.about["retuned"], self.costs.figures(), len(self.prompts),
        ).save(folder)  # fmt: skip

    def table(self) -> pd.DataFrame:
        """One row per (trial, baseline, retuned): accuracy on dev and test, parameters and their share."""
        return self.costs.table()

    @property
    def verdict(self) -> str:
        """Whether it answers as well as the dense model to within a point, in plain words."""
        return self.costs.verdict

    def plot(self, ax: Axes | None = None) -> Axes:
        """The accuracies on test of every model that was tried, with 95 % intervals."""
        return self.costs.plot(ax)

    def screen(self) -> RenderableType:
        """Accuracies, losses and the verdict."""
        return self.costs.screen()

    def __repr__(self) -> str:
        return f"{self.costs.means().round(3).to_string(index=False)}\n{self.verdict}"
