"""Why not simply...? Other orders of the same neurons, from the same prompts, compared with predictivity.

    found = peers(model, skill)                                  # orders=("auroc", "probe"), memory=4
    found.table(); found.layers(); found.plot(); found.plot_pooled()

Each trial gives every neuron a score in each order, for each subtask; trials are averaged, as in Eq. 6:

    auroc             area under the ROC curve on dev, the best position's        auroc.py
    mean_difference   standardised difference of the sides' means, likewise       difference.py
    gradient          gradient times activation on dev, all tokens                attribution.py
    probe             absolute weight in its layer's linear probe                 probe.py
    pooled_mean       predictivity of the mean over the input's tokens            pooled.py
    pooled_maximum    predictivity of the maximum over the input's tokens         pooled.py

A peer's best neuron is tried on test as predictivity reads it: at its best position, above its baseline or below, by
the run's scores; for the pooled orders, likewise at its own pooled reading. A trial takes one pass over train, dev and
test each, and one over dev with gradients; more over dev where `auroc`, more over train where `probe` would hold more
than the memory at once. Half precision is widened to float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from ...config import Config
from ...models import Backbone
from ...tuning.inputs import Inputs
from ..agreement import compared, rank_correlation, shared
from ..measure import worth
from ..ranked import Ranked, ranked
from ..skill import SkillNeurons
from ..standing import refuse_foreign
from .passes import Scores, TrialPeers, announce, trial_peers
from .result import FORMAT, OURS, Peers, by_score, settled
from .tried import Choice, tried

Order = Literal["auroc", "mean_difference", "gradient", "probe", "pooled_mean", "pooled_maximum"]
ORDERS: tuple[Order, ...] = ("auroc", "mean_difference", "gradient", "probe", "pooled_mean", "pooled_maximum")


class PeerConfig(Config):
    """Which orders stand beside predictivity, and what they may take."""

    orders: Annotated[tuple[Order, ...], Field(min_length=1)] = ORDERS
    """The orders that are compared with predictivity."""
    memory: Annotated[float, Field(gt=0)] = 2.0
    """Gigabytes that samples' activations may take, in main memory."""


def peers(model: Backbone, skill: SkillNeurons, *, config: PeerConfig | None = None, **options: Any) -> Peers:
    """Put other orders of the neurons beside that of a finding, by the same prompts, in all of its trials.

    Options are those of `PeerConfig` (`orders`, `memory`), or `config` gives them all at once. Raises
    `SkillNeuronsError` where the model is not that of the finding, and where the memory does not hold what an order
    needs at once.
    """
    config = config or PeerConfig.make(**options)
    refuse_foreign(model, skill)
    orders = [order for order in ORDERS if order in config.orders]
    memory, task, trials = int(config.memory * 1e9), skill.task, len(skill.prompts)
    inputs = [Inputs.beside(model, task, prompt) for prompt in skill.prompts]
    announce(inputs[0], orders, memory)
    found = [
        trial_peers(own, prompt, scores, orders, memory, f"trial {trial + 1}/{trials}")
        for trial, (own, prompt, scores) in enumerate(zip(inputs, skill.prompts, skill.scores, strict=True))
    ]
    own = ranked(skill)
    mean = {order: np.mean([trial.scores[order] for trial in found], axis=0) for order in orders}
    rows, layer_rows = _rows(inputs, skill, own, {OURS: own.predictivity} | mean, found)
    about = {
        "format": FORMAT,
        "identity": skill.about["identity"],
        "model": skill.about["model"],
        "task": task.name,
        "trials": trials,
        "subtasks": [subtask.name for subtask in task.subtasks],
        "orders": orders,
        "layers": list(skill.widths),
        "seed": skill.config.seed,
        "chance": task.majority("test") if task.binary else 0.5,
    }
    return Peers(about, {OURS: own.predictivity} | mean, rows, layer_rows)


def _rows(
    inputs: Sequence[Inputs], skill: SkillNeurons, own: Ranked, scores: Scores, found: Sequence[TrialPeers]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The records of both tables: a subtask's orders, and its layers where there are probes."""
    task, seed, neurons = skill.task, skill.config.seed, sum(skill.widths)
    top = compared(neurons)
    layer_of = np.repeat(np.arange(len(skill.widths)), skill.widths)
    ends = np.cumsum(skill.widths)

    def choice(subtask: int, order: str, best: Int[np.ndarray, " index"]) -> Choice:
        layer = int(layer_of[best[0]])
        return Choice(subtask, order, layer, int(best[0] - ends[layer]) + skill.widths[layer])

    def measured(right: Float[np.ndarray, " sample"], subtask: int) -> tuple[float, float, float]:
        return worth(right, subtask, inputs[0].labels("test"), task, seed)

    choices, likeness, layered = [], [], []
    for subtask, ours in enumerate(own.best):
        for order, values in scores.items():
            best = ours if order == OURS else by_score(values[subtask], seed)
            choices.append(choice(subtask, order, best))
            correlation = rank_correlation(settled(own.predictivity[subtask]), settled(values[subtask]))
            likeness.append((correlation, shared(ours, best, top)))
        if found[0].probes:
            layered += [choice(subtask, OURS, ours[layer_of[ours] == layer]) for layer in range(len(skill.widths))]
    right, probed = tried(inputs, skill, own, [*choices, *layered], found)
    rows = []
    for column, (chosen, (correlation, overlap)) in enumerate(zip(choices, likeness, strict=True)):
        accuracy, low, high = measured(right[:, column], chosen.subtask)
        rows.append(
            {
                "subtask": task.subtasks[chosen.subtask].name,
                "order": chosen.order,
                "correlation": correlation,
                "top": top,
                "overlap": overlap,
                "chance": top / neurons,
                "layer": chosen.layer,
                "neuron": chosen.neuron,
                "test_accuracy": accuracy,
                "low": low,
                "high": high,
            }
        )
    layer_rows = []
    for column, chosen in enumerate(layered, len(choices)):
        accuracy, low, high = measured(right[:, column], chosen.subtask)
        probe, probe_low, probe_high = measured(probed[:, chosen.layer, chosen.subtask], chosen.subtask)
        index = int(ends[chosen.layer]) - skill.widths[chosen.layer] + chosen.neuron
        layer_rows.append(
            {
                "subtask": task.subtasks[chosen.subtask].name,
                "layer": chosen.layer,
                "probe": probe,
                "probe_low": probe_low,
                "probe_high": probe_high,
                "neuron": chosen.neuron,
                "predictivity": float(own.predictivity[chosen.subtask, index]),
                "test_accuracy": accuracy,
                "low": low,
                "high": high,
            }
        )
    return rows, layer_rows
