"""A histogram of each neuron's values by label while a split runs by, without knowing their range beforehand.

    bins = Bins(neurons=3, labels=2)
    for values, labels in batches:                  # [sample, neuron], [sample]
        bins.add(values, labels)
    edges, counts = bins.histogram(0)               # [edge], [label, bin] of the first neuron

Bins are as wide as a power of two and begin at multiples of it; where values come that do not fit into `MOST` bins,
each two neighbours become one. So every count is exact, and the batches and their order change nothing.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int

MOST = 1024
"""Bins of a neuron at most; nearly half as many at least, unless its values are almost the same."""
_DIGITS = 20  # binary ones that are told of the largest value: float32 has 24
_LEAST = -1000  # power of two of the bins while all values are 0


class Bins:
    """Counts of each neuron's values, by label and bin: `MOST` 64-bit integers a neuron and label."""

    def __init__(self, neurons: int, labels: int) -> None:
        self._counts = np.zeros((neurons, labels, MOST), np.int64)
        self._power = np.full(neurons, _LEAST)  # a bin is 2 ** power wide
        self._first = np.zeros(neurons, np.int64)  # bin 0 begins at first * width
        self._range = np.full((neurons, 2), [np.inf, -np.inf])

    def add(self, values: Float[np.ndarray, "sample neuron"], labels: Int[np.ndarray, " sample"]) -> None:
        """Take in a batch: finite values, and the samples' labels as numbers from 0."""
        values = values.astype(np.float64)
        for neuron, own in enumerate(values.T):
            self._widen(neuron, float(own.min()), float(own.max()))
            place = np.floor(np.ldexp(own, -self._power[neuron])).astype(np.int64) - self._first[neuron]
            np.add.at(self._counts[neuron], (labels, place), 1)

    def histogram(self, neuron: int) -> tuple[Float[np.ndarray, " edge"], Int[np.ndarray, "label bin"]]:
        """The bins' edges, from that below the lowest value to that above the highest, and the counts between them."""
        filled = np.flatnonzero(self._counts[neuron].any(0))
        start, stop = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 1)
        numbers = self._first[neuron] + np.arange(start, stop + 1)
        return np.ldexp(numbers.astype(np.float64), self._power[neuron]), self._counts[neuron, :, start:stop].copy()

    def _widen(self, neuron: int, low: float, high: float) -> None:
        """Make room for values from `low` to `high`."""
        low, high = min(low, self._range[neuron, 0]), max(high, self._range[neuron, 1])
        self._range[neuron] = low, high
        largest, before = max(-low, high), int(self._power[neuron])
        power = max(before, math.frexp(largest)[1] - _DIGITS) if largest else before
        while math.floor(math.ldexp(high, -power)) - math.floor(math.ldexp(low, -power)) >= MOST:
            power += 1
        first = math.floor(math.ldexp(low, -power))
        if (power, first) == (before, self._first[neuron]):
            return
        numbers = (self._first[neuron] + np.arange(MOST)) >> min(power - before, 62)
        old, counts = self._counts[neuron], np.zeros_like(self._counts[neuron])
        label, place = np.nonzero(old)
        np.add.at(counts, (label, numbers[place] - first), old[label, place])
        self._counts[neuron] = counts
        self._power[neuron], self._first[neuron] = power, first
