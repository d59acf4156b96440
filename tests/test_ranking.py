"""The order of the neurons: Eq. 5 and 6 by loops, ties by p and then by chance, several classes in turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from skillneurons.finding.ranking import TrialBest, in_turn, ordered, rank, reduce_trial
from skillneurons.finding.score import TrialScores
from skillneurons.finding.significance import over_trials, q_values, trial_p

WIDTHS = (7, 4)
POSITIONS = 3
SUBTASKS = ("one", "two", "three")
TOTALS = np.array([[11, 6], [5, 5], [9, 4]])


def scores(seed: int, weighted: bool = True, totals: np.ndarray = TOTALS) -> TrialScores:
    draw = np.random.default_rng(seed)
    tensors = {}
    for layer, width in enumerate(WIDTHS):
        fired = draw.integers(0, totals[:, :, None, None] + 1, (len(totals), 2, POSITIONS, width))
        tensors[f"fired.{layer}"] = torch.from_numpy(fired.astype(np.int32))
    return TrialScores(tensors, totals, weighted, len(WIDTHS))


def accuracy(trial: TrialScores, subtask: int, layer: int, position: int, neuron: int) -> float:
    """Eq. 4 from the counts."""
    negative, positive = (int(trial.fired(layer)[subtask, side, position, neuron]) for side in (0, 1))
    n0, n1 = (int(total) for total in trial.totals[subtask])
    if trial.weighted:
        return (positive / n1 + (n0 - negative) / n0) / 2
    return (positive + n0 - negative) / (n0 + n1)


@pytest.mark.parametrize("weighted", [True, False])
def test_a_trial_keeps_each_neurons_best_position(weighted: bool) -> None:
    trial = scores(1, weighted)
    found = reduce_trial(trial)
    column = 0
    for layer, width in enumerate(WIDTHS):
        for neuron in range(width):
            for subtask in range(3):
                each = [accuracy(trial, subtask, layer, position, neuron) for position in range(POSITIONS)]
                either = [max(own, 1 - own) for own in each]  # Eq. 5
                position = int(found.position[subtask, column])
                assert found.predictivity[subtask, column] == pytest.approx(max(either), abs=1e-15)
                assert either[position] == pytest.approx(max(either), abs=1e-15)
                if abs(each[position] - 0.5) > 1e-9:
                    assert found.sign[subtask, column] == (1 if each[position] > 0.5 else -1)
            column += 1
    for subtask in range(3):
        p = np.concatenate([trial_p(trial.fired(layer)[subtask].numpy(), TOTALS[subtask]) for layer in (0, 1)])
        assert np.array_equal(found.p[subtask], p)


@pytest.mark.parametrize("trials", [1, 2, 5])
def test_the_table_is_the_mean_over_trials(trials: int) -> None:
    """Eq. 6, with its spread, p and q, positions and signs of every trial; sorted, every neuron once a subtask."""
    best = [reduce_trial(scores(seed)) for seed in range(trials)]
    table = rank(best, WIDTHS, SUBTASKS, "all", seed=0).to_pandas()
    assert table["subtask"].drop_duplicates().tolist() == [*SUBTASKS, "all"]
    for index, name in enumerate(SUBTASKS):
        own = table[table["subtask"] == name]
        assert own["rank"].tolist() == [*range(1, sum(WIDTHS) + 1)]
        assert (own["predictivity"].diff().dropna() <= 1e-12).all()
        assert {*zip(own["layer"], own["neuron"], strict=True)} == {(0, n) for n in range(7)} | {
            (1, n) for n in range(4)
        }
        p = over_trials(np.stack([trial.p[index] for trial in best]))
        q = q_values(p)
        for row in own.to_dict("records"):
            column = row["neuron"] + (WIDTHS[0] if row["layer"] else 0)
            values = [float(trial.predictivity[index, column]) for trial in best]
            middle = sum(values) / trials
            assert row["predictivity"] == pytest.approx(middle, abs=1e-15)
            if trials == 1:
                assert np.isnan(row["std"])
            else:
                spread = (sum((value - middle) ** 2 for value in values) / (trials - 1)) ** 0.5
                assert row["std"] == pytest.approx(spread, abs=1e-15)
            assert (row["p_value"], row["q_value"]) == (p[column], q[column])
            assert list(row["position"]) == [int(trial.position[index, column]) for trial in best]
            assert list(row["sign"]) == [int(trial.sign[index, column]) for trial in best]


def test_several_classes_take_turns_and_name_each_neuron_once() -> None:
    table = rank([reduce_trial(scores(seed)) for seed in range(3)], WIDTHS, SUBTASKS, "all", seed=0).to_pandas()
    key = ["layer", "neuron"]
    waiting = [table[table["subtask"] == name][key].to_numpy().tolist() for name in SUBTASKS]
    expected: list[tuple[str, list[int]]] = []
    while any(waiting):
        for name, own in zip(SUBTASKS, waiting, strict=True):
            while own and own[0] in [neuron for _, neuron in expected]:
                own.pop(0)
            if own:
                expected.append((name, own.pop(0)))
    mixed = table[table["subtask"] == "all"]
    assert mixed[key].to_numpy().tolist() == [neuron for _, neuron in expected]
    assert mixed["rank"].tolist() == [*range(1, sum(WIDTHS) + 1)]
    for (name, (layer, neuron)), row in zip(expected, mixed.to_dict("records"), strict=True):
        there = table[(table["subtask"] == name) & (table["layer"] == layer) & (table["neuron"] == neuron)]
        for column in ("predictivity", "p_value", "q_value"):  # the figures that brought it in
            assert there.iloc[0][column] == row[column]


def test_two_labels_have_one_ranking() -> None:
    best = [reduce_trial(scores(seed, weighted=False, totals=TOTALS[:1])) for seed in range(2)]
    table = rank(best, WIDTHS, ["films"], "films", seed=0)
    assert set(table["subtask"].to_pylist()) == {"films"} and len(table) == sum(WIDTHS)


@pytest.mark.parametrize(
    ("orders", "merged"),
    [
        ([[2, 0, 1]], [2, 0, 1]),
        ([[0, 1, 2, 3], [0, 1, 2, 3]], [0, 1, 2, 3]),
        ([[0, 1, 2, 3], [3, 2, 1, 0]], [0, 3, 1, 2]),
        ([[0, 1, 2], [0, 2, 1], [1, 0, 2]], [0, 2, 1]),
    ],
)
def test_turns(orders: Sequence[Sequence[int]], merged: list[int]) -> None:
    assert [thing for _, thing in in_turn(orders)] == merged


def tied(count: int, seed: int) -> np.ndarray:
    return ordered(np.full(count, 0.75), np.full(count, 0.01), np.random.default_rng(seed))


def test_ties_go_by_p_then_by_chance_and_never_by_index() -> None:
    predictivity = np.array([0.6, 0.9, 0.6, 0.7, 0.6])
    p = np.array([0.03, 0.5, 0.01, 0.9, 0.02])
    assert ordered(predictivity, p, np.random.default_rng(0)).tolist() == [1, 3, 2, 4, 0]
    assert tied(2000, 0).tolist() == tied(2000, 0).tolist() != tied(2000, 1).tolist()
    assert sorted(tied(2000, 0).tolist()) == [*range(2000)]
    # the correlation of two unrelated orders of 2000 has a standard deviation of 0.022
    for order in (tied(2000, 0), tied(2000, 1)):
        assert abs(spearmanr(np.arange(2000), order).statistic) < 0.09
    assert abs(spearmanr(tied(2000, 0), tied(2000, 1)).statistic) < 0.09


def test_rounding_parts_no_tie() -> None:
    """0.1 + 0.2 is 0.3, and a table's p that of its mirror image, whatever their last digits say."""
    predictivity = np.tile([0.1 + 0.2, 0.3], 500)
    p = np.tile([1e-200, 1e-200 * (1 + 1e-12)], 500)
    order = ordered(predictivity, p, np.random.default_rng(0))
    first = (order[:500] % 2 == 0).mean()
    assert 0.4 < first < 0.6


