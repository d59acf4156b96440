"""The two choices in the definition of predictivity, and what neurons come to without them (Appendix G, Figure 10).

    found = choices(skill)
    found.table(); found.verdict; found.plot(); found.orders()
    found.save("runs/sst2"); Choices.load("runs/sst2")

Of a trial, with Acc of Eq. 4 at a position:

    predictivity     maximum over positions of max(Acc, 1 - Acc)      Eq. 5 and 6
    mean_position    mean over positions of max(Acc, 1 - Acc)         any position, not the best one
    positive_only    maximum over positions of Acc                    active means positive, never the reverse

From the accuracies that the run keeps: no model is needed, and nothing is passed through one. Neither of the others
can exceed predictivity, so a lower histogram is no finding; which neurons they put first is.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from ..finding.peers.result import OURS
from ..finding.score import TrialScores
from ..finding.skill import SkillNeurons
from ..progress import progress
from .distributions import Distributions, Trial


@dataclass(frozen=True, eq=False, repr=False)
class Choices(Distributions):
    """Predictivity as the paper defines it, by the mean over positions, and by positive correlation only."""

    name: ClassVar[str] = "choices"
    titles = MappingProxyType(
        {
            OURS: "predictivity",
            "mean_position": "mean over positions",
            "positive_only": "positive correlation only",
        }
    )

    @property
    def verdict(self) -> str:
        """How far the other definitions order the neurons alike: there is no claim that could come out either way."""
        alike = []
        for name, title in self.titles.items():
            own = [row for row in self.rows if row["definition"] == name]
            if name != OURS:
                correlation = min(np.nan if row["correlation"] is None else row["correlation"] for row in own)
                overlap = min(row["overlap"] for row in own)
                alike.append(f"{title}, {correlation:.2f} and {100 * overlap:.1f} %")
        first, count = self.rows[0], len(self.about["subtasks"])
        least = f", the least of {count} subtasks" if count > 1 else ""
        return (
            "No claim to test: no neuron can be more predictive by these definitions, whatever the model. What they "
            f"may change is the order; rank correlation with predictivity, and the top {first['top']} in common "
            f"(chance {100 * first['chance']:.1f} %){least}: {'; '.join(alike)}."
        )


def choices(skill: SkillNeurons) -> Choices:
    """What the neurons of a run come to under each choice; a definition's scores are [subtask, neuron]."""
    with progress("design choices", len(skill.scores), "trials") as advance:
        trials = []
        for scores in skill.scores:
            trials.append(by_choice(scores))
            advance()
    return Choices.of(skill, trials)


def by_choice(scores: TrialScores) -> Trial:
    """One trial's predictivity [subtask, neuron] by each definition."""
    layers = []
    for layer in range(scores.layers):
        accuracy = scores.exact_accuracy(layer)  # [subtask, position, neuron]
        either = np.maximum(accuracy, 1 - accuracy)  # Eq. 5
        layers.append([either.max(1), either.mean(1), accuracy.max(1)])
    values = (np.concatenate(parts, axis=1) for parts in zip(*layers, strict=True))
    return dict(zip(Choices.titles, values, strict=True))
