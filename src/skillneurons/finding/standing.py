"""How a run ranks one neuron: its row of the table, and how each trial reads it.

    own = standings(skill, [(3, 120), (5, 1314)])       # one Standing each
    own[0].rank, own[0].trials[0].position, own[0].trials[0].baseline

With several subtasks it is the one that a neuron ranks best in, unless one is named.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import SkillNeuronsError
from ..models import Backbone
from .score import accuracies

if TYPE_CHECKING:
    from .skill import SkillNeurons


@dataclass(frozen=True)
class AtBest:
    """A neuron in one trial, at its best position: `sign` 1 where above the baseline means positive, else -1."""

    position: int
    sign: int
    predictivity: float
    baseline: float


@dataclass(frozen=True)
class Standing:
    """A neuron in the ranking of one subtask; `of` is the number of neurons, `trials` has one entry a trial.

    `predictivity` (Eq. 6, on dev), `std` over trials, `p_value` and `q_value` are those of the run's table.
    """

    subtask: str
    layer: int
    neuron: int
    rank: int
    of: int
    predictivity: float
    std: float
    p_value: float
    q_value: float
    trials: tuple[AtBest, ...]


def standings(skill: SkillNeurons, neurons: Iterable[tuple[int, int]], subtask: str | None = None) -> list[Standing]:
    """The standing of each (layer, neuron).

    Raises `SkillNeuronsError` for a neuron or a subtask that the run does not have.
    """
    pairs = [(int(layer), int(neuron)) for layer, neuron in neurons]
    parts = [own["name"] for own in skill.about["subtasks"]]
    if subtask is not None and subtask not in parts:
        raise SkillNeuronsError(f"a subtask of this run is one of {', '.join(parts)}; given: {subtask!r}.")
    for layer, neuron in pairs:
        _refuse_missing(skill, layer, neuron)
    table = skill.table().sort_values("rank", kind="stable")
    asked = pd.MultiIndex.from_frame(table[["layer", "neuron"]]).isin(pairs)
    rows = table[asked & table["subtask"].isin(parts if subtask is None else [subtask])]
    best: dict[tuple[int, int], dict[Hashable, Any]] = {}
    for row in rows.to_dict("records"):
        best.setdefault((row["layer"], row["neuron"]), row)
    read = _read(skill, {pair: (parts.index(row["subtask"]), row) for pair, row in best.items()})
    numbers = ("predictivity", "std", "p_value", "q_value")
    return [
        Standing(
            best[pair]["subtask"], *pair, best[pair]["rank"], sum(skill.widths),
            **{name: best[pair][name] for name in numbers}, trials=read[pair],
        )
        for pair in pairs
    ]  # fmt: skip


def refuse_trial(skill: SkillNeurons, trial: int) -> None:
    """Raise `SkillNeuronsError` for a trial that the run does not have."""
    count = len(skill.prompts)
    if not 0 <= trial < count:
        there = f"trials 0 to {count - 1}" if count > 1 else "trial 0 alone"
        raise SkillNeuronsError(f"trials are counted from 0: this run has {there}; given: {trial}.")


def refuse_foreign(model: Backbone, skill: SkillNeurons) -> None:
    """Raise `SkillNeuronsError` where the run was found in another model, another dtype of it, or other weights."""
    if model.fingerprint != skill.about["fingerprints"]["model"]:
        source = skill.about["source"]
        drawn = " with random weights" if source["random_weights"] else ""
        raise SkillNeuronsError(
            f"a run is read with the model it was found in: {source['model']}{drawn} in {source['dtype']}, as it was "
            f"then; {model.name} in {str(model.model.dtype).removeprefix('torch.')} differs in its weights, "
            "configuration or tokenizer. Give that model, or run `find` with this one."
        )


def _refuse_missing(skill: SkillNeurons, layer: int, neuron: int) -> None:
    layers, given = len(skill.widths), f"given: layer {layer}, neuron {neuron}"
    if not 0 <= layer < layers:
        raise SkillNeuronsError(f"{skill.about['model']} has layers 0 to {layers - 1}; {given}.")
    if not 0 <= neuron < skill.widths[layer]:
        raise SkillNeuronsError(
            f"layer {layer} of {skill.about['model']} has neurons 0 to {skill.widths[layer] - 1}; {given}."
        )


def _read(
    skill: SkillNeurons, chosen: dict[tuple[int, int], tuple[int, dict[Hashable, Any]]]
) -> dict[tuple[int, int], tuple[AtBest, ...]]:
    """Each neuron (its subtask's number, its row) in every trial; a layer's tensors are read once a trial."""
    found: dict[tuple[int, int], list[AtBest]] = {pair: [] for pair in chosen}
    for trial, scores in enumerate(skill.scores):
        for layer in sorted({layer for layer, _ in chosen}):
            baseline, fired = scores.baseline(layer), scores.fired(layer)
            for pair in (own for own in chosen if own[0] == layer):
                subtask, row = chosen[pair]
                position, sign = int(row["position"][trial]), int(row["sign"][trial])
                counts = fired[subtask, :, position, pair[1]].numpy()[None, :, None, None]
                accuracy = float(accuracies(counts, scores.totals[[subtask]], scores.weighted).item())
                predictivity = max(accuracy, 1 - accuracy)  # Eq. 5
                found[pair].append(AtBest(position, sign, predictivity, float(baseline[subtask, position, pair[1]])))
    return {pair: tuple(own) for pair, own in found.items()}
