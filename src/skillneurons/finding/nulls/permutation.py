"""The shuffled null of Eq. 6: the predictivity that neurons reach when dev's labels are shuffled.

    null = shuffled(model, task, prompts, scores, permutations=100)
    null.threshold()                        # [subtask], what the best of all neurons exceeds in 5 % of the shuffles
    null.p_value("sst2", 0.87)              # of a top neuron's predictivity

A permutation shuffles the sides of a subtask's dev samples among these samples; baselines and prompts stay. All trials
see the same permutations, for they share dev. Under each, Eq. 6 is worked out anew for every neuron: Eq. 5's maximum
over positions, its mean over trials; then the best of all neurons is kept, as the top neuron is the best of all.

One pass over dev a trial counts for all permutations (see `permuted`). The counts of a layer are needed together, for
the maximum over positions; where those of all layers exceed the memory, groups of layers take turns, a pass for each.

Nothing here mends that dev also chose the prompt's checkpoint: a tuned prompt favours dev's true labels a little.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from ...errors import SkillNeuronsError
from ...models import Backbone
from ...progress import say
from ...tasks import Task
from ...tuning.inputs import Inputs
from ...tuning.prompt import Prompt
from ...units import in_bytes
from ..score import TrialScores
from ..sides import side_counts, subtask_sides
from .permuted import CELLS, COLUMNS, EXACT, count, permuted

EDGES = np.linspace(0.5, 1.0, 101)
"""Of the histograms of predictivity."""
_TOGETHER = 64  # samples noted before they are counted, at least: the counters are read and written once for all


@dataclass(frozen=True, eq=False)
class Shuffled:
    """What shuffled labels produce.

    `maxima` [subtask, permutation]: the predictivity of the best neuron under each permutation, rounded as in the
    ranking, so that equal ones tie. `counts` [subtask, bin]: how many neurons, under all permutations together, have a
    predictivity between two of `EDGES`.
    """

    subtasks: tuple[str, ...]
    maxima: Float[np.ndarray, "subtask permutation"]
    counts: Int[np.ndarray, "subtask bin"]

    @property
    def permutations(self) -> int:
        """How often the labels were shuffled."""
        return int(self.maxima.shape[1])

    def threshold(self, share: float = 0.05) -> Float[np.ndarray, " subtask"]:
        """The predictivity above which a top neuron has a p of at most `share`.

        Raises `SkillNeuronsError` where there are too few permutations for that share.
        """
        rank = int(share * (1 + self.permutations) + 1e-9)
        if rank < 1:
            raise SkillNeuronsError(
                f"R permutations give no p below 1 / (R + 1); asked for: {share:g} of {self.permutations}. Take "
                f"at least {int(np.ceil(1 / share - 1 - 1e-9))}."
            )
        return np.sort(self.maxima, axis=1)[:, -rank]

    def p_value(self, subtask: str, observed: float) -> float:
        """The share of permutations whose best neuron is at least as predictive, the true labels counted with them.

        Valid for the best neuron of all, and so, with any number of neurons looked at, for each of them.
        """
        maxima = self.maxima[self.subtasks.index(subtask)]
        return float(1 + (maxima >= round(observed, 12)).sum()) / (1 + len(maxima))


def shuffled(
    model: Backbone,
    task: Task,
    prompts: Sequence[Prompt],
    scores: Sequence[TrialScores],
    *,
    permutations: int,
    seed: int = 0,
    memory: float = 4.0,
) -> Shuffled:
    """Eq. 6 under `permutations` shuffles of dev's labels, drawn by `seed`.

    `scores` are those of the `prompts`, `task` the one that was scored. At most `memory` gigabytes are taken: a pass
    over dev for each trial, or several. Raises `SkillNeuronsError` where a layer's counters alone need more.
    """
    inputs = [Inputs.beside(model, task, prompt) for prompt in prompts]
    labels = inputs[0].labels("dev")
    if len(labels) > EXACT:
        raise SkillNeuronsError(
            f"shuffled labels are counted in float32, exact up to {EXACT} samples; dev of {task.name} has "
            f"{len(labels)}. Set --dev-limit {EXACT}."
        )
    if not all(np.array_equal(own.totals, side_counts(task, "dev")) for own in scores):
        raise SkillNeuronsError(
            f"shuffled labels are those of the samples that were scored; the scores are of another dev split than that "
            f"of {task.name}. Give the task of the finding (skill.task)."
        )
    rows = permuted(labels, subtask_sides(task), permutations, seed)
    together = max(_TOGETHER, *(len(chosen) for own in inputs for chosen in own.by_length("dev")))
    cost = partial(
        shuffled_bytes, positions=max(prompt.positions for prompt in prompts), subtasks=len(rows), dev=len(labels),
        together=together,
    )  # fmt: skip
    groups = _groups(model.widths, cost, permutations, memory)
    needed = max(cost([model.widths[layer] for layer in group], permutations=permutations) for group in groups)
    passes, trials = len(groups), len(prompts)
    say(
        f"shuffled labels: {permutations} permutations take {in_bytes(needed)} in {passes} pass"
        f"{'es' if passes > 1 else ''} over dev for {'each of ' if trials > 1 else ''}{trials} trial"
        f"{'s' if trials > 1 else ''}"
    )
    maxima = np.zeros((len(rows), permutations))
    bins = np.zeros((len(rows), len(EDGES) - 1), dtype=np.int64)
    for number, group in enumerate(groups):
        predictivity = np.zeros((len(rows), permutations, sum(model.widths[layer] for layer in group)))
        for trial, (own, prompt, trial_scores) in enumerate(zip(inputs, prompts, scores, strict=True)):
            label = f"trial {trial + 1}/{trials}: shuffled labels{f' {number + 1}/{passes}' if passes > 1 else ''}"
            counts = count(own, prompt, trial_scores, group, rows, together, label)
            predictivity += counts.predictivity(trial_scores.totals, trial_scores.weighted)
            del counts  # before the next trial's take as much again
        predictivity /= trials  # Eq. 6
        maxima = np.maximum(maxima, predictivity.max(2).round(12))
        for subtask, own_bins in zip(predictivity, bins, strict=True):
            for under in subtask:  # one permutation at a time, for the histogram copies what it is given
                own_bins += histogram(under)
    return Shuffled(tuple(subtask.name for subtask in task.subtasks), maxima, bins)


def shuffled_bytes(
    widths: Sequence[int], positions: int, permutations: int, subtasks: int, dev: int, together: int = _TOGETHER
) -> int:
    """The most bytes that the shuffled null takes for layers of these widths, with `dev` samples, `together` noted."""
    rows = permutations + 1
    cells = subtasks * positions * sum(widths)
    counters = cells * rows * 4
    noted = cells * (together + 4)  # and the baselines
    predictivity = 2 * subtasks * permutations * sum(widths) * 8  # one trial's, and the sum
    layer = positions * max(widths)
    product = together * min(COLUMNS, layer) * 4 + subtasks * rows * together * 4
    accuracies = subtasks * min(max(CELLS, layer), permutations * layer) * 48  # those of Eq. 4, and on the way there
    return counters + noted + predictivity + product + accuracies + subtasks * rows * dev


def histogram(predictivity: Float[np.ndarray, " neuron"]) -> Int[np.ndarray, " bin"]:
    """How many neurons lie between two of `EDGES`; one that is on an edge counts above it."""
    return np.histogram(predictivity.round(12), EDGES.round(12))[0]


def _groups(widths: Sequence[int], cost: Callable[..., int], permutations: int, memory: float) -> list[list[int]]:
    """Layers that fit into the memory together, in order."""
    groups: list[list[int]] = []
    limit = memory * 1e9
    for layer, width in enumerate(widths):
        if groups and cost([widths[own] for own in groups[-1]] + [width], permutations=permutations) <= limit:
            groups[-1].append(layer)
            continue
        groups.append([layer])
        if (needed := cost([width], permutations=permutations)) > limit:
            fewer = range(1, permutations)
            fitting = bisect_right(fewer, limit, key=lambda number: cost([width], permutations=number))
            raise SkillNeuronsError(
                f"the counters of shuffled labels must fit into the memory, a layer at least; {permutations} "
                f"permutations take {in_bytes(needed)} for layer {layer} alone, and {in_bytes(limit)} are allowed. At "
                f"most {fitting} would fit: lower --permutations, raise --memory, or find again with fewer --positions."
            )
    return groups
