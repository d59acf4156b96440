"""The standardised difference of means is that of a loop in float64 that keeps everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from skillneurons.finding.peers.difference import Differences
from skillneurons.finding.score import TrialScores
from skillneurons.models import Batch

SIDES = np.array([[[1, 1, 0], [0, 0, 1]], [[0, 1, 0], [1, 0, 0]]])


def summed(values: Tensor, labels: np.ndarray, centre: Tensor, classes: int = 3) -> Differences:
    """Of values [sample, token, neuron] whose tokens from the third on are the prompt's."""
    positions = values.shape[1] - 2
    scores = TrialScores({"mean.0": torch.cat([centre, torch.zeros(2, values.shape[2])])}, SIDES[:, :, 0], True, 1)
    found = Differences(scores, positions, labels, classes, torch.device("cpu"))
    for samples in np.array_split(np.random.default_rng(1).permutation(len(labels)), 9):
        there = torch.ones(len(samples), values.shape[1], dtype=torch.long)
        batch = Batch(there[:, :, None].float(), there, ~there.bool(), slice(2, None), 0, {})
        found.begin(batch, samples)
        found(0, values[samples])
    return found


def plain(negative: np.ndarray, positive: np.ndarray) -> float:
    n0, n1 = len(negative), len(positive)
    squares = ((negative - negative.mean()) ** 2).sum() + ((positive - positive.mean()) ** 2).sum()
    return float(abs(positive.mean() - negative.mean()) / np.sqrt(squares / (n0 + n1 - 2)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_it_is_a_plain_loop(dtype: torch.dtype) -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 80)
    values = draw.normal(size=(80, 6, 7)) + labels[:, None, None] * draw.normal(size=(6, 7))
    values[:, :, 0] += 300  # a neuron that is always very active
    given = torch.from_numpy(values).to(dtype)
    found = summed(given, labels, given[:40, 2:].double().mean(0)).largest(0, SIDES)
    seen = given.double().numpy()[:, 2:]
    for subtask, sides in enumerate(SIDES):
        low, high = (seen[side[labels] == 1] for side in sides)
        for neuron in range(7):
            expected = max(plain(low[:, position, neuron], high[:, position, neuron]) for position in range(4))
            assert found[subtask, neuron] == pytest.approx(expected, rel=1e-9)


def test_a_neuron_that_never_changes_differs_by_nothing() -> None:
    labels = np.array([0, 1, 2] * 10)
    values = torch.full((30, 3, 2), 0.1)
    values[:, :, 1] = 0
    for centre in (torch.zeros(1, 2), torch.full((1, 2), 0.37)):
        assert (summed(values, labels, centre).largest(0, SIDES) < 1e-6).all()


def test_sides_that_are_each_constant_differ_without_bound_but_finitely() -> None:
    labels = np.array([0, 1, 2] * 10)
    values = torch.from_numpy((labels == 2).astype(float))[:, None, None].expand(30, 3, 1)
    found = summed(values, labels, torch.full((1, 1), 1 / 3)).largest(0, SIDES)
    assert 1e5 < found[0, 0] < 1e7
    assert found[1, 0] < 1e-6
