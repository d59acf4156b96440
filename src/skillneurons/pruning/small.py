"""A model made smaller for one trial, with its prompt: whatever was done to either, what a folder ships.

    small = Small(dense, skill, model, prompt)          # `model` answers beside `prompt`
    small.form                                          # of the prompt: whole, shorter or frozen
    small.save("small"); load_pruned("small")

`Pruned.save` and the search within a budget make one each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxtyping import Int
from numpy import ndarray

from ..config import Config
from ..finding.skill import SkillNeurons
from ..models import Backbone, NeuronSet
from ..tuning.prompt import Prompt
from .config import Baseline
from .prefixed import Prefixed

Form = Literal["whole", "shorter", "frozen"]
"""Of a prompt: as the run has it, fewer of its positions, or keys and values inside the model."""


class Figures(Config):
    """What a model does, for the card."""

    model: str
    """Which it is."""
    prompt: str
    """Beside which prompt."""
    dev: float
    """Accuracy on dev."""
    test: float
    """Accuracy on test."""
    low: float
    """Of its 95 % interval over test samples."""
    high: float
    """As `low`."""


@dataclass(frozen=True, eq=False)
class Small:
    """A smaller model of a run's trial.

    `model` was made of `dense` and answers beside `prompt`, one of no positions where the prompt is inside. `kept` are
    the neurons that stay in its pruned layers, the others frozen at the means that `baseline` names; both are None
    where no FFN is pruned. `retuned`: whether the prompt was tuned further. `figures` has the dense model's first, all
    of them means over `trials` trials.
    """

    dense: Backbone
    skill: SkillNeurons
    model: Backbone
    prompt: Prompt
    kept: NeuronSet | None = None
    baseline: Baseline | None = None
    retuned: bool = False
    figures: Sequence[Figures] = ()
    trials: int = 1

    @property
    def form(self) -> Form:
        """What was done to the prompt."""
        if isinstance(self.model, Prefixed):
            return "frozen"
        return "shorter" if self.positions < self.skill.prompts[self.prompt.trial].positions else "whole"

    @property
    def positions(self) -> int:
        """The prompt's number of positions, those inside counted."""
        return self.model.inside if isinstance(self.model, Prefixed) else self.prompt.positions

    def by_layer(self) -> Mapping[int, Int[ndarray, " kept"]]:
        """The neurons that stay in each pruned layer."""
        return {} if self.kept is None else self.kept.by_layer()

    def save(self, folder: str | Path) -> Path:
        """Write it as a folder to ship; see `load_pruned`.

        Raises `SkillNeuronsError` where the folder holds something else, or cannot be written.
        """
        from .artifact import write

        return write(self, Path(folder))
