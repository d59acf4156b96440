"""What a neuron answers to: its weight `K_i` of Eq. 2, and the embeddings of tokens that it can be compared with.

    weights = input_weights(model, [(3, 120), (5, 7)])       # [neuron, hidden]
    embeddings = input_embeddings(model, ids)                # [token, hidden]

`K_i` is the neuron's row of the up-projection; in a gated FFN, `a = f(gate) * up`, its row of the gate, the one that
goes through the activation function. Which of the two that is no name tells: with the sign of the up-projection's
output turned, the activations turn theirs and are otherwise the same; with that of the gate's they are others. So both
are tried on a few tokens. Where gate and up-projection are one linear layer, its two halves are tried alike (ModernBERT
calls the first half, which is the gate in this sense, input).

Embeddings are the model's own, before positions, types and the normalisation that follows; where they are narrower
than the hidden states (ALBERT, ELECTRA, some of OPT) they go through the model's projection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import SkillNeuronsError
from .backbone import Backbone
from .sites import block_of, entrances, linear_shape


@dataclass(frozen=True)
class _Part:
    """Rows `start` to `start + width` of a linear layer's output."""

    path: str
    start: int
    width: int

    def weight(self, model: nn.Module) -> Tensor:
        """Their weights [neuron, hidden]."""
        module: Any = model.get_submodule(self.path)
        rows = module.weight if isinstance(module, nn.Linear) else module.weight.T  # GPT-2's Conv1D
        return rows[self.start : self.start + self.width]

    def turned(self, output: Tensor) -> Tensor:
        """The layer's output [..., row] with their sign turned."""
        signs = torch.ones(output.shape[-1], dtype=output.dtype, device=output.device)
        signs[self.start : self.start + self.width] = -1
        return output * signs


@torch.no_grad()
def input_weights(model: Backbone, neurons: Sequence[tuple[int, int]]) -> Float[Tensor, "neuron hidden"]:
    """`K_i` of each (layer, neuron), float64, on the CPU.

    Raises `SkillNeuronsError` where a layer has no up-projection that can be told.
    """
    rows = {layer: _gate(model, layer).weight(model.model) for layer in {layer for layer, _ in neurons}}
    return torch.stack([rows[layer][neuron].double().cpu() for layer, neuron in neurons])


@torch.no_grad()
def input_embeddings(model: Backbone, ids: Int[Tensor, " token"]) -> Float[Tensor, "token hidden"]:
    """The tokens' embeddings as wide as the hidden states, float64, on the CPU.

    Raises `SkillNeuronsError` where they are narrower and no projection can be told.
    """
    embeddings = model.embed(ids.to(model.device))
    hidden = int(model.model.config.get_text_config().hidden_size)
    if model.embedding_size != hidden:
        modules = dict(model.model.named_modules())
        inside = {id(module) for module in model.stack.modules()}
        found = [
            module
            for path, module in modules.items()
            if id(module) in inside
            and linear_shape(module) == (model.embedding_size, hidden)
            and block_of(path, modules) is None
        ]
        if len(found) != 1:
            raise SkillNeuronsError(
                f"embeddings reach the hidden states through one linear layer from {model.embedding_size} to {hidden}; "
                f"{model.name} has {len(found) or 'none'}. Compare words in a model whose embeddings can be followed."
            )
        embeddings = found[0](embeddings)
    return embeddings.double().cpu()


def _gate(model: Backbone, layer: int) -> _Part:
    """The up-projection's rows, in a gated FFN the gate's."""
    site = model.sites[layer]
    parts = []
    for path in entrances(model.model, site):
        size = linear_shape(model.model.get_submodule(path))
        assert size is not None
        parts += [_Part(path, start, site.width) for start in range(0, size[1], site.width)]
    if len(parts) == 1:
        return parts[0]
    plain = _activations(model, layer)
    turned = [_activations(model, layer, part) for part in parts]
    # what goes in without the activation function is linear, and alone turns the sign of what comes out
    gates = [part for part, own in zip(parts, turned, strict=True) if not torch.allclose(own, -plain, rtol=1e-3)]
    if len(parts) != 2 or len(gates) != 1:
        raise SkillNeuronsError(
            f"an FFN has one up-projection, or one and a gate; layer {layer} of {model.name} has "
            f"{len(parts) or 'no'} linear layers before {site.path} of which {len(gates)} could be the gate. "
            "Choose neurons of other layers, or another model."
        )
    return gates[0]


def _activations(model: Backbone, layer: int, part: _Part | None = None) -> Float[Tensor, "batch token neuron"]:
    """The layer's activations on a few tokens, with the sign of one part turned."""
    # of layers that share their modules the first one's, whose input is then the same
    path = model.sites[layer].path
    first = next(site.layer for site in model.sites if site.path == path)
    seen: list[Tensor] = []

    def watch(at: int, activations: Tensor) -> None:
        if at == first:
            seen.append(activations.float())

    hooks = []
    if part is not None:
        module = model.model.get_submodule(part.path)
        hooks = [module.register_forward_hook(lambda _module, _args, output: part.turned(output))]
    try:
        prompt = model.embed(torch.ones(2, dtype=torch.long, device=model.device))
        with model.observe(watch):
            model.read(model.place(prompt, [np.array([2, 3, 4, 5])]))
    finally:
        for hook in hooks:
            hook.remove()
    return seen[0]
