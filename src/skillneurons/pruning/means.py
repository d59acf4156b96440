"""Which neurons stay, and the means at which the others are frozen.

    kept = staying(skill, config, layers)
    means = of_run(skill, trial)                                       # the run's own
    means = reestimated(model, skill, trial, kept, layers, one=False)  # with the layers below frozen already

Frozen neurons change what the layers above them are given, and so those layers' means. Estimated anew, layer by layer
from below, they are means of what a layer sees in the pruned model: a pass over train for every pruned layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from ..finding.skill import SkillNeurons
from ..finding.statistics import Means
from ..finding.sweep import sweep
from ..models import Backbone, NeuronSet
from ..tuning.inputs import Inputs
from .config import PruneConfig
from .cut import cut


def staying(skill: SkillNeurons, config: PruneConfig, layers: Sequence[int]) -> NeuronSet:
    """The neurons of the pruned layers that are kept: the most predictive, one of each layer at least."""
    if config.scope == "layer":
        kept = [(layer, neuron) for layer, neuron in skill.top(fraction=config.keep, scope="layer") if layer in layers]
    else:
        order = [(layer, neuron) for layer, neuron in skill.top(fraction=1.0) if layer in layers]
        kept = order[: max(1, round(config.keep * len(order)))]
        for layer in set(layers) - {layer for layer, _ in kept}:
            kept.append(next(pair for pair in order if pair[0] == layer))
    selection = {"order": "top", "scope": config.scope, "fraction": config.keep, "layers": list(layers)}
    return NeuronSet(tuple(kept), skill.widths, selection)


def of_run(skill: SkillNeurons, trial: int) -> list[Float[Tensor, "row _neuron"]]:
    """Each layer's means beside a trial's prompt, as the run has them."""
    return [skill.scores[trial].mean(layer) for layer in range(len(skill.widths))]


def reestimated(
    model: Backbone, skill: SkillNeurons, trial: int, kept: NeuronSet, layers: Sequence[int], one: bool
) -> list[Float[Tensor, "row _neuron"]]:
    """As `of_run`, those of `layers` from below upwards, each with the pruned layers below it frozen at theirs."""
    means, prompt = of_run(skill, trial), skill.prompts[trial]
    for number, layer in enumerate(layers):
        below = cut(model, kept, layers[:number], means, one)
        alone = replace(below, sites=(replace(below.sites[layer], layer=0),))  # whose pass ends there
        inputs = Inputs.beside(alone, skill.task, prompt)
        sums = Means(alone.widths, prompt.positions, inputs.labels("train"), len(skill.task.labels), model.device)
        label = f"trial {trial + 1}: means of layer {layer}"
        sweep(inputs, "train", prompt.embedding.to(model.device), [sums], label)
        means[layer] = sums.mean(0, model.kind != "encoder-decoder").float().cpu()
    return means
