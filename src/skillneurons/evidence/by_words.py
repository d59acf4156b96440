"""How much of what a neuron tells do its words tell alone, without the order and the company in which they stand?

    right_by_words(inputs, "train", means, subtasks=[0, 0])      # [sample, neuron], of test

A sample is given the mean, over its input tokens t, of the neuron's mean activation at t over the split:

    w(x) = mean over t in x of activation(t)

and is told positive where w(x) lies above its own baseline, the mean of w over the split (Eq. 3), or below it,
whichever is right more often there. On test this reader knows what each word does to the neuron by itself and nothing
else. A neuron that is but selective to keywords does no better than that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.sparse import csr_array

from ..finding.sides import class_weights, subtask_sides
from ..tasks.tokens import Tokens
from ..tuning.inputs import Inputs, SplitName

_PART = 10_000  # samples at a time


def right_by_words(
    inputs: Inputs, split: SplitName, means: Float[np.ndarray, "token neuron"], subtasks: Sequence[int]
) -> Bool[np.ndarray, "sample neuron"]:
    """When each neuron's words, as a reader of its subtask, are right on test.

    `means` are NaN at tokens that have none; a sample without any other stands at the mean of all. For samples of
    neither side of the subtask it means nothing.
    """
    task, labels = inputs.task, {name: inputs.labels(name) for name in (split, "test")}
    values = {name: bags(inputs.tokens(name), means) for name in labels}
    weights, sides = class_weights(task, split), subtask_sides(task)
    found = []
    for column, subtask in enumerate(subtasks):
        own = {name: value[:, column] for name, value in values.items()}
        positive = {name: sides[subtask, 1][label] == 1 for name, label in labels.items()}
        weight = weights[subtask][labels[split]]
        baseline = weight @ own[split]  # Eq. 3
        sign = weight @ ((own[split] > baseline) == positive[split]) >= 0.5  # Eq. 4 and 5
        found.append(((own["test"] > baseline) == sign) == positive["test"])
    return np.stack(found, axis=1)


def bags(tokens: Tokens, means: Float[np.ndarray, "token neuron"]) -> Float[np.ndarray, "sample neuron"]:
    """The mean over each sample's tokens of what they have, NaN left out; where none has any, the mean over all."""
    known = ~np.isnan(means)
    filled = np.where(known, means, 0.0)
    parts = []
    for start in range(0, len(tokens), _PART):
        ends = np.asarray(tokens.offsets[start : start + _PART + 1])
        ids = np.asarray(tokens.ids[ends[0] : ends[-1]])
        shape = (len(ends) - 1, len(means))
        counted = csr_array((np.ones(len(ids)), ids, ends - ends[0]), shape=shape)
        with np.errstate(invalid="ignore"):
            parts.append((counted @ filled) / (counted @ known.astype(np.float64)))
    found = np.concatenate(parts)
    return np.where(np.isnan(found), np.nanmean(found, axis=0), found)
