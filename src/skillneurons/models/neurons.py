"""A chosen set of neurons, kept as plain JSON.

    chosen = skill.top(fraction=0.05, scope="layer")
    chosen.save("top.json"); NeuronSet.load("top.json")

Neurons are pairs `(layer, neuron)`, both from 0, layer 0 next to the input, in the order in which they were chosen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from ..errors import SkillNeuronsError
from ..files import read_json, write_json


@dataclass(frozen=True)
class NeuronSet:
    """Neurons of one model, in the order in which they were chosen.

    `widths` has the number of neurons of each layer of the model; `selection` says how the set was chosen
    (its order, its fraction or count, its scope).
    """

    neurons: tuple[tuple[int, int], ...]
    widths: tuple[int, ...]
    selection: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse neurons that the model does not have, and neurons named twice."""
        for layer, neuron in self.neurons:
            if not (0 <= layer < len(self.widths) and 0 <= neuron < self.widths[layer]):
                raise SkillNeuronsError(
                    f"a neuron is (layer, neuron), both from 0, in layers of {list(self.widths)} neurons; "
                    f"given: ({layer}, {neuron}). Choose neurons that this model has."
                )
        if twice := [pair for pair, count in Counter(self.neurons).items() if count > 1]:
            raise SkillNeuronsError(f"a neuron set names each neuron once; given twice: {twice[0]}. Leave one out.")

    def __len__(self) -> int:
        return len(self.neurons)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.neurons)

    def __contains__(self, neuron: object) -> bool:
        return neuron in self.neurons

    def __repr__(self) -> str:
        how = ", ".join(f"{key}={value}" for key, value in self.selection.items())
        return f"NeuronSet({len(self)} of {sum(self.widths)} neurons{'; ' + how if how else ''})"

    def by_layer(self) -> dict[int, Int[np.ndarray, " chosen"]]:
        """The chosen neurons' indices, ascending, for each layer that has any."""
        layers: dict[int, list[int]] = {}
        for layer, neuron in sorted(self.neurons):
            layers.setdefault(layer, []).append(neuron)
        return {layer: np.array(indices) for layer, indices in layers.items()}

    def save(self, path: str | Path) -> None:
        """Write the set as JSON: `{"neurons": [[layer, neuron], ...], "widths": [...], "selection": {...}}`."""
        neurons = [list(pair) for pair in self.neurons]
        write_json(Path(path), {"neurons": neurons, "widths": list(self.widths), "selection": dict(self.selection)})

    @classmethod
    def load(cls, path: str | Path) -> NeuronSet:
        """Read a set written by `save`; a `SkillNeuronsError` where the file is missing or something else."""
        remedy = "A neuron set is a JSON file as NeuronSet.save writes it."
        content = read_json(Path(path), remedy)
        try:
            pairs = tuple((index(layer), index(neuron)) for layer, neuron in content["neurons"])
            return cls(pairs, tuple(index(width) for width in content["widths"]), dict(content.get("selection", {})))
        except SkillNeuronsError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise SkillNeuronsError(f"{path} holds no neuron set ({error!r}). {remedy}") from error
