"""Activations pooled over the input's tokens, in place of those at the prompt's (paper, section 4.1, Figures 3 and 9).

    means = Pooling(Means(widths, len(POOLS), labels, classes, device))     # over train, in a sweep
    scores = pooled_scores(counts, totals, weighted)                        # after a sweep of dev
    pooled = scores.accuracy(layer)                                         # [subtask, pool, neuron], Eq. 4

A sample's mean (as Dai et al. 2021 take it) and maximum (Suau et al. 2020) over the tokens of its input, padding and
prompt left out, the tokenizer's own special tokens in, stand where Eq. 3 to 5 have the activation at a prompt's
position. The statistics that score prompt positions see the two as two positions, so every rule there holds here.
The prompt stands beside the input all the while. An input without any token is 0 in both.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...models import Batch
from ..score import TrialScores, accuracies
from ..statistics import Counts, Means, at_least_float32

POOLS = ("mean", "maximum")


def pool(
    activations: Float[Tensor, "sample token neuron"], inputs: Bool[Tensor, "sample token"]
) -> Float[Tensor, "sample pool neuron"]:
    """Mean and maximum over the tokens where `inputs` is true."""
    activations = at_least_float32(activations)
    inputs = inputs.to(activations.device)
    tokens = inputs.sum(1)[:, None]
    mean = (inputs[:, None].to(activations.dtype) @ activations)[:, 0] / tokens.clamp(min=1)
    most = activations.masked_fill(~inputs[:, :, None], -torch.inf).amax(1)
    return torch.stack([mean, most.where(tokens > 0, 0)], 1)


class Pooling:
    """Gives `statistic`, which knows of prompt positions alone, the pooled activations as two positions."""

    def __init__(self, statistic: Means | Counts) -> None:
        self.statistic = statistic

    def begin(self, batch: Batch, samples: Int[np.ndarray, " sample"]) -> None:
        """Tell of the batch, and which samples it holds."""
        self._inputs = batch.inputs
        there = torch.ones(len(samples), len(POOLS), dtype=torch.long)
        two = Batch(there[:, :, None].float(), there, ~there.bool(), slice(0, len(POOLS)), None, {})
        self.statistic.begin(two, samples)

    def __call__(self, layer: int, activations: Float[Tensor, "sample token neuron"]) -> None:
        """Pool one layer's activations of the batch and pass them on."""
        self.statistic(layer, pool(activations, self._inputs))


def pooled_scores(counts: Counts, totals: Int[np.ndarray, "subtask 2"], weighted: bool) -> TrialScores:
    """A trial's scores whose positions are the pools; `totals`: dev samples of each subtask's two sides."""
    tensors: dict[str, Tensor] = {}
    for layer, (baseline, fired) in enumerate(zip(counts.baselines, counts.fired, strict=True)):
        tensors[f"baseline.{layer}"], tensors[f"fired.{layer}"] = baseline.cpu(), fired.cpu()
        accuracy = accuracies(fired.cpu().numpy(), totals, weighted)
        tensors[f"accuracy.{layer}"] = torch.from_numpy(accuracy).float()
    return TrialScores(tensors, totals, weighted, len(counts.fired))
