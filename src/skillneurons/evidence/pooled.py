"""Predictivity from the prompt's positions beside that from the input's own tokens (section 4.1, Figures 3 and 9).

    found = pooled(model, skill)
    found.table(); found.plot(); found.orders()
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


@dataclass(frozen=True, eq=False, repr=False)
class Pooled(Distributions):
    """Predictivity at prompt positions, of the mean over the input, and of the maximum over it."""

    name: ClassVar[str] = "pooled"
    titles = MappingProxyType({OURS: "at prompt positions"} | {order: TITLES[order] for order in POOLED})


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
