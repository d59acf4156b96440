"""The highest and lowest values of each neuron while a split runs by, with the samples that gave them.

    extremes = Extremes(neurons=3, most=5)
    for chosen, values in batches:                  # samples' numbers [sample], values [sample, neuron]
        extremes.add(chosen, values)
    extremes.highest(0), extremes.lowest(0)         # (sample, value) pairs of the first neuron, the most extreme first

They are those that a sort of everything would give, whatever the batches; of equal values the sample with the lower
number comes first. Kept are 2 x `most` values a neuron.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


class Extremes:
    """The `most` highest and `most` lowest values of each of some neurons."""

    def __init__(self, neurons: int, most: int) -> None:
        self.most = most
        self._kept = {side: (np.zeros((neurons, 0)), np.zeros((neurons, 0), np.int64)) for side in (1, -1)}

    def add(self, chosen: Int[np.ndarray, " sample"], values: Float[np.ndarray, "sample neuron"]) -> None:
        """Take in a batch: the samples' numbers, none of which comes twice, and their values."""
        fresh = np.broadcast_to(chosen, values.T.shape)
        for side, kept in self._kept.items():
            every = np.concatenate([kept[0], values.T], axis=1), np.concatenate([kept[1], fresh], axis=1)
            order = np.lexsort((every[1], -side * every[0]))[:, : self.most]
            self._kept[side] = np.take_along_axis(every[0], order, 1), np.take_along_axis(every[1], order, 1)

    def highest(self, neuron: int) -> list[tuple[int, float]]:
        """(sample, value) of the highest values, the highest first; fewer than `most` where there were fewer."""
        return self._pairs(neuron, 1)

    def lowest(self, neuron: int) -> list[tuple[int, float]]:
        """(sample, value) of the lowest values, the lowest first."""
        return self._pairs(neuron, -1)

    def _pairs(self, neuron: int, side: int) -> list[tuple[int, float]]:
        values, samples = self._kept[side]
        return list(zip(samples[neuron].tolist(), values[neuron].tolist(), strict=True))