def test_dead_neurons_share_the_last_ranks_in_no_order() -> None:
    """A neuron that never fires gets the share of the larger side; all of them tie."""
    neurons = 400
    fired = np.zeros((1, 2, 2, neurons), dtype=np.int32)
    fired[0, 1, 0, 17] = 8
    trial = TrialScores({"fired.0": torch.from_numpy(fired)}, np.array([[12, 8]]), False, 1)
    orders = []
    for seed in (0, 1):
        table = rank([reduce_trial(trial)], [neurons], ["films"], "films", seed).to_pandas()
        assert table["neuron"][0] == 17 and table["predictivity"][0] == 1
        assert (table["predictivity"][1:] == 0.6).all() and (table["p_value"][1:] == 1).all()
        orders.append(table["neuron"][1:].tolist())
        # 0.05 is the standard deviation of 399 unrelated ones
        assert abs(spearmanr(table["rank"][1:], table["neuron"][1:]).statistic) < 0.2
    assert orders[0] != orders[1]


def test_subtasks_break_ties_each_in_its_own_way() -> None:
    neurons = 300
    best = TrialBest(*(np.full((2, neurons), value) for value in (0.75, 0, 1, 0.5)))
    table = rank([best], [neurons], ["one", "two"], "both", seed=0).to_pandas()
    one, two = (table[table["subtask"] == name]["neuron"].tolist() for name in ("one", "two"))
    assert one != two and isinstance(table, pd.DataFrame)
