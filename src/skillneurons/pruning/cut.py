"""The cut: a copy of a model whose FFNs have only chosen neurons, the others frozen at their means (section 6.1).

    small = cut(model, kept, layers=range(3, 12), means=means, one=False)
    small.widths                                  # of the cut layers, as many as were kept

With W_up the rows and W_down the columns of an FFN, K the neurons that stay and F those that are frozen at m:

    FFN(x) = W_down[:, K] f(W_up[K] x + b_up[K]) + (b_down + W_down[:, F] m[F])

The last term is a bias: one, where m is one mean for all tokens, else a row for every row of the means
(`models.biases`). The neurons that stay are no part of it; the authors' code adds them as well. Gates are cut as
up-projections are. What is not cut shares its weights with the original, which stays as it was.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import SkillNeuronsError
from ..models import Backbone, Baseline, NeuronSet, PlacedLinear, Site
from ..models.sites import entrances

Means = Sequence[Float[Tensor, "row _neuron"]]


@torch.no_grad()
def cut(model: Backbone, kept: NeuronSet, layers: Collection[int], means: Means, one: bool) -> Backbone:
    """A copy of `model` whose FFNs in `layers` have the neurons of `kept` alone.

    `means` of each layer [position + 2, neuron], as `TrialScores.mean` has them; `one`: frozen at the mean over the
    prompt's positions for every token, else at each token's own row, beside a prompt of as many positions. The result
    is held against the model itself under the `Baseline` edit, on two short inputs (but for weights on the meta
    device, which has shapes alone). Raises `SkillNeuronsError` where a layer would keep no neuron, where layers share
    their weights, and where no linear layers that lead into a layer's neurons are found, or not such that rows and
    columns can be left out.
    """
    own = kept.by_layer()
    _refuse(model, kept, layers, own)
    small = copied(model)
    for layer in layers:
        _cut_layer(small, model.sites[layer], torch.from_numpy(own[layer]), means[layer], one)
    sites = tuple(replace(site, width=len(own[site.layer])) if site.layer in layers else site for site in model.sites)
    found = replace(model, model=small, sites=sites)
    if model.device.type != "meta":
        _refuse_unlike(model, found, _frozen(model, layers, own), means, one)
    return found


def without_positions(model: Backbone) -> Backbone:
    """The model without its biases' rows for a prompt's positions: beside a prompt of none they are never read."""
    small = copied(model)
    for path, module in model.model.named_modules():
        if isinstance(module, PlacedLinear):
            small.set_submodule(path, as_linear(module.weight, module.bias[-2:]))
    return replace(model, model=small)


def copied(model: Backbone) -> Any:
    """The library's model with modules of its own and the same weights."""
    shared = {id(tensor): tensor for tensor in (*model.model.parameters(), *model.model.buffers())}
    return copy.deepcopy(model.model, shared)


def as_linear(weight: Float[Tensor, "out in"], bias: Float[Tensor, "*row out"] | None) -> nn.Linear:
    """A frozen linear layer; with a bias [row, out] one of each token's own."""
    if bias is not None and bias.ndim == 2:
        return PlacedLinear(weight, bias)
    out, size = weight.shape
    layer = nn.Linear(size, out, bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def weight_of(module: nn.Module) -> Float[Tensor, "out in"]:
    """The weight of a linear layer, whichever way its kind keeps it."""
    weight: Any = module.weight
    return weight if isinstance(module, nn.Linear) else weight.T  # GPT-2's Conv1D


def parameters(model: Backbone) -> int:
    """The number of a model's parameters, those that are used twice counted once."""
    return sum(parameter.numel() for parameter in model.model.parameters())


def _cut_layer(
    small: nn.Module, site: Site, kept: Int[Tensor, " kept"], mean: Float[Tensor, "row neuron"], one: bool
) -> None:
    for path in entrances(small, site):
        up: Any = small.get_submodule(path)
        weight = weight_of(up)
        # gate and up-projection may be one layer, one after the other
        rows = torch.cat([kept + start for start in range(0, len(weight), site.width)]).to(weight.device)
        small.set_submodule(path, as_linear(weight[rows], None if up.bias is None else up.bias[rows]))
    down: Any = small.get_submodule(site.path)
    weight = weight_of(down)
    stays = torch.zeros(site.width, dtype=torch.bool)
    stays[kept] = True
    rest = torch.where(stays, 0.0, mean.cpu().double().nan_to_num())  # an encoder has no answer token: NaN
    rest = rest[:-2].mean(0) if one else rest
    bias = rest.to(weight.device) @ weight.double().T
    if down.bias is not None:
        bias = bias + down.bias
    small.set_submodule(site.path, as_linear(weight[:, kept.to(weight.device)].contiguous(), bias.to(weight.dtype)))


def _frozen(model: Backbone, layers: Collection[int], own: dict[int, Int[np.ndarray, " kept"]]) -> NeuronSet:
    return NeuronSet(
        tuple(
            (layer, int(neuron))
            for layer in layers
            for neuron in np.setdiff1d(np.arange(model.widths[layer]), own[layer])
        ),
        model.widths,
    )


def _refuse(
    model: Backbone, kept: NeuronSet, layers: Collection[int], own: dict[int, Int[np.ndarray, " kept"]]
) -> None:
    if kept.widths != model.widths:
        raise SkillNeuronsError(
            f"a neuron set belongs to the model it was chosen in: it has layers of {list(kept.widths)} neurons, "
            f"{model.name} has {list(model.widths)}. Choose neurons from a run of this model."
        )
    if lacking := [layer for layer in layers if layer not in own]:
        raise SkillNeuronsError(
            f"a pruned layer keeps one neuron at least; layer {lacking[0]} of {model.name} would keep none. Keep some "
            "there, or leave that layer as it is."
        )
    shared = Counter(site.path for site in model.sites)
    if any(shared[model.sites[layer].path] > 1 for layer in layers):
        raise SkillNeuronsError(
            f"layers are cut one by one; those of {model.name} share one set of weights, which would be cut for all of "
            "them. Prune a model whose layers have weights of their own."
        )
    for layer in layers:
        if not entrances(model.model, model.sites[layer]):
            raise SkillNeuronsError(
                f"a neuron is cut with its row of the up-projection; before {model.sites[layer].path} of {model.name} "
                f"no linear layer to {model.widths[layer]} is found in its block. Leave that layer as it is."
            )


def _refuse_unlike(model: Backbone, small: Backbone, frozen: NeuronSet, means: Means, one: bool) -> None:
    """Refuse a cut that computes something else than the model with these neurons frozen."""
    prompt = model.embed(torch.ones(len(means[0]) - 2, dtype=torch.long, device=model.device))
    batch = model.place(prompt, [np.array([2]), np.array([3, 4])])
    with model.edit(frozen, Baseline(means, one)):
        expected = model.answer(batch).float()
    try:
        found = small.answer(batch).float()
    except RuntimeError:  # something else of the block is as wide as its neurons are many
        found = torch.full_like(expected, torch.inf)
    limit = 1e-4 if model.model.dtype.itemsize > 2 else 0.1
    off = float((found - expected).abs().max() / expected.abs().max())
    if not off <= limit:  # nor NaN
        raise SkillNeuronsError(
            f"a cut model answers as the whole one with the same neurons frozen; {small.name} does not (logits are off "
            f"by {off:.2%}): its FFNs are more than up-projection, gate, activation and down-projection. Prune another "
            "model."
        )
