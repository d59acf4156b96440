"""The permutation test over kinds: what a plain loop over all orders of the tasks gives."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from skillneurons.errors import SkillNeuronsError
from skillneurons.evidence.groupings import count, grouped, partitions


def statistic(values: np.ndarray, kinds: tuple[str, ...]) -> float:
    pairs = [(one, other) for one in range(len(kinds)) for other in range(len(kinds)) if one != other]
    same = [values[pair] for pair in pairs if kinds[pair[0]] == kinds[pair[1]]]
    return float(np.mean(same) - np.mean([values[pair] for pair in pairs if kinds[pair[0]] != kinds[pair[1]]]))


@pytest.mark.parametrize("kinds", ["aabbb", "aabbc", "aaabbcc", "abbcc"])
@pytest.mark.parametrize("seed", range(3))
def test_p_is_the_share_of_all_orders(kinds: str, seed: int) -> None:
    """Every grouping stands for the same number of orders, so that shares of both are the same."""
    values = np.random.default_rng(seed).normal(size=(len(kinds), len(kinds)))
    observed = statistic(values, tuple(kinds))
    every = np.array([statistic(values, own) for own in permutations(kinds)])
    found = grouped(values, list(kinds))
    assert found.difference == pytest.approx(observed) and found.difference == pytest.approx(found.same - found.other)
    assert found.exact and found.p == pytest.approx((every >= observed - 1e-9).mean())


def test_kinds_of_3_2_and_2_have_105_groupings() -> None:
    kinds = ["sentiment"] * 3 + ["inference"] * 2 + ["topic"] * 2
    same = np.array([[own == other for own in kinds] for other in kinds], dtype=float)
    found = grouped(same, kinds)
    assert (found.groupings, found.p, found.same, found.other) == (105, 1 / 105, 1.0, 0.0)
    assert grouped(-same, kinds).p == 1.0


@pytest.mark.parametrize("sizes", [(3, 2, 2), (2, 2), (1, 1, 2), (4, 1), (2, 2, 2), (3, 3)])
def test_groupings_come_once_each(sizes: tuple[int, ...]) -> None:
    every = [
        frozenset(frozenset(np.flatnonzero(own == group)) for group in own) for own in partitions(sum(sizes), sizes)
    ]
    assert len(set(every)) == len(every) == count(sizes)
    assert all(sorted(map(len, own)) == sorted(sizes) for own in every)


def test_of_many_groupings_some_are_drawn() -> None:
    kinds = [str(index // 2) for index in range(8)]  # 105 groupings
    values = np.random.default_rng(0).normal(size=(8, 8))
    exact, drawn = grouped(values, kinds), grouped(values, kinds, most=100, seed=3)
    assert not drawn.exact and drawn.groupings == 101
    assert drawn.difference == exact.difference
    wide = grouped(np.equal.outer(kinds, kinds).astype(float), kinds, most=100)
    assert 1 / 101 <= wide.p <= 5 / 101  # 1/105 of the draws are the observed grouping
    assert grouped(values, kinds, most=100, seed=3) == drawn
    assert abs(grouped(values, kinds, most=104, seed=1).p - exact.p) < 4 * (0.25 / 104) ** 0.5


def test_what_is_unknown_is_left_out() -> None:
    values = np.array([[9.0, 1.0, 0.0], [np.nan, 9.0, 0.5], [0.0, 0.5, 9.0]])
    found = grouped(values, ["a", "a", "b"])
    assert (found.same, found.other) == (1.0, 0.25)
    assert grouped(np.full((3, 3), np.nan), ["a", "a", "b"]).p == 1.0


def test_kinds_that_say_nothing_are_refused() -> None:
    values = np.zeros((3, 3))
    with pytest.raises(SkillNeuronsError, match=r"without one: one, three\. Kinds are told by kind ="):
        grouped(values, [None, "a", None], names=["one", "two", "three"])
    with pytest.raises(SkillNeuronsError, match="no two of task 0, task 1, task 2 do"):
        grouped(values, ["a", "b", "c"])
    with pytest.raises(SkillNeuronsError, match="all of task 0, task 1, task 2 do"):
        grouped(values, ["a", "a", "a"])
