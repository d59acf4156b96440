"""Orders in which neurons are perturbed: a run's, its reverse, one drawn at random, one by any score.

    skill_first = of_run("skill", skill, scope="layer")
    skill_first.first(0.05)                                # a NeuronSet: 5 % of each layer
    drawn(skill_first, seed=3).first(0.05)                 # as many of each layer, at random

`scope="layer"` takes the same share of each layer (as the authors' code does), `scope="model"` the first of all. An
order that is drawn takes as many neurons of each layer as the one that it stands beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from ..errors import SkillNeuronsError
from ..files import digest
from ..finding.peers.result import by_score
from ..finding.selection import Scope
from ..finding.skill import SkillNeurons
from ..models import NeuronSet

_Layer = Int[np.ndarray, "_"]  # neurons, of any number


@dataclass(frozen=True, eq=False)
class Order:
    """All neurons of a model, the first ones first.

    `layers`: of each layer, its neurons [neuron]; `turns`: for `scope="model"`, the layer of every neuron in the order
    [neuron], None where each layer gives the same share. `draw` numbers the orders of one name.
    """

    name: str
    layers: tuple[_Layer, ...]
    turns: Int[np.ndarray, " neuron"] | None = None
    draw: int = 0

    def first(self, share: float) -> NeuronSet:
        """The first `share` of the neurons, a number from 0 to 1.

        A share of n is the nearest whole number to it, at least one for a share above 0.
        """
        if not 0 <= share <= 1:
            raise SkillNeuronsError(f"a share of the neurons lies between 0 and 1; given: {share}.")
        widths = [len(own) for own in self.layers]
        if self.turns is None:
            counts = [_number(width, share) for width in widths]
        else:
            counts = np.bincount(self.turns[: _number(sum(widths), share)], minlength=len(widths)).tolist()
        chosen = [
            (layer, int(neuron))
            for layer, (own, count) in enumerate(zip(self.layers, counts, strict=True))
            for neuron in own[:count]
        ]
        how = {"order": self.name, "fraction": share, "scope": "layer" if self.turns is None else "model"}
        return NeuronSet(tuple(chosen), tuple(widths), how)

    @property
    def fingerprint(self) -> str:
        """A hash of the order."""
        parts = [np.ascontiguousarray(own).tobytes() for own in self.layers]
        return digest(self.name, str(self.draw), *parts, b"" if self.turns is None else self.turns.tobytes())


def of_run(
    name: str, skill: SkillNeurons, scope: Scope = "layer", bottom: bool = False, subtask: str | None = None
) -> Order:
    """A run's own order, or a subtask's: the most predictive first, or the least with `bottom`."""
    chosen = (skill.bottom if bottom else skill.top)(fraction=1.0, scope=scope, subtask=subtask).neurons
    return _order(name, skill.widths, chosen, scope)


def of_scores(
    name: str, scores: Float[np.ndarray, " neuron"], widths: Sequence[int], seed: int, scope: Scope = "layer"
) -> Order:
    """Neurons by a score, larger ones first, equal ones at random by `seed`; the layers' neurons one after another."""
    if scores.shape != (sum(widths),):
        raise SkillNeuronsError(
            f"an order by scores has one for every neuron, {sum(widths)} here; {name} has {list(scores.shape)}."
        )
    layer = np.repeat(np.arange(len(widths)), widths)
    neuron = np.concatenate([np.arange(width) for width in widths])
    return _order(name, widths, [(int(layer[at]), int(neuron[at])) for at in by_score(scores, seed)], scope)


def drawn(beside: Order, seed: int, draw: int = 0) -> Order:
    """A random order that takes as many neurons of each layer as another."""
    source = np.random.default_rng([seed, draw])
    return replace(beside, name="random", draw=draw, layers=tuple(source.permutation(own) for own in beside.layers))


def _order(name: str, widths: Sequence[int], chosen: Sequence[tuple[int, int]], scope: Scope) -> Order:
    layers = np.array([layer for layer, _ in chosen])
    neurons = np.array([neuron for _, neuron in chosen])
    own = tuple(neurons[layers == layer] for layer in range(len(widths)))
    return Order(name, own, layers if scope == "model" else None)


def _number(size: int, share: float) -> int:
    return max(1, round(size * share)) if share else 0
