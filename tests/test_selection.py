"""Neurons chosen from a ranking: top, bottom and at random, over the model and in each layer; errors; plain JSON."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from skillneurons import NeuronSet, SkillNeuronsError
from skillneurons.finding.ranking import TrialBest, rank
from skillneurons.finding.selection import select

WIDTHS = (10, 6, 4)
NEURONS = [(layer, neuron) for layer, width in enumerate(WIDTHS) for neuron in range(width)]
PARTS = ("one", "two")


def ranking(subtasks: tuple[str, ...]) -> pd.DataFrame:
    draw = np.random.default_rng(5)
    shape = (len(subtasks), len(NEURONS))
    best = TrialBest(draw.random(shape), draw.integers(0, 3, shape), draw.integers(0, 2, shape), draw.random(shape))
    return rank([best], WIDTHS, subtasks, "task", seed=0).to_pandas()


TABLE = ranking(PARTS)
BINARY = ranking(("task",))


def chosen(order: Any = "top", subtask: str = "one", **options: Any) -> NeuronSet:
    parts = PARTS if subtask == "task" else (subtask,)
    return select(TABLE, WIDTHS, order, subtask=subtask, parts=parts, **options)


def by_rank(subtask: str, layer: int | None = None) -> list[tuple[int, int]]:
    own = TABLE[TABLE["subtask"] == subtask].sort_values("rank")
    pairs = [*zip(own["layer"].tolist(), own["neuron"].tolist(), strict=True)]
    return [pair for pair in pairs if layer is None or pair[0] == layer]


@pytest.mark.parametrize("subtask", ["one", "two", "task"])
def test_the_models_top_and_bottom(subtask: str) -> None:
    everything = by_rank(subtask)
    assert list(chosen(count=5, subtask=subtask)) == everything[:5]
    assert list(chosen("bottom", count=5, subtask=subtask)) == everything[:-6:-1]
    assert list(chosen(fraction=1.0, subtask=subtask)) == everything


def test_each_layers_top_and_bottom() -> None:
    for order, part in (("top", slice(0, 2)), ("bottom", slice(None, -3, -1))):
        found = chosen(order, count=2, scope="layer")
        assert list(found) == [pair for layer in range(3) for pair in by_rank("one", layer)[part]]


def test_each_layers_top_takes_several_rankings_in_turn() -> None:
    found = chosen(subtask="task", count=3, scope="layer")
    for layer in range(3):
        one, two = by_rank("one", layer), by_rank("two", layer)
        first = one.pop(0)
        second = next(pair for pair in two if pair != first)
        third = next(pair for pair in one if pair != second)
        assert [pair for pair in found if pair[0] == layer] == [first, second, third]


def test_two_labels_have_the_one_ranking() -> None:
    found = select(BINARY, WIDTHS, "top", count=4, subtask="task", parts=["task"], scope="layer")
    assert Counter(layer for layer, _ in found) == {0: 4, 1: 4, 2: 4}


@pytest.mark.parametrize(
    ("fraction", "of_model", "of_layers"),
    [(0.01, 1, [1, 1, 1]), (0.2, 4, [2, 1, 1]), (0.37, 7, [4, 2, 1]), (0.5, 10, [5, 3, 2]), (1, 20, [10, 6, 4])],
)
def test_a_fraction_is_the_nearest_number_and_at_least_one(
    fraction: float, of_model: int, of_layers: list[int]
) -> None:
    for order in ("top", "bottom", "random"):
        assert len(chosen(order, fraction=fraction)) == of_model
        layers = Counter(layer for layer, _ in chosen(order, fraction=fraction, scope="layer"))
        assert [layers[layer] for layer in range(3)] == of_layers


def test_random_neurons_are_decided_by_the_seed_and_all_equally_likely() -> None:
    assert chosen("random", count=8, seed=1) == chosen("random", count=8, seed=1)
    assert set(chosen("random", count=8, seed=1)) != set(chosen("random", count=8, seed=2))
    counts = Counter(pair for seed in range(600) for pair in chosen("random", count=5, seed=seed))
    # 600 draws of 5 among 20: each is expected 150 times, give or take 10.6
    assert set(counts) == set(NEURONS)
    assert 100 < min(counts.values()) <= max(counts.values()) < 200
    layers = [
        Counter(layer for layer, _ in chosen("random", fraction=0.5, scope="layer", seed=seed)) for seed in (1, 2)
    ]
    assert layers[0] == layers[1] == {0: 5, 1: 3, 2: 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "by a count or by a fraction"),
        ({"count": 3, "fraction": 0.1}, "one of the two"),
        ({"count": 0}, "has 20 neurons; asked for: 0"),
        ({"count": 21}, "the model has 20 neurons; asked for: 21"),
        ({"count": -1}, "asked for: -1"),
        ({"count": 2.5}, "whole number.*2.5"),
        ({"count": 7, "scope": "layer"}, "layer 1 has 6 neurons; asked for: 7"),
        ({"fraction": 0.0}, "above 0 and at most at 1; given: 0.0"),
        ({"fraction": 1.5}, "given: 1.5"),
        ({"fraction": float("nan")}, "given: nan"),
        ({"count": 3, "scope": "head"}, '"model" or "layer"; given: \'head\''),
    ],
)
def test_what_cannot_be_chosen_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SkillNeuronsError, match=message):
        chosen(**options)


def test_a_set_says_how_it_was_chosen_and_comes_back_from_json(tmp_path: Path) -> None:
    found = chosen("random", fraction=0.2, scope="layer", seed=np.int64(3))
    assert found.selection == {"order": "random", "scope": "layer", "subtask": "one", "fraction": 0.2, "seed": 3}
    found.save(tmp_path / "set.json")
    again = NeuronSet.load(tmp_path / "set.json")
    assert again == found and list(again) == list(found) and again.widths == WIDTHS
    content = json.loads((tmp_path / "set.json").read_text())
    assert content["neurons"] == [list(pair) for pair in found] and set(content) == {"neurons", "widths", "selection"}
    chosen(count=np.int64(2)).save(tmp_path / "two.json")  # numpy's numbers are plain ones in the file
    assert json.loads((tmp_path / "two.json").read_text())["selection"]["count"] == 2
