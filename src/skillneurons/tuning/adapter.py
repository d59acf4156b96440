"""Bottleneck adapters (Houlsby et al., 2019; Pfeiffer et al., 2021): small layers between those of a frozen model.

    tensors = begin(model, AdapterConfig(), seed=0)
    with inserted(model, tensors):                    # nothing survives the block, however it ends
        model.answer(batch)

An adapter takes the output h of a linear layer, before it joins the residual stream, and gives

    h + W_up ReLU(W_down h + b_down) + b_up

with W_down [bottleneck, hidden]. `pfeiffer` puts one after each FFN's down-projection, `houlsby` another after each
attention's output projection. W_up and both biases begin at 0, so that a new adapter changes nothing. Layers that share
their modules share adapters; of an encoder-decoder, the encoder's layers have them, whose neurons are ranked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, relu

from ..models import Backbone
from ..models.sites import attention_outputs, linear_shape
from .config import AdapterConfig

_PARTS = ("down", "down_bias", "up", "up_bias")


def begin(model: Backbone, config: AdapterConfig, seed: int) -> dict[str, Tensor]:
    """New adapters: W_down from N(0, 1 / hidden) by `seed`, the rest 0; keys are `<path>.<part>`, on the device.

    down [bottleneck, hidden], down_bias [bottleneck], up [hidden, bottleneck], up_bias [hidden].
    """
    source = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for path in _places(model, config):
        hidden = _hidden(model, path)
        bottleneck = max(1, hidden // config.reduction)
        down = torch.randn(bottleneck, hidden, generator=source) * hidden**-0.5
        shapes = (bottleneck,), (hidden, bottleneck), (hidden,)
        values = (down, *(torch.zeros(shape) for shape in shapes))
        tensors |= {f"{path}.{part}": value.to(model.device) for part, value in zip(_PARTS, values, strict=True)}
    return tensors


@contextlib.contextmanager
def inserted(model: Backbone, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """The adapters, as `begin` made them, at work while the block runs."""

    def adapt(own: tuple[Tensor, ...], _module: nn.Module, _args: object, output: Tensor) -> Tensor:
        return adapted(output, *(tensor.to(output.device) for tensor in own))

    with contextlib.ExitStack() as hooks:
        for path in dict.fromkeys(name.rpartition(".")[0] for name in tensors):
            own = tuple(tensors[f"{path}.{part}"] for part in _PARTS)
            hook = model.model.get_submodule(path).register_forward_hook(partial(adapt, own))
            hooks.callback(hook.remove)
        yield


def adapted(
    h: Float[Tensor, "*token hidden"],
    down: Float[Tensor, "bottleneck hidden"],
    down_bias: Float[Tensor, " bottleneck"],
    up: Float[Tensor, "hidden bottleneck"],
    up_bias: Float[Tensor, " hidden"],
) -> Float[Tensor, "*token hidden"]:
    """What an adapter makes of a layer's output; in the adapter's own precision, added in the output's."""
    return h + linear(relu(linear(h.to(down.dtype), down, down_bias)), up, up_bias).to(h.dtype)


def _places(model: Backbone, config: AdapterConfig) -> list[str]:
    """The paths of the linear layers that adapters follow."""
    paths = list(dict.fromkeys(site.path for site in model.sites))
    if config.placement == "pfeiffer":
        return paths

    @torch.no_grad()
    def probe() -> None:
        prompt = model.embed(torch.ones(2, dtype=torch.long, device=model.device))
        model.answer(model.place(prompt, [np.array([2])]))

    return [*paths, *attention_outputs(model.model, model.sites, probe)]


def _hidden(model: Backbone, path: str) -> int:
    """How wide a linear layer's output is."""
    shape = linear_shape(model.model.get_submodule(path))
    assert shape is not None
    return shape[1]
