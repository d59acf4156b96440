"""How well an indicator tells transferability: rank correlations, a Mantel test, an interval over tasks.

    by_target(on, relative)                  # Spearman's correlation over the sources of each target
    indicated(on, relative, config)          # their mean, its interval, its p
    gained(restricted, on, relative, config) # how much more one indicator tells than another

Matrices are [target, source]; with S(t) the sources other than t,

    rho(t) = Spearman( on[t, S(t)], relative[t, S(t)] )         rho = mean over t of rho(t)

A target all of whose sources are equal in either has no rho(t) and is left out of the mean.

*Test.* Pairs share tasks, so they cannot be shuffled one by one. The tasks' labels are permuted in one matrix, rows and
columns together (Mantel 1967). p is one-sided: the share of permutations, the one that changes nothing among them,
whose rho is at least the observed; where there are too many, of those drawn and the observed.

*Interval.* As many tasks are drawn with replacement, again and again (a bootstrap over tasks, not over pairs); 95 % of
the resamples' rho. A task drawn several times counts as so many targets and as so many sources of the others; a pair
of it with itself stays out, as everywhere. Resamples without any rho(t) are left out. Below four tasks all resamples
that tell anything are alike, and there is no interval.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from math import factorial

import numpy as np
from jaxtyping import Float, Int

from .config import TransferConfig

Matrix = Float[np.ndarray, "target source"]
FEWEST = 4
"""Tasks for an interval."""


@dataclass(frozen=True)
class Indicated:
    """The mean rank correlation over `targets` targets, its 95 % interval over tasks, and its p (Mantel, one-sided).

    `permutations` is the number of those that p was counted over; `exact` says that these were all there are.
    """

    correlation: float
    low: float
    high: float
    targets: int
    p: float
    permutations: int
    exact: bool


@dataclass(frozen=True)
class Gained:
    """A difference of two mean rank correlations with its 95 % interval over tasks."""

    difference: float
    low: float
    high: float


def by_target(on: Matrix, relative: Matrix) -> Float[np.ndarray, " target"]:
    """Spearman's rank correlation over the sources of each target, itself left out; NaN where there is none."""
    return _spearman(on, relative, _once(len(on)))[0]


def indicated(on: Matrix, relative: Matrix, config: TransferConfig) -> Indicated:
    """How well `on` tells `relative`."""
    mean = float(_mean(on, relative, _once(len(on)))[0])
    bounds = _interval(_mean(on, relative, _drawn(len(on), config)), len(on))
    targets = int((~np.isnan(by_target(on, relative))).sum())
    rho = np.array([_product(one, other) for one, other in _relabelled(on, relative, config)])
    reached = ~(rho < rho[0] - 1e-12)  # one that cannot be told counts as reached
    return Indicated(mean, *bounds, targets, float(reached.mean()), len(rho), _all(len(on), config))


def gained(one: Matrix, other: Matrix, relative: Matrix, config: TransferConfig) -> Gained:
    """How much better `one` tells `relative` than `other` does; both in the same resamples."""
    difference, resampled = (
        _mean(one, relative, weights) - _mean(other, relative, weights)
        for weights in (_once(len(one)), _drawn(len(one), config))
    )
    return Gained(float(difference[0]), *_interval(resampled, len(one)))


def _relabelled(on: Matrix, relative: Matrix, config: TransferConfig) -> Iterator[tuple[Matrix, Matrix]]:
    """The rows that `_unit` makes of both, those of `on` under every relabelling of the tasks; as they are at first."""
    one, other = (_unit(values, _once(len(on)))[0] for values in (on, relative))
    for order in _orders(len(on), config):
        yield one[np.ix_(order, order)], other


def _orders(tasks: int, config: TransferConfig) -> Iterator[Int[np.ndarray, " task"]]:
    """Every order of the tasks, or as many as are drawn; the one in which they are given comes first."""
    if _all(tasks, config):
        yield from map(np.array, permutations(range(tasks)))
        return
    yield np.arange(tasks)
    draw = np.random.default_rng(config.seed)
    for _ in range(config.permutations):
        yield draw.permutation(tasks)


def _all(tasks: int, config: TransferConfig) -> bool:
    return factorial(tasks) <= config.permutations


def _product(one: Matrix, other: Matrix) -> float:
    """The mean over targets of the products of two matrices' unit rows; rows of 0 have no correlation."""
    told = (one.any(1) & other.any(1)).sum()
    return float((one * other).sum() / told) if told else np.nan


def _once(tasks: int) -> Float[np.ndarray, "1 task"]:
    return np.ones((1, tasks))


def _drawn(tasks: int, config: TransferConfig) -> Float[np.ndarray, "resample task"]:
    """How often each task was drawn."""
    draw = np.random.default_rng(config.seed)
    return draw.multinomial(tasks, np.full(tasks, 1 / tasks), config.resamples).astype(np.float64)


def _interval(values: Float[np.ndarray, " resample"], tasks: int) -> tuple[float, float]:
    told = values[~np.isnan(values)]
    if tasks < FEWEST or not len(told):
        return np.nan, np.nan
    low, high = np.percentile(told, [2.5, 97.5])
    return float(low), float(high)


def _mean(on: Matrix, relative: Matrix, weights: Float[np.ndarray, "resample task"]) -> Float[np.ndarray, " resample"]:
    """The mean of the targets' correlations, each target as often as it was drawn; NaN where there is none."""
    rho = _spearman(on, relative, weights)
    often = np.where(np.isnan(rho), 0.0, weights)
    count = often.sum(1)
    return np.where(count > 0, (often * np.nan_to_num(rho)).sum(1) / np.maximum(count, 1.0), np.nan)


def _spearman(
    on: Matrix, relative: Matrix, weights: Float[np.ndarray, "resample task"]
) -> Float[np.ndarray, "resample target"]:
    """Each target's correlation over the sources that were drawn, each as often as it was."""
    one, other = _unit(on, weights), _unit(relative, weights)
    return np.where(one.any(2) & other.any(2), (one * other).sum(2), np.nan)


def _unit(values: Matrix, weights: Float[np.ndarray, "resample task"]) -> Float[np.ndarray, "resample target source"]:
    """Rows whose product is the rank correlation: ranks less their mean, times the root of the weights, of length 1.

    0 at a target itself; 0 throughout where all sources of a target are equal, or unknown (NaN).
    """
    values = values.round(12)  # so that equal ones tie whichever way they were computed
    drawn = weights[:, None, :] * ~np.eye(len(values), dtype=bool)
    below = (values[:, None] < values[:, :, None]) + 0.5 * (values[:, None] == values[:, :, None])
    ranks = np.einsum("tso,rto->rts", below, drawn)  # of source s among the others o, less a half
    centred = ranks - (drawn * ranks).sum(2, keepdims=True) / np.maximum(drawn.sum(2, keepdims=True), 1.0)
    rows = np.sqrt(drawn) * centred
    length = np.linalg.norm(rows, axis=2, keepdims=True)
    return np.where(length > 1e-9, rows / np.maximum(length, 1e-9), 0.0)
