"""The area under the ROC curve of every neuron, exact, from buffered activations of dev.

    auroc(negative, positive)                                  # [column], of activations [column, sample]
    for slices in portions(widths, fitting(len(dev), positions, size, memory)):
        buffer = Buffer(slices, len(dev), positions, dtype)    # sweep dev with it, then
        buffer.areas(labels, sides, device)                    # [subtask, neuron], the best position's

It is the chance that a sample of the positive side is more active than one of the negative side; equal ones count
half. Equal to Mann and Whitney's U over the number of pairs, and to scikit-learn's `roc_auc_score`. A neuron that is
lower on the positive side tells as much, so max(AUC, 1 - AUC) is taken, as in Eq. 5.

Unlike a baseline's counts it needs all of a neuron's activations at once: samples x positions numbers a neuron.
Neurons are therefore taken in portions that fit the memory, with a pass over dev for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...models import Batch
from ...progress import progress
from ..statistics import at_least_float32

TOGETHER = 2**20
"""Activations that are sorted at once, beside the buffer."""


def auroc(negative: Float[Tensor, "column low"], positive: Float[Tensor, "column high"]) -> Float[Tensor, " column"]:
    """P(positive > negative) + 1/2 P(positive = negative), over all pairs of the two sides' samples."""
    return _wins(negative, positive) / (negative.shape[1] * positive.shape[1])


def either_auroc(
    negative: Float[Tensor, "column low"], positive: Float[Tensor, "column high"]
) -> Float[Tensor, " column"]:
    """max(AUC, 1 - AUC), the same whichever side is called positive."""
    pairs = negative.shape[1] * positive.shape[1]
    wins = _wins(negative, positive)
    return torch.maximum(wins, pairs - wins) / pairs


def _wins(negative: Tensor, positive: Tensor) -> Tensor:
    """Pairs in which the positive side's sample is the more active one, equal ones as half a pair; exact."""
    rising, positive = negative.contiguous().sort(1).values, positive.contiguous()
    below = torch.searchsorted(rising, positive, out_int32=True).sum(1)
    upto = torch.searchsorted(rising, positive, out_int32=True, right=True).sum(1)
    return (below + upto).double() / 2


@dataclass(frozen=True)
class Slice:
    """Neurons `start` to `stop` of a layer."""

    layer: int
    start: int
    stop: int


def fitting(samples: int, positions: int, size: int, memory: int) -> int:
    """How many neurons a buffer of `memory` bytes holds; `size`: bytes of an activation."""
    return memory // (samples * positions * size)


def portions(widths: Sequence[int], most: int) -> list[list[Slice]]:
    """All neurons in order, in as few portions of at most `most` as there can be, of like sizes."""
    total = sum(widths)
    ends = np.cumsum([0, *widths])
    count = -(-total // most)
    cuts = [total * index // count for index in range(count + 1)]
    return [
        [
            Slice(layer, max(start, first) - first, min(stop, last) - first)
            for layer, (first, last) in enumerate(pairwise(ends.tolist()))
            if max(start, first) < min(stop, last)
        ]
        for start, stop in pairwise(cuts)
    ]


class Buffer:
    """The activations of a portion of the neurons at all positions, for every sample of a split."""

    def __init__(self, slices: Sequence[Slice], samples: int, positions: int, dtype: torch.dtype) -> None:
        self.slices = {own.layer: own for own in slices}
        self.kept = {own.layer: torch.empty(samples, positions, own.stop - own.start, dtype=dtype) for own in slices}

    def begin(self, batch: Batch, samples: Int[np.ndarray, " sample"]) -> None:
        """Tell of the batch, and where its samples are kept."""
        self._prompt = batch.prompt
        self._samples = torch.from_numpy(samples).long()

    def __call__(self, layer: int, activations: Float[Tensor, "sample token neuron"]) -> None:
        """Keep this portion's part of one layer."""
        if layer in self.slices:
            own = self.slices[layer]
            values = at_least_float32(activations[:, self._prompt, own.start : own.stop]).cpu()
            self.kept[layer][self._samples] = values.to(self.kept[layer].dtype)

    def areas(
        self, labels: Int[np.ndarray, " sample"], sides: Int[np.ndarray, "subtask 2 class"], device: torch.device,
        label: str = "AUROC",
    ) -> Float[np.ndarray, "subtask neuron"]:  # fmt: skip
        """Of each neuron of the portion, the largest max(AUC, 1 - AUC) of its positions; sorted on `device`."""
        members = [[torch.from_numpy(np.flatnonzero(side[labels])) for side in subtask] for subtask in sides]
        total = sum(kept.shape[2] for kept in self.kept.values())
        found = np.empty((len(sides), total))
        start = 0
        with progress(label, total, "neurons") as advance:
            for kept in self.kept.values():
                samples, positions, _ = kept.shape
                for some in kept.split(max(1, TOGETHER // (samples * positions)), 2):
                    stop = start + some.shape[2]
                    columns = some.flatten(1).to(device).T  # position after position
                    for own, (low, high) in zip(found, members, strict=True):
                        areas = either_auroc(columns[:, low], columns[:, high])
                        own[start:stop] = areas.view(positions, -1).amax(0).cpu()
                    advance(stop - start)
                    start = stop
        return found
