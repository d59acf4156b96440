"""What the input's length alone tells of the labels: the null of surface features.

    rule = length_rule(Inputs.beside(model, task, prompt))
    rule.predictivity                       # [subtask], Eq. 5 on dev

The number of tokens of an input takes the place of an activation in Eq. 3 to 5: the baseline is its mean over train,
dev chooses the direction, test tells what it is worth. No model runs. Subtasks of a multi-class task weigh their two
sides equally, as their neurons do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from ...tuning.inputs import Inputs
from ..score import accuracies
from ..sides import side_counts, subtask_sides


@dataclass(frozen=True, eq=False)
class LengthRule:
    """Input length as if it were a neuron: its `predictivity` on dev, and where it is `right` on test.

    `right` means nothing for samples of neither side of a subtask.
    """

    predictivity: Float[np.ndarray, " subtask"]
    right: Bool[np.ndarray, "subtask sample"]


def length_rule(inputs: Inputs) -> LengthRule:
    """The rule that tells a subtask's sides apart by the length of the input, special tokens counted, as it was cut."""
    task = inputs.task
    sides = subtask_sides(task)

    train, dev, test = (inputs.tokens(split).lengths for split in ("train", "dev", "test"))
    in_train, in_dev, in_test = (sides[:, :, inputs.labels(split)] == 1 for split in ("train", "dev", "test"))
    if task.binary:
        baseline = np.array([train.mean()])  # Eq. 3
    else:
        baseline = np.array([(train[negative].mean() + train[positive].mean()) / 2 for negative, positive in in_train])

    above = dev > baseline[:, None]
    fired = (in_dev & above[:, None]).sum(2)
    accuracy = accuracies(fired[:, :, None, None], side_counts(task, "dev"), not task.binary)[:, 0, 0]  # Eq. 4
    told = (test > baseline[:, None]) == (accuracy >= 0.5)[:, None]
    return LengthRule(np.maximum(accuracy, 1 - accuracy), told == in_test[:, 1])
