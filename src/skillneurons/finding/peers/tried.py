"""What chosen neurons and the layers' probes are worth on test, in one pass a trial.

    right, probed = tried(inputs, skill, ranked(skill), choices, found)     # correctness by sample, over the trials
    worth(right[:, 0], choices[0].subtask, labels, task, seed)              # accuracy with its interval

A neuron is read at the best position of its trial, by its baseline and sign there (Eq. 3 and 4), or, where an order
pools, at its pooled activation by the baseline and sign of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ...tuning.inputs import Inputs
from ..ranked import Ranked
from ..score import TrialScores
from ..sides import subtask_sides
from ..skill import SkillNeurons
from ..sweep import sweep
from .passes import TrialPeers
from .places import Columns, Place
from .pooled import POOLS
from .probe import Told
from .result import POOLED


@dataclass(frozen=True)
class Choice:
    """A neuron of a subtask, and the order that it was chosen by."""

    subtask: int
    order: str
    layer: int
    neuron: int


def tried(
    inputs: Sequence[Inputs], skill: SkillNeurons, own: Ranked, choices: Sequence[Choice], found: Sequence[TrialPeers]
) -> tuple[Float[np.ndarray, "sample choice"], Float[np.ndarray, "sample layer subtask"]]:
    """How often, over the trials, each choice and each probe is right about each test sample.

    Of samples of neither side of a subtask it says nothing.
    """
    labels = inputs[0].labels("test")
    positive = subtask_sides(skill.task)[:, 1][:, labels].T.astype(bool)  # sample, subtask
    subtasks = [choice.subtask for choice in choices]
    right, probed = [], []
    for trial, (beside, prompt, scores) in enumerate(zip(inputs, skill.prompts, skill.scores, strict=True)):
        readings = [_reading(choice, skill.widths, own, trial, scores, found[trial].pooled) for choice in choices]
        places, baselines, signs = zip(*readings, strict=True)
        columns = Columns(places, len(labels))
        told = Told(found[trial].probes, len(labels), len(skill.task.subtasks))
        embedding = prompt.embedding.to(beside.backbone.device)
        sweep(beside, "test", embedding, [columns, told], f"trial {trial + 1}/{len(inputs)}: peers on test")
        above = columns.activations > np.array(baselines, dtype=np.float32)
        right.append((above == (np.array(signs) > 0)) == positive[:, subtasks])
        probed.append(told.positive == positive[:, None])
    return np.mean(right, axis=0), np.mean(probed, axis=0)


def _reading(
    choice: Choice, widths: Sequence[int], own: Ranked, trial: int, scores: TrialScores, pooled: TrialScores | None
) -> tuple[Place, float, int]:
    """Where a trial reads a neuron, the baseline there, and its sign."""
    subtask, layer, neuron = choice.subtask, choice.layer, choice.neuron
    if pooled is not None and choice.order in POOLED:
        row = POOLS.index(POOLED[choice.order])
        sign = 1 if pooled.accuracy(layer)[subtask, row, neuron] >= 0.5 else -1
        return Place(layer, neuron, POOLS[row]), float(pooled.baseline(layer)[subtask, row, neuron]), sign
    index = sum(widths[:layer]) + neuron
    position, sign = int(own.position[subtask, index, trial]), int(own.sign[subtask, index, trial])
    return Place(layer, neuron, position), float(scores.baseline(layer)[subtask, position, neuron]), sign
