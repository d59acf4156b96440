"""Predictivity over trials, and the order that it gives (Eq. 5 and 6; section 3.2 for several classes).

    best = [reduce_trial(trial) for trial in scores]
    table = rank(best, widths, subtasks, task="mnli", seed=0)

Ties are broken by p-value, then at random by seed, never by index. A multi-class task's own ranking takes its
subtasks' in turn, each neuron once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from .score import TrialScores
from .significance import over_trials, q_values, trial_p


@dataclass(frozen=True, eq=False)
class TrialBest:
    """One trial's best position of every neuron, the layers' neurons one after another.

    Arrays [subtask, neuron]: `predictivity` (the inner maximum of Eq. 6), `position`, `sign` (1: above the
    baseline means positive; -1: the reverse) and `p`.
    """

    predictivity: Float[np.ndarray, "subtask neuron"]
    position: Int[np.ndarray, "subtask neuron"]
    sign: Int[np.ndarray, "subtask neuron"]
    p: Float[np.ndarray, "subtask neuron"]


def reduce_trial(scores: TrialScores) -> TrialBest:
    """Keep, of a trial's positions, each neuron's best."""
    predictivity, position, sign, p = [], [], [], []
    for layer in range(scores.layers):
        accuracy = scores.exact_accuracy(layer)
        either = np.maximum(accuracy, 1 - accuracy)  # Eq. 5
        best = either.argmax(1)
        at_best = np.take_along_axis(accuracy, best[:, None], 1)[:, 0]
        predictivity.append(np.maximum(at_best, 1 - at_best))
        position.append(best)
        sign.append(np.where(at_best >= 0.5, 1, -1))
        fired = scores.fired(layer).numpy()
        p.append(np.stack([trial_p(counts, total) for counts, total in zip(fired, scores.totals, strict=True)]))
    return TrialBest(*(np.concatenate(parts, axis=1) for parts in (predictivity, position, sign, p)))


def rank(trials: Sequence[TrialBest], widths: Sequence[int], subtasks: Sequence[str], task: str, seed: int) -> pa.Table:
    """The table of section 4.4's `neurons.parquet`: sorted by subtask and rank, rank 1 the most predictive."""
    layer = np.concatenate([np.full(width, index) for index, width in enumerate(widths)])
    neuron = np.concatenate([np.arange(width) for width in widths])
    orders, columns = [], []
    for index in range(len(subtasks)):
        values = np.stack([trial.predictivity[index] for trial in trials])
        p = over_trials(np.stack([trial.p[index] for trial in trials]))
        mean = values.mean(0)  # Eq. 6
        std = values.std(0, ddof=1) if len(trials) > 1 else np.full(len(mean), np.nan)
        orders.append(ordered(mean, p, np.random.default_rng([seed, index])))
        position = np.stack([trial.position[index] for trial in trials], axis=1)
        sign = np.stack([trial.sign[index] for trial in trials], axis=1)
        columns.append((mean, std, p, q_values(p), position, sign))
    parts = [
        _part(name, layer[order], neuron[order], *(column[order] for column in own))
        for name, order, own in zip(subtasks, orders, columns, strict=True)
    ]
    if len(subtasks) > 1:
        source, order = np.array(in_turn(orders)).T
        mixed = (np.stack(same)[source, order] for same in zip(*columns, strict=True))
        parts.append(_part(task, layer[order], neuron[order], *mixed))
    return pa.concat_tables(parts)


def ordered(
    predictivity: Float[np.ndarray, " neuron"], p: Float[np.ndarray, " neuron"], source: np.random.Generator
) -> Int[np.ndarray, " neuron"]:
    """Indices by descending predictivity, then ascending p, then at random.

    Rounded, so that equal ones tie whichever way they were computed: predictivities are sums of fractions, which 12
    decimals tell apart; a table and its mirror image have the same p but for the last digits of its logarithm.
    """
    return np.lexsort((source.random(len(p)), np.log(p).round(9), -predictivity.round(12)))


def in_turn(orders: Sequence[Sequence[int] | np.ndarray]) -> list[tuple[int, int]]:
    """Merge orders of the same things, the next unseen one of each in turn: pairs (which order, which thing)."""
    seen: set[int] = set()
    merged: list[tuple[int, int]] = []
    waiting = [iter(order) for order in orders]
    while len(seen) < len(orders[0]):
        for source, rest in enumerate(waiting):
            fresh = next((int(index) for index in rest if int(index) not in seen), None)
            if fresh is not None:
                seen.add(fresh)
                merged.append((source, fresh))
    return merged


def _part(
    name: str,
    layer: np.ndarray,
    neuron: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    p: np.ndarray,
    q: np.ndarray,
    position: np.ndarray,
    sign: np.ndarray,
) -> pa.Table:
    """The rows of one ranking, best first."""
    return pa.table(
        {
            "subtask": pa.array([name] * len(layer), pa.string()),
            "layer": pa.array(layer, pa.int32()),
            "neuron": pa.array(neuron, pa.int32()),
            "predictivity": mean,
            "std": std,
            "p_value": p,
            "q_value": q,
            "rank": pa.array(np.arange(1, len(layer) + 1), pa.int32()),
            "position": _lists(position),
            "sign": _lists(sign),
        }
    )


def _lists(values: Int[np.ndarray, "neuron trial"]) -> pa.Array:
    offsets = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    kind = pa.list_(pa.field("element", pa.int32()))  # as Parquet names it: read and written again, the bytes stay
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel(), pa.int32()), type=kind)
