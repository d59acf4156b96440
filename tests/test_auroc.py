"""The area under the ROC curve is scikit-learn's, and the buffer changes nothing about it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from skillneurons.finding.peers.auroc import Buffer, auroc, either_auroc, fitting, portions
from skillneurons.models import Batch

DRAW = np.random.default_rng(0)
VALUES = {
    "distinct": DRAW.normal(size=(20, 90)),
    "after a ReLU": np.maximum(DRAW.normal(size=(20, 90)) - 1, 0),
    "few values": DRAW.integers(-1, 2, (20, 90)).astype(float),
    "all tied": np.zeros((3, 90)),
    "told apart": np.arange(90.0)[None],
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("share", [0.5, 0.03])
def test_it_is_scikit_learns(values: np.ndarray, dtype: type, share: float) -> None:
    values = values.astype(dtype)
    positive = np.arange(90) >= 90 * (1 - share)
    low, high = (torch.from_numpy(values[:, side]) for side in (~positive, positive))
    expected = np.array([roc_auc_score(positive, own) for own in values])
    assert np.abs(auroc(low, high).numpy() - expected).max() < 1e-12
    assert np.abs(either_auroc(low, high).numpy() - np.maximum(expected, 1 - expected)).max() < 1e-12


def test_the_sides_can_be_named_either_way() -> None:
    low, high = torch.from_numpy(DRAW.normal(size=(50, 31))), torch.from_numpy(DRAW.normal(size=(50, 17)))
    assert torch.equal(either_auroc(low, high), either_auroc(high, low))


@pytest.mark.parametrize(("most", "passes"), [(300, 1), (133, 1), (132, 2), (45, 3), (44, 4), (1, 133)])
def test_portions_hold_every_neuron_once(most: int, passes: int) -> None:
    widths = [44, 50, 39]
    found = portions(widths, most)
    assert len(found) == passes
    assert max(sum(own.stop - own.start for own in part) for part in found) <= most
    taken = [(own.layer, neuron) for part in found for own in part for neuron in range(own.start, own.stop)]
    assert taken == [(layer, neuron) for layer, width in enumerate(widths) for neuron in range(width)]


def test_a_portion_takes_the_memory_that_is_told() -> None:
    widths, memory = [44, 50, 39], 100_000
    for part in portions(widths, fitting(60, 5, 4, memory)):
        kept = Buffer(part, 60, 5, torch.float32).kept.values()
        assert memory / 2 < sum(own.numel() * own.element_size() for own in kept) <= memory


@pytest.mark.parametrize("most", [9, 4, 1])
def test_the_best_position_counts(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers of neurons, three labels, two subtasks; sorted a few columns at a time."""
    monkeypatch.setattr("skillneurons.finding.peers.auroc.TOGETHER", 700)
    labels = DRAW.integers(0, 3, 40)
    sides = np.array([[[1, 1, 0], [0, 0, 1]], [[0, 1, 0], [1, 0, 0]]])
    layers = [DRAW.normal(size=(40, 8, width)).round(1) for width in (5, 4)]
    found = []
    for part in portions([5, 4], most):
        buffer = Buffer(part, 40, 3, torch.float64)
        for samples in np.array_split(DRAW.permutation(40), 7):
            size = len(samples)
            there = torch.ones(size, 8, dtype=torch.long)
            batch = Batch(torch.empty(size, 8, 1), there, ~there.bool(), slice(2, 5), 0, {})
            buffer.begin(batch, samples)
            for layer, values in enumerate(layers):
                buffer(layer, torch.from_numpy(values[samples]))
        found.append(buffer.areas(labels, sides, torch.device("cpu")))
    areas = np.concatenate(found, axis=1)
    for subtask, (negative, positive) in enumerate(sides):
        own = (negative + positive)[labels] == 1
        for neuron in range(9):
            values = np.concatenate(layers, axis=2)[own, 2:5, neuron]
            each = [roc_auc_score(positive[labels[own]], column) for column in values.T]
            assert areas[subtask, neuron] == pytest.approx(max(max(area, 1 - area) for area in each), abs=1e-12)
