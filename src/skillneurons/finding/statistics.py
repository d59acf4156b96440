"""What is kept while a split runs through the model: sums, then counts; never a sample's activations.

    means = Means(widths, positions, classes=2)        # over train: Eq. 3
    counts = Counts(baselines, sides)                  # over dev: Eq. 4

Both are called by the model's hooks, layer by layer, after `begin` has told them of the batch. Sums are float64 and
right to 1e-6 of the mean absolute activation: products in float32 run over a few samples, or one sample's tokens, at
a time, for a neuron may be a hundred times as active as the others. They are kept on the model's first device, or in
main memory where that device has no float64; activations of layers that are elsewhere come to them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from ..models import Batch

TOGETHER = 8
"""Samples summed in float32 before float64 takes over."""


def scoring_bytes(widths: Sequence[int], positions: int, classes: int, subtasks: int) -> int:
    """The most bytes that the running statistics of a trial take, whatever the number of samples."""
    neurons = sum(widths)
    sums = neurons * (classes * positions + 2) * 8
    baselines = neurons * subtasks * positions * 4
    counted = neurons * subtasks * positions * (2 * 4 + 4)  # fired on two sides, then the accuracy
    means = neurons * (positions + 2) * 4
    return max(sums + baselines + means, means + baselines + counted)


class Means:
    """Sums of activations over a split, per class and position, and over answer and input tokens."""

    def __init__(self, widths: Sequence[int], positions: int, classes: int, device: torch.device) -> None:
        self.device = device = torch.device("cpu") if device.type == "mps" else device
        self.sums = [torch.zeros(classes, positions, width, dtype=torch.float64, device=device) for width in widths]
        self.rest = [torch.zeros(2, width, dtype=torch.float64, device=device) for width in widths]
        self.samples = torch.zeros(classes, dtype=torch.float64, device=device)
        self.tokens = 0.0

    def begin(self, batch: Batch, labels: Int[Tensor, " sample"]) -> None:
        """Tell of the batch whose activations come next; `labels` are indices of classes."""
        self._batch = batch
        self._classes = one_hot(labels, len(self.samples)).T.float().to(self.device)
        self._inputs = batch.inputs[:, None].float().to(self.device)
        self.samples += self._classes.sum(1)
        self.tokens += float(batch.inputs.sum())

    def __call__(self, layer: int, activations: Float[Tensor, "sample token neuron"]) -> None:
        """Add one layer's activations of the batch."""
        activations = at_least_float32(activations).to(self.device)
        sums = self.sums[layer]
        classes = self._classes.to(activations.dtype)
        for start in range(0, len(activations), TOGETHER):
            some = slice(start, start + TOGETHER)
            sums += (classes[:, some] @ activations[some, self._batch.prompt].flatten(1)).view(sums.shape)
        if self._batch.answer is not None:
            self.rest[layer][0] += activations[:, self._batch.answer].sum(0, dtype=torch.float64)
        self.rest[layer][1] += (self._inputs.to(activations.dtype) @ activations).double().sum((0, 1))

    def mean(self, layer: int, answer: bool) -> Float[Tensor, "row neuron"]:
        """Unweighted means: a row a position, the answer token (NaN where there is none), the input tokens."""
        count = self.samples.sum()
        rows = self.rest[layer].clone()
        rows[0] = rows[0] / count if answer else torch.nan
        rows[1] /= max(self.tokens, 1.0)
        return torch.cat([self.sums[layer].sum(0) / count, rows])

    def baseline(self, layer: int, weights: Float[Tensor, "subtask class"]) -> Float[Tensor, "subtask position neuron"]:
        """Eq. 3 for every subtask: the sums of the classes, each times its weight."""
        return torch.einsum("sc,cpn->spn", weights.to(self.sums[layer]), self.sums[layer])


class Counts:
    """How many samples of a subtask's negative and positive side are above the baseline."""

    def __init__(
        self, baselines: Sequence[Float[Tensor, "subtask position neuron"]], sides: Int[Tensor, "subtask 2 class"]
    ) -> None:
        self.baselines = baselines
        self.device = baselines[0].device
        self.sides = sides.float()
        self.fired = [
            torch.zeros(base.shape[0], 2, *base.shape[1:], dtype=torch.int32, device=base.device) for base in baselines
        ]

    def begin(self, batch: Batch, labels: Int[Tensor, " sample"]) -> None:
        """Tell of the batch whose activations come next; `labels` are indices of classes."""
        self._prompt = batch.prompt
        self._members = self.sides[:, :, labels].to(self.device)  # subtask, side, sample

    def __call__(self, layer: int, activations: Float[Tensor, "sample token neuron"]) -> None:
        """Count one layer's activations of the batch, strictly greater than the baseline (Eq. 4)."""
        prompt = at_least_float32(activations[:, self._prompt]).to(self.device)
        fired = self.fired[layer]
        for subtask, baseline in enumerate(self.baselines[layer]):
            above = (prompt > baseline).flatten(1).float()
            fired[subtask] += (self._members[subtask] @ above).view(fired[subtask].shape).int()


def at_least_float32(activations: Tensor) -> Tensor:
    """The activations, widened where the model runs in half precision."""
    return activations.to(torch.promote_types(activations.dtype, torch.float32))
