"""Neurons chosen from a ranking: the top, the bottom, or at random.

`scope="model"` takes them from all layers together; `scope="layer"` takes the same share, or count, of each layer.
A share of n neurons is the nearest whole number to it, at least one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np
import pandas as pd

from ..errors import SkillNeuronsError
from ..models import NeuronSet
from .ranking import in_turn

Scope = Literal["model", "layer"]
Order = Literal["top", "bottom", "random"]
Item = TypeVar("Item")


def select(
    table: pd.DataFrame,
    widths: Sequence[int],
    order: Order,
    *,
    count: int | None = None,
    fraction: float | None = None,
    scope: Scope = "model",
    subtask: str,
    parts: Sequence[str],
    seed: int = 0,
) -> NeuronSet:
    """Choose `count` neurons or a `fraction` of them (of each layer with `scope="layer"`).

    `table` is that of `neurons.parquet`; `subtask` names the ranking; `parts` the rankings that it is made from in
    turn, itself alone where it is a subtask's. `seed` is that of a random order.
    """
    if (count is None) == (fraction is None):
        raise SkillNeuronsError("choose neurons by a count or by a fraction=, one of the two.")
    if count is not None and int(count) != count:
        raise SkillNeuronsError(f"a count is a whole number; given: {count}. A share of the neurons is fraction=.")
    if fraction is not None and not 0 < fraction <= 1:
        raise SkillNeuronsError(f"a fraction lies above 0 and at most at 1; given: {fraction}.")
    if scope not in ("model", "layer"):
        raise SkillNeuronsError(f'a scope is "model" or "layer"; given: {scope!r}.')
    if scope == "model":
        own = table[table["subtask"] == subtask].sort_values("rank")
        neurons = list(zip(own["layer"].tolist(), own["neuron"].tolist(), strict=True))
        chosen = _take(neurons, order, _number(len(neurons), count, fraction, "the model"), np.random.default_rng(seed))
    else:
        chosen = []
        source = np.random.default_rng(seed)
        ranked = table[table["subtask"].isin(parts)].sort_values("rank")
        groups = {key: part["neuron"].tolist() for key, part in ranked.groupby(["layer", "subtask"])}
        for layer, width in enumerate(widths):
            merged = [neuron for _, neuron in in_turn([groups[layer, part] for part in parts])]
            taken = _take(merged, order, _number(width, count, fraction, f"layer {layer}"), source)
            chosen += [(layer, neuron) for neuron in taken]
    how: dict[str, object] = {"order": order, "scope": scope, "subtask": subtask}
    how |= {"count": int(count)} if count is not None else {"fraction": float(fraction or 0)}
    return NeuronSet(tuple(chosen), tuple(widths), how | ({"seed": int(seed)} if order == "random" else {}))


def _number(size: int, count: int | None, fraction: float | None, where: str) -> int:
    number = int(count) if count is not None else max(1, round(size * (fraction or 0)))
    if not 1 <= number <= size:
        raise SkillNeuronsError(f"{where} has {size} neurons; asked for: {number}.")
    return number


def _take(neurons: list[Item], order: Order, number: int, source: np.random.Generator) -> list[Item]:
    if order == "random":
        return [neurons[index] for index in source.permutation(len(neurons))[:number]]
    return neurons[:number] if order == "top" else neurons[::-1][:number]
