"""Whether tasks of one kind belong together: a permutation test over the groupings of the tasks into kinds.

    found = grouped(values, ["sentiment", "sentiment", "topic", "topic"])     # values [task, task]
    found.difference, found.p, found.groupings

The statistic is the mean of the values of two tasks of one kind minus that of two tasks of different kinds; the values
of a task with itself and unknown ones (NaN) are left out. Under the null the kinds say nothing: every grouping of the
same tasks into kinds of the same sizes is as likely as the one observed. So p is the share of all groupings, the
observed one among them, whose difference is at least the observed; where there are more than `most`, of so many drawn
at random and the observed. Seven tasks in kinds of 3, 2 and 2 have 105 groupings: p cannot be below 1/105. The test is
of all tasks together; a single task has no p of its own, for it could not be small.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial, prod

import numpy as np
from jaxtyping import Float

from ..errors import SkillNeuronsError

MOST = 5000
"""Groupings that are gone through one by one; of more, as many are drawn."""
_REMEDY = 'Kinds are told by kind = "..." in a task file; find again, or leave a run out.'


@dataclass(frozen=True)
class Grouped:
    """Same-kind against other-kind: the means of both, their difference, its p (one-sided).

    `groupings` is the number of those that p was counted over; `exact` says that these were all there are.
    """

    same: float
    other: float
    difference: float
    p: float
    groupings: int
    exact: bool


def grouped(
    values: Float[np.ndarray, "task task"],
    kinds: Sequence[str | None],
    *,
    names: Sequence[str] | None = None,
    most: int = MOST,
    seed: int = 0,
) -> Grouped:
    """Whether the values of two tasks of one kind are larger than those of two tasks of different kinds.

    `values` need not be symmetric: both of `[one, other]` and `[other, one]` count. `kinds` has one a task; `names` are
    for the errors. Raises `SkillNeuronsError` for a task without a kind, and where no two tasks share a kind, or all
    do.
    """
    tasks = [f"task {index}" for index in range(len(kinds))] if names is None else names
    if without := [name for name, kind in zip(tasks, kinds, strict=True) if kind is None]:
        raise SkillNeuronsError(f"every task of this test has a kind; without one: {', '.join(without)}. {_REMEDY}")
    sizes = sorted(Counter(kinds).values(), reverse=True)
    if sizes[0] == 1 or len(sizes) == 1:
        raise SkillNeuronsError(
            f"of the tasks some share a kind and some do not; {'all' if len(sizes) == 1 else 'no two'} of "
            f"{', '.join(tasks)} do. {_REMEDY}"
        )
    numbers = np.unique(np.array(kinds), return_inverse=True)[1]
    same, other = _means(values, numbers)
    exact = count(sizes) <= most
    every = partitions(len(kinds), sizes) if exact else _drawn(numbers, most, seed)
    differences = np.array([np.subtract(*_means(values, own)) for own in every])
    reached = int((~(differences < same - other - 1e-12)).sum())  # one that cannot be told counts as reached
    total = len(differences) + (not exact)
    return Grouped(same, other, same - other, (reached + (not exact)) / total, total, exact)


def count(sizes: Sequence[int]) -> int:
    """How many groupings of `sum(sizes)` tasks there are into unnamed groups of these sizes."""
    alike = Counter(sizes).values()
    return factorial(sum(sizes)) // prod(map(factorial, sizes)) // prod(map(factorial, alike))


def partitions(tasks: int, sizes: Sequence[int]) -> Iterator[np.ndarray]:
    """Each grouping once, as the number of every task's group [task]."""

    def fill(left: tuple[int, ...], sizes: tuple[int, ...]) -> Iterator[list[tuple[int, ...]]]:
        if not left:
            yield []
            return
        first, *rest = left  # its group is chosen first, so that no grouping comes twice
        for size in sorted(set(sizes)):
            others = list(sizes)
            others.remove(size)
            for companions in combinations(rest, size - 1):
                remaining = tuple(task for task in rest if task not in companions)
                for groups in fill(remaining, tuple(others)):
                    yield [(first, *companions), *groups]

    for groups in fill(tuple(range(tasks)), tuple(sizes)):
        numbers = np.zeros(tasks, np.int64)
        for number, members in enumerate(groups):
            numbers[list(members)] = number
        yield numbers


def _drawn(numbers: np.ndarray, most: int, seed: int) -> Iterator[np.ndarray]:
    draw = np.random.default_rng(seed)
    return (draw.permutation(numbers) for _ in range(most))


def _means(values: Float[np.ndarray, "task task"], numbers: np.ndarray) -> tuple[float, float]:
    """The mean value of two tasks of one group, and of two of different groups; NaN where there are none."""
    same = numbers[:, None] == numbers
    told = ~np.isnan(values) & ~np.eye(len(values), dtype=bool)
    one, other = (values[told & own] for own in (same, ~same))
    return float(one.mean()) if len(one) else np.nan, float(other.mean()) if len(other) else np.nan
