"""What is kept of a neuron while a split runs by is what a sort, or numpy's histogram, of everything would give."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillneurons.finding.portraits.bins import MOST, Bins
from skillneurons.finding.portraits.extremes import Extremes


def batches(size: int, seed: int) -> list[np.ndarray]:
    """The numbers of `size` samples, shuffled and cut into batches of unequal sizes."""
    draw = np.random.default_rng(seed)
    cuts = [0, *sorted(draw.integers(0, size + 1, 5).tolist()), size]
    order = draw.permutation(size)
    return [order[start:stop] for start, stop in pairwise(cuts) if stop > start]


@pytest.mark.parametrize("most", [1, 5, 200])
@pytest.mark.parametrize("size", [1, 3, 150])
def test_extremes_are_those_of_a_sort_of_everything(size: int, most: int) -> None:
    draw = np.random.default_rng(size)
    values = np.stack([draw.normal(size=size), draw.integers(0, 4, size), np.zeros(size)], axis=1).astype(np.float32)
    extremes = Extremes(3, most)
    for chosen in batches(size, seed=most):
        extremes.add(chosen, values[chosen])
    for neuron in range(3):
        every = [(sample, float(value)) for sample, value in enumerate(values[:, neuron])]
        assert extremes.highest(neuron) == sorted(every, key=lambda pair: (-pair[1], pair[0]))[:most]
        assert extremes.lowest(neuron) == sorted(every, key=lambda pair: (pair[1], pair[0]))[:most]


REAL = st.floats(-1e6, 1e6, width=32)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(REAL, st.integers(0, 2)), min_size=1, max_size=60), st.integers(0, 9))
def test_a_histogram_is_that_of_everything_whatever_the_batches(samples: list[tuple[float, int]], seed: int) -> None:
    values = np.array([[value] for value, _ in samples], dtype=np.float32)
    labels = np.array([label for _, label in samples])
    at_once, by_and_by = Bins(1, 3), Bins(1, 3)
    at_once.add(values, labels)
    for chosen in batches(len(values), seed):
        by_and_by.add(values[chosen], labels[chosen])
    edges, counts = at_once.histogram(0)
    for own, other in zip((edges, counts), by_and_by.histogram(0), strict=True):
        assert np.array_equal(own, other)
    assert counts.shape == (3, len(edges) - 1) and counts.shape[1] <= MOST
    assert (np.diff(edges) == edges[1] - edges[0]).all()
    for label in range(3):
        assert np.array_equal(np.histogram(values[labels == label, 0], edges)[0], counts[label])
    assert counts[:, [0, -1]].any(0).all()  # no empty bins at the ends


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_bins_are_as_fine_as_the_values_need(scale: float) -> None:
    values = scale * np.random.default_rng(0).uniform(-1, 3, (5000, 1))
    bins = Bins(1, 1)
    bins.add(values, np.zeros(5000, dtype=np.int64))
    assert len(bins.histogram(0)[1][0]) >= MOST // 2 - 1


def test_zeros_alone_are_one_bin_and_take_what_comes_after() -> None:
    bins = Bins(1, 1)
    bins.add(np.zeros((4, 1)), np.zeros(4, dtype=np.int64))
    assert bins.histogram(0)[1].tolist() == [[4]]
    bins.add(np.array([[-2.0], [0.0]]), np.zeros(2, dtype=np.int64))
    edges, counts = bins.histogram(0)
    assert counts[0, 0] == 1 and counts[0, -1] == 5 and counts.sum() == 6
    assert edges[0] == -2.0 and edges[-2] == 0.0
