"""One trial's passes for the peers of predictivity: train, dev, dev with gradients.

    announce(inputs, orders, memory)                  # says what will be held; refuses what cannot be
    found = trial_peers(inputs, prompt, scores, orders, memory, label)
    found.scores["auroc"]                             # [subtask, neuron], the layers' one after another

One pass over train serves the probes and the pooled baselines, one over dev all that rests on activations there;
where `memory` (bytes) does not hold what probes or AUROC need, they take further ones.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...errors import SkillNeuronsError
from ...models import Backbone
from ...progress import progress, say
from ...tuning.inputs import Inputs
from ...tuning.prompt import Prompt
from ...units import in_bytes
from ..score import TrialScores
from ..sides import class_weights, side_counts, subtask_sides
from ..statistics import Counts, Means
from ..sweep import Statistic, sweep
from .attribution import attribute
from .auroc import Buffer, fitting, portions
from .difference import Differences
from .pooled import POOLS, Pooling, pooled_scores
from .probe import SIZE, Averages, Probe, fit, layer_groups
from .result import POOLED

Scores = dict[str, Float[np.ndarray, "subtask neuron"]]


@dataclass(frozen=True, eq=False)
class TrialPeers:
    """What a trial made of train and dev: each order's scores; where asked for, those of pooled activations in full
    and a probe a layer.
    """

    scores: Scores
    pooled: TrialScores | None
    probes: Sequence[Probe]


def announce(inputs: Inputs, orders: Sequence[str], memory: int) -> None:
    """Say what will be held and how often the splits are read.

    Raises `SkillNeuronsError` where the memory does not hold a neuron's activations (auroc) or a layer's (probe).
    """
    model, limit, sizes = inputs.backbone, in_bytes(memory), inputs.task.sizes
    lines = []
    if "auroc" in orders:
        size = _dtype(model).itemsize
        one = sizes["dev"] * inputs.positions * size
        if one > memory:
            raise SkillNeuronsError(
                f"auroc needs a neuron's activations at all positions for all of dev at once, {in_bytes(one)}; the "
                f"memory may be {limit}. Raise memory, or leave auroc out of the orders."
            )
        parts = portions(model.widths, fitting(sizes["dev"], inputs.positions, size, memory))
        most = max(sum(own.stop - own.start for own in part) for part in parts) * one
        lines.append(f"auroc holds {in_bytes(most)} of activations, {_passes(parts)} over dev a trial")
    if "probe" in orders:
        one = sizes["train"] * SIZE
        if one * max(model.widths) > memory:
            raise SkillNeuronsError(
                f"a probe needs a layer's activations for all of train at once, {in_bytes(one * max(model.widths))}; "
                f"the memory may be {limit}. Raise memory, or leave probe out of the orders."
            )
        groups = layer_groups(model.widths, sizes["train"], memory)
        most = max(sum(model.widths[layer] for layer in group) for group in groups) * one
        lines.append(f"probes hold {in_bytes(most)}, {_passes(groups)} over train a trial")
    if lines:
        say(f"peers: {'; '.join(lines)} (at most {limit} at once)")


def trial_peers(
    inputs: Inputs, prompt: Prompt, scores: TrialScores, orders: Sequence[str], memory: int, label: str
) -> TrialPeers:
    """Score every neuron in each of the orders; `scores` are those that the trial's predictivity rests on."""
    embedding = prompt.embedding.to(inputs.backbone.device)
    probes, means = _train(inputs, embedding, orders, memory, label)
    found, pooled = _dev(inputs, embedding, scores, means, orders, memory, label)
    if probes:
        found["probe"] = np.concatenate([np.abs(probe.weights) for probe in probes], axis=1)
    if "gradient" in orders:
        sums = attribute(inputs, "dev", embedding, f"{label}: gradients on dev")
        found["gradient"] = class_weights(inputs.task, "dev") @ sums
    return TrialPeers({order: found[order] for order in orders}, pooled, probes)


def _train(
    inputs: Inputs, embedding: Tensor, orders: Sequence[str], memory: int, label: str
) -> tuple[list[Probe], Means | None]:
    """The probes, and the sums of pooled activations."""
    model, task, labels = inputs.backbone, inputs.task, inputs.labels("train")
    pools = not POOLED.keys().isdisjoint(orders)
    means = Means(model.widths, len(POOLS), labels, len(task.labels), model.device) if pools else None
    once: list[Statistic] = [] if means is None else [Pooling(means)]
    groups = layer_groups(model.widths, len(labels), memory) if "probe" in orders else [[] for _ in once]
    sides, weights = subtask_sides(task), class_weights(task, "train")
    probes: list[Probe] = []
    for layers in groups:
        averages = Averages(layers, model.widths, len(labels))
        sweep(inputs, "train", embedding, [averages, *once], f"{label}: peers on train")
        once = []
        with progress(f"{label}: fitting probes", len(layers), "layers") as advance:
            for layer in layers:
                probes.append(fit(averages.take(layer), labels, sides, weights))
                advance()
        del averages  # before the next group's take as much
    return probes, means


def _dev(
    inputs: Inputs, embedding: Tensor, scores: TrialScores, means: Means | None, orders: Sequence[str], memory: int,
    label: str,
) -> tuple[Scores, TrialScores | None]:  # fmt: skip
    """The scores that rest on dev's activations, and those of pooled ones in full."""
    model, task, labels = inputs.backbone, inputs.task, inputs.labels("dev")
    layers, sides = range(model.layers), subtask_sides(task)
    differences = counts = None
    once: list[Statistic] = []
    if "mean_difference" in orders:
        differences = Differences(scores, inputs.positions, labels, len(task.labels), model.device)
        once.append(differences)
    if means is not None:
        weights = class_weights(task, "train")
        baselines = [means.baseline(layer, weights).float() for layer in layers]
        counts = Counts(baselines, labels, sides)
        once.append(Pooling(counts))
    found: Scores = {}
    if "auroc" in orders:
        areas = []
        for part in portions(model.widths, fitting(len(labels), inputs.positions, _dtype(model).itemsize, memory)):
            buffer = Buffer(part, len(labels), inputs.positions, _dtype(model))
            sweep(inputs, "dev", embedding, [buffer, *once], f"{label}: peers on dev")
            once = []
            areas.append(buffer.areas(labels, sides, model.device, f"{label}: AUROC"))
            del buffer  # before the next portion's takes as much
        found["auroc"] = np.concatenate(areas, axis=1)
    elif once:
        sweep(inputs, "dev", embedding, once, f"{label}: peers on dev")
    if differences is not None:
        found["mean_difference"] = np.concatenate([differences.largest(layer, sides) for layer in layers], axis=1)
    if counts is None:
        return found, None
    pooled = pooled_scores(counts, side_counts(task, "dev"), not task.binary)
    accuracy = np.concatenate([pooled.exact_accuracy(layer) for layer in layers], axis=2)
    either = np.maximum(accuracy, 1 - accuracy)  # Eq. 5
    return found | {order: either[:, POOLS.index(how)] for order, how in POOLED.items()}, pooled


def _dtype(model: Backbone) -> torch.dtype:
    """What auroc holds activations in."""
    return torch.promote_types(model.model.dtype, torch.float32)


def _passes(groups: Sized) -> str:
    return f"{len(groups)} pass{'es' if len(groups) > 1 else ''}"
