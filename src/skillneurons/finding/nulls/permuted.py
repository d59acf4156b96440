"""Dev counted under many permutations of its labels at once, for some layers of one trial.

    rows = permuted(labels, subtask_sides(task), permutations=100, seed=0)
    counts = count(inputs, prompt, scores, layers=[0, 1], rows=rows, together=64, label="trial 1")
    counts.predictivity(scores.totals, scores.weighted)     # [subtask, permutation, neuron], Eq. 5 at the best position

What is above its baseline is the same under every permutation. So a pass notes `activation > baseline` of some samples
and then counts for all permutations together, as the product [row, sample] @ [sample, position * neuron]. A row of the
first factor is a permutation's positive side; the last one has all samples of the subtask, so that what it counts, less
the positive side, is the negative side. Products of 0 and 1 are whole numbers, which float32, the fastest to multiply,
adds without a fault in any order up to 2^24: `EXACT` samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...models.placement import Batch
from ...tuning.inputs import Inputs
from ...tuning.prompt import Prompt
from ..score import TrialScores, accuracies
from ..statistics import at_least_float32
from ..sweep import sweep

EXACT = 2**24
COLUMNS = 16_384
"""Of what is noted, as many are widened to float32 at a time."""
CELLS = 2**18
"""Counts [permutation, position, neuron] of a layer that become accuracies at a time, or a permutation's."""


def permuted(
    labels: Int[np.ndarray, " sample"], sides: Int[np.ndarray, "subtask 2 class"], permutations: int, seed: int
) -> Bool[np.ndarray, "subtask row sample"]:
    """Which samples are on each subtask's positive side: a row a permutation, then one with all its samples.

    Sides are shuffled among the subtask's own samples, each subtask by itself.
    """
    rows = np.zeros((len(sides), permutations + 1, len(labels)), dtype=bool)
    for index, (negative, positive) in enumerate(sides[:, :, labels].astype(bool)):
        members = np.flatnonzero(negative | positive)
        draw = np.random.default_rng([seed, index])
        for row in rows[index, :-1]:
            row[members] = draw.permutation(positive[members])
        rows[index, -1, members] = True
    return rows


class PermutedCounts:
    """How many samples of each permuted positive side are above the baseline, in some layers.

    `counts` of each layer is [subtask, row, position * neuron], float32. Called by the model's hooks, after `begin`
    has told of the batch; `end` counts what is only noted so far. Up to `together` samples are noted, and no batch may
    have more.
    """

    def __init__(
        self,
        baselines: Mapping[int, Float[Tensor, "subtask position neuron"]],
        rows: Bool[np.ndarray, "subtask row sample"],
        together: int,
    ) -> None:
        self.baselines = baselines
        self.rows = torch.from_numpy(rows)
        self.counts: dict[int, Tensor] = {}
        self.above: dict[int, Tensor] = {}
        for layer, base in baselines.items():
            cells = base[0].numel()
            self.counts[layer] = torch.zeros(*rows.shape[:2], cells, device=base.device)
            self.above[layer] = torch.empty(len(rows), together, cells, dtype=torch.bool, device=base.device)
        self.noted = np.empty(together, dtype=np.int64)
        self.filled = 0

    def begin(self, batch: Batch, samples: Int[np.ndarray, " sample"]) -> None:
        """Tell of the batch whose activations come next; `samples` are indices into dev."""
        if self.filled + len(samples) > len(self.noted):
            self.end()
        self._prompt = batch.prompt
        self._own = slice(self.filled, self.filled + len(samples))
        self.noted[self._own] = samples
        self.filled += len(samples)

    def __call__(self, layer: int, activations: Float[Tensor, "sample token neuron"]) -> None:
        """Note which of one layer's activations are strictly greater than the baseline (Eq. 4)."""
        if layer in self.baselines:
            prompt = at_least_float32(activations[:, self._prompt]).to(self.baselines[layer].device)
            for subtask, baseline in enumerate(self.baselines[layer]):
                self.above[layer][subtask, self._own] = (prompt > baseline).flatten(1)

    def end(self) -> None:
        """Count the samples that are noted."""
        rows = self.rows[:, :, self.noted[: self.filled]].float()
        for layer, counts in self.counts.items():
            own = rows.to(counts.device)
            for start in range(0, counts.shape[2], COLUMNS):
                some = slice(start, start + COLUMNS)
                for subtask, above in enumerate(self.above[layer]):
                    counts[subtask, :, some].addmm_(own[subtask], above[: self.filled, some].float())
        self.filled = 0

    def predictivity(
        self, totals: Int[np.ndarray, "subtask 2"], weighted: bool
    ) -> Float[np.ndarray, "subtask permutation neuron"]:
        """Eq. 5 at each neuron's best position, under each permutation; the layers' neurons one after another."""
        subtasks, rows = self.rows.shape[:2]
        best = np.empty((subtasks, rows - 1, sum(base.shape[2] for base in self.baselines.values())))
        start = 0
        for layer, base in self.baselines.items():
            counts = self.counts[layer].view(subtasks, rows, *base.shape[1:]).cpu().numpy()
            own = slice(start, start + base.shape[2])
            step = max(1, CELLS // base[0].numel())
            for first in range(0, rows - 1, step):
                positive = counts[:, first : min(first + step, rows - 1)].swapaxes(1, 2)
                fired = np.stack([counts[:, -1][:, :, None] - positive, positive], axis=1).astype(np.int32)
                accuracy = accuracies(fired.reshape(*fired.shape[:3], -1), totals, weighted).reshape(positive.shape)
                best[:, first : first + step, own] = np.maximum(accuracy, 1 - accuracy).max(1)
            start = own.stop
        return best


def count(
    inputs: Inputs,
    prompt: Prompt,
    scores: TrialScores,
    layers: Sequence[int],
    rows: Bool[np.ndarray, "subtask row sample"],
    together: int,
    label: str,
) -> PermutedCounts:
    """One trial's pass over dev, counted for some layers under every permutation of `rows`."""
    device = inputs.backbone.device
    counts = PermutedCounts({layer: scores.baseline(layer).to(device) for layer in layers}, rows, together)
    sweep(inputs, "dev", prompt.embedding.to(device), [counts], label)
    counts.end()
    return counts
