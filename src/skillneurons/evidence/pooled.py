"""Predictivity from the prompt's positions beside that from the input's own tokens (section 4.1, Figures 3 and 9).

    found = pooled(model, skill)
    found.table(); found.verdict; found.plot(); found.orders()
    panels(*(pooled(model, run) for run in runs))              # a panel for every task and subtask

Mean and maximum over the input's tokens, padding out, in place of the activation at a prompt's position: how and why
is in `finding/peers/pooled.py`. A trial takes one pass over train and one over dev. What each order's best neuron is
worth on test is told by `peers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from ..finding.peers.passes import trial_peers
from ..finding.peers.result import OURS, POOLED, TITLES
from ..finding.ranking import reduce_trial
from ..finding.skill import SkillNeurons
from ..finding.standing import refuse_foreign
from ..models import Backbone
from ..tuning.inputs import Inputs
from .distributions import Distributions
from .verdict import untold, verdict


@dataclass(frozen=True, eq=False, repr=False)
class Pooled(Distributions):
    """Predictivity at prompt positions, of the mean over the input, and of the maximum over it."""

    name: ClassVar[str] = "pooled"
    titles = MappingProxyType({OURS: "at prompt positions"} | {order: TITLES[order] for order in POOLED})

    @property
    def verdict(self) -> str:
        """Whether neurons are more predictive at the prompt than pooled, as far as dev can tell, in plain words.

        The best neuron at the prompt was chosen out of as many positions, so that its being ahead on dev says nothing;
        a pooled one that is as good all the same does.
        """
        best: dict[str, dict[str, float]] = {}
        for row in self.rows:
            best.setdefault(row["subtask"], {})[row["definition"]] = row["best"]
        subtask, own = min(best.items(), key=lambda each: each[1][OURS] - max(each[1][order] for order in POOLED))
        where = f" of {subtask}" if len(best) > 1 else ""
        figures = ", ".join(f"{title} {100 * own[name]:.1f} %" for name, title in self.titles.items())
        figures = f"the best neuron{where} on dev: {figures}"
        claim = "neurons are more predictive at the prompt than pooled over the input"
        if own[OURS] <= max(own[order] for order in POOLED):
            otherwise = "pooled over the input, a neuron is as predictive as the best at the prompt"
            return verdict("fails", claim, otherwise, figures)
        return untold(
            f"whether {claim}, for on dev the prompt's best was chosen out of all positions; {figures}. What each is "
            "worth on test is told by peers."
        )


def pooled(model: Backbone, skill: SkillNeurons) -> Pooled:
    """What the neurons of a run come to at the prompt and pooled over the input; scores are [subtask, neuron].

    Raises `SkillNeuronsError` where the model is not that of the run.
    """
    refuse_foreign(model, skill)
    trials = []
    for trial, (prompt, scores) in enumerate(zip(skill.prompts, skill.scores, strict=True)):
        inputs = Inputs.beside(model, skill.task, prompt)
        label = f"trial {trial + 1}/{len(skill.prompts)}"
        found = trial_peers(inputs, prompt, scores, list(POOLED), 0, label).scores  # they take none of the memory
        trials.append({OURS: reduce_trial(scores).predictivity} | found)
    return Pooled.of(skill, trials)
