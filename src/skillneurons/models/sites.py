"""Where the neurons are: the inputs of the FFNs' down-projections, found from the model's structure.

    sites = find_sites(model, model.base_model, hidden=768, probe=run_two_tokens)
    with attached([model], sites, lambda layer, activations: None):     # reads; a returned tensor replaces
        model(...)

A down-projection is a linear layer from width `w` back to the hidden size `d` that stands outside any attention
module and beside a linear layer from `d` to `w`, or to `2 w` where gate and up-projection are fused. Layers are
numbered in the order in which a trial pass of two tokens calls them, so that modules which several layers share
(ALBERT) need no special case: the call's number is the layer. `pattern` names the sites of a model that this does
not fit, e.g. `"model.layers.{layer}.mlp.down_proj"`.

A site is read and edited at the module's input. Another kind of site (the input of the attention's output
projection, say) needs another search and nothing else.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..errors import SkillNeuronsError

Watch = Callable[[int, Float[Tensor, "batch token neuron"]], "Tensor | None"]
"""Called with a layer's number and its activations; a tensor that it returns takes their place."""

_ATTENTION = re.compile("att(n|ention)", re.IGNORECASE)
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_REMEDY = 'Name the down-projections yourself, e.g. sites="model.layers.{layer}.mlp.down_proj".'


@dataclass(frozen=True)
class Site:
    """One layer's neurons: the input of the module at `path`, `width` neurons wide."""

    layer: int
    path: str
    width: int


def find_sites(
    model: nn.Module, stack: nn.Module, hidden: int, probe: Callable[[], object], pattern: str | None = None
) -> tuple[Site, ...]:
    """The sites of `stack`, a part of `model`, in the order of its layers; paths are the model's.

    `hidden` is the width of the residual stream; `probe` runs a short input through the stack. Raises
    `SkillNeuronsError` for a mixture of experts and where no FFN, or more than one in a block, can be found.
    """
    modules = dict(model.named_modules())
    prefix = next(path for path, module in modules.items() if module is stack)
    modules = {path: module for path, module in modules.items() if path.startswith(prefix)}
    if pattern is None:
        _refuse_experts(model, stack)
        found = _down_projections(modules, hidden)
    else:
        found = _matching(modules, pattern)
    calls: list[str] = []
    with contextlib.ExitStack() as hooks:
        for path in found:
            hook = modules[path].register_forward_pre_hook(lambda _module, _args, path=path: calls.append(path))
            hooks.callback(hook.remove)
        probe()
    if not calls:
        raise SkillNeuronsError(
            f"no FFN was found in {type(model).__name__}: a pair of linear layers outside the attention, to a width and "
            f"back to {hidden}. {_REMEDY}"
        )
    return tuple(Site(layer, path, found[path]) for layer, path in enumerate(calls))


