"""Each token's mean activation of some neurons, while a split runs by.

    means = TokenMeans(inputs, "train", [(3, 120), (5, 7)], tokens=50_265)
    sweep(inputs, "train", embedding, [means], "words: train")
    means.means(), means.counts                     # [token, neuron], [token]

Over every place at which a token stands in an input: neither padding nor the prompt nor [MASK]. Kept are a sum in
float64 for each token and neuron and a count for each token, however many samples there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..models import Batch
from ..tuning.inputs import Inputs, SplitName


class TokenMeans:
    """Sums [token, neuron] of the (layer, neuron) pairs' activations, and counts [token]; a statistic of a sweep."""

    def __init__(self, inputs: Inputs, split: SplitName, neurons: Sequence[tuple[int, int]], tokens: int) -> None:
        self.inputs, self.split = inputs, split
        device = inputs.backbone.device
        self.device = torch.device("cpu") if device.type == "mps" else device  # which has no float64
        self.columns: dict[int, tuple[list[int], list[int]]] = {}  # of each layer: its neurons, their columns
        for column, (layer, neuron) in enumerate(neurons):
            own, columns = self.columns.setdefault(layer, ([], []))
            own.append(neuron)
            columns.append(column)
        self.sums = torch.zeros(tokens, len(neurons), dtype=torch.float64, device=self.device)
        self.counts = torch.zeros(tokens, dtype=torch.int64, device=self.device)

    def begin(self, batch: Batch, samples: Int[np.ndarray, " sample"]) -> None:
        """Tell of the batch, and which samples it holds."""
        self._where = batch.inputs
        ids = np.concatenate(self.inputs.rows(self.split, samples)[0]).astype(np.int64)
        self._ids = torch.from_numpy(ids).to(self.device)
        self.counts.index_add_(0, self._ids, torch.ones_like(self._ids))

    def __call__(self, layer: int, activations: Float[Tensor, "sample token neuron"]) -> None:
        """Add one layer's activations of the batch."""
        if layer not in self.columns:
            return
        neurons, columns = self.columns[layer]
        own = activations[:, :, neurons][self._where.to(activations.device)].to(self.device, torch.float64)
        places = self._ids[:, None], torch.tensor(columns, device=self.device)[None]
        self.sums.index_put_(places, own, accumulate=True)

    def means(self) -> Float[Tensor, "token neuron"]:
        """The mean activation at each token; NaN at one that never came."""
        return self.sums / self.counts[:, None]