@contextlib.contextmanager
def attached(roots: Sequence[nn.Module], sites: Sequence[Site], watch: Watch) -> Iterator[None]:
    """Call `watch` at every site while the block runs; nothing stays hooked after it, however it ends.

    `roots`: the whole model, in which the sites' paths are found, and whatever part of it is called on its own; a
    call of any of them begins a new pass. `watch` sees activations of shape [batch, token, neuron].
    """
    modules = dict(roots[0].named_modules())
    layers: dict[str, list[Site]] = {}
    for site in sites:
        layers.setdefault(site.path, []).append(site)
    made = dict.fromkeys(layers, 0)  # calls in this pass, by module
    batch = 1

    def begin(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal batch
        made.update(dict.fromkeys(layers, 0))
        given = [kwargs.get("inputs_embeds"), kwargs.get("input_ids"), *args]
        batch = next((value.shape[0] for value in given if isinstance(value, Tensor)), 1)

    def enter(path: str, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        site = layers[path][made[path] % len(layers[path])]
        made[path] += 1
        activations: Tensor = args[0]
        # some models (OPT) fold batch and tokens into one axis
        changed = watch(site.layer, activations.view(batch, -1, site.width))
        return None if changed is None else (changed.view(activations.shape), *args[1:])

    with contextlib.ExitStack() as hooks:
        for root in roots:
            hooks.callback(root.register_forward_pre_hook(begin, with_kwargs=True).remove)
        for path in layers:
            hook = modules[path].register_forward_pre_hook(lambda _module, args, path=path: enter(path, args))
            hooks.callback(hook.remove)
        yield


def _shape(module: nn.Module) -> tuple[int, int] | None:
    """Inputs and outputs of a linear layer, None of anything else; GPT-2's `Conv1D` is one with its weight transposed."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, Conv1D):
        return module.weight.shape[0], module.weight.shape[1]
    return None


def _down_projections(modules: Mapping[str, nn.Module], hidden: int) -> dict[str, int]:
    """Each down-projection's path and its width."""
    linears: dict[str, tuple[int, int]] = {}
    for path, module in modules.items():
        shape = _shape(module)
        above = [part for part in (*(path[: dot.start()] for dot in re.finditer(r"\.", path)), path) if part in modules]
        in_block = any(isinstance(modules[part], nn.ModuleList) for part in above)
        in_attention = any(
            _ATTENTION.search(part.rsplit(".", 1)[-1]) or _ATTENTION.search(type(modules[part]).__name__)
            for part in above
        )
        if shape and in_block and not in_attention:
            linears[path] = shape
    downs: dict[str, int] = {}
    for path, (width, out) in linears.items():
        partners = [
            other
            for other, shape in linears.items()
            if other != path and out == hidden and shape in ((hidden, width), (hidden, 2 * width))
        ]
        block = _nearest(path, partners, modules)
        if block is None:
            continue
        rivals = [down for down in downs if down.startswith(block + ".")]
        if rivals and width != hidden:
            raise SkillNeuronsError(f"two FFNs stand in {block}: {rivals[0]} and {path}. {_REMEDY}")
        for rival in rivals:  # width = hidden: either could be the way back; the later one is
            del downs[rival]
        downs[path] = width
    return downs


def _nearest(path: str, partners: Sequence[str], modules: Mapping[str, nn.Module]) -> str | None:
    """The smallest module around `path` with a partner in it; None where only the list of blocks holds both."""
    block = path
    while "." in block:
        block = block.rsplit(".", 1)[0]
        if isinstance(modules[block], nn.ModuleList) and not _ordered(block, modules):
            return None
        if any(partner.startswith(block + ".") for partner in partners):
            return block
    return None


def _ordered(block: str, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a module list holds the parts of one block (T5's attention and FFN) rather than blocks of one kind."""
    kinds = [type(module) for module in modules[block].children()]
    return len(set(kinds)) == len(kinds) and len(kinds) > 1


def _matching(modules: Mapping[str, nn.Module], pattern: str) -> dict[str, int]:
    if "{layer}" not in pattern:
        raise SkillNeuronsError(
            f"sites must hold {{layer}} where the layer's number stands; given: {pattern!r}. {_REMEDY}"
        )
    expression = re.compile(r"(?:.*\.)?" + re.escape(pattern).replace(r"\{layer\}", r"\d+"))
    linears = {path: shape[0] for path, module in modules.items() if (shape := _shape(module))}
    found = {path: width for path, width in linears.items() if expression.fullmatch(path)}
    if not found:
        raise SkillNeuronsError(
            f"sites={pattern!r} matches no linear layer. Linear layers there: {', '.join(list(linears)[:12])} ..."
        )
    return found


def _refuse_experts(model: Any, stack: nn.Module) -> None:
    counts = [getattr(model.config, name, None) for name in _EXPERTS]
    packed = [name for name, _ in stack.named_parameters() if "expert" in name]
    if packed or any(isinstance(count, int) and count > 1 for count in counts):
        raise SkillNeuronsError(
            f"{type(model).__name__} is a mixture of experts, whose FFNs are chosen token by token and hold their weights in one "
            "block: its neurons cannot be ranked yet. Use a dense model."
        )
