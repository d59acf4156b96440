"""Where the neurons are: the inputs of the FFNs' down-projections, found from the model's structure.

    sites = find_sites(model, model.base_model, hidden=768, probe=run_two_tokens)
    with attached([model], sites, lambda layer, activations: None):     # reads; a returned tensor replaces
        model(...)

A down-projection is a linear layer from width `w` back to the hidden size `d` that stands outside any attention
module and in one block with a linear layer from `d` to `w`, or to `2 w` where gate and up-projection are fused.
Layers are numbered in the order in which a trial pass of two tokens calls them, so that modules which several layers
share (ALBERT) need no special case: the call's number is the layer. `pattern` names the sites of a model that this
does not fit, e.g. `"model.layers.{layer}.mlp.down_proj"`.

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
_MIXER = re.compile("(Att(n|ention)|Mixer)$")  # at the end, for a HybridAttentionDecoderLayer is a whole block
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_REMEDY = 'Name the down-projections yourself, e.g. sites="model.layers.{layer}.mlp.down_proj".'


@dataclass(frozen=True)
class Site:
    """One layer's neurons: the input of the module at `path`, `width` neurons wide."""

    layer: int
    path: str
    width: int


def find_sites(
    model: Any, stack: nn.Module, hidden: int, probe: Callable[[], object], pattern: str | None = None
) -> tuple[Site, ...]:
    """The sites of `stack`, a part of `model`, in the order of its layers; paths are the model's.

    `hidden` is the width of the residual stream; `probe` runs two tokens through the stack. Raises
    `SkillNeuronsError` for a mixture of experts, where no FFN, or more than one in a block, can be found, where an FFN
    sees other tokens than the input's, and for a `pattern` that fits no linear layer.
    """
    modules = dict(model.named_modules())
    top = next(path for path, module in modules.items() if module is stack)
    inside = f"{top}." if top else ""
    modules = {path: module for path, module in modules.items() if path == top or path.startswith(inside)}
    if pattern is None:
        refuse_experts(model.config, type(model).__name__, stack)
        found = _down_projections(modules, hidden)
    else:
        found = _matching(modules, pattern)
    calls: list[str] = []

    def call(path: str, activations: Tensor) -> None:
        if activations.numel() != 2 * found[path]:
            raise SkillNeuronsError(
                f"an FFN sees every token of the input and no other; {path}, given 2 tokens, saw a tensor of "
                f"{list(activations.shape)}. Use a model that does not fill up or set apart tokens inside."
            )
        calls.append(path)

    with contextlib.ExitStack() as hooks:
        for path in found:
            hook = modules[path].register_forward_pre_hook(lambda _module, args, path=path: call(path, args[0]))
            hooks.callback(hook.remove)
        probe()
    if not calls:
        raise SkillNeuronsError(
            f"an FFN is a pair of linear layers outside the attention, from {hidden} to a width and back; "
            f"{type(model).__name__} has none that a pass calls. {_REMEDY}"
        )
    return tuple(Site(layer, path, found[path]) for layer, path in enumerate(calls))


def entrances(model: nn.Module, site: Site) -> tuple[str, ...]:
    """The paths of the linear layers that lead into a site: up-projection and gate, each of every token by itself."""
    modules = dict(model.named_modules())
    block = block_of(site.path, modules)
    if block is None:
        return ()
    size = linear_shape(modules[site.path])
    assert size is not None
    width, hidden = size
    return tuple(
        path
        for path, module in modules.items()
        if path != site.path
        and path.startswith(f"{block}.")
        and linear_shape(module) in ((hidden, width), (hidden, 2 * width))
        and not any(_mixes(part, modules) for part in _above(path) if part in modules)
    )


def attention_linears(model: nn.Module, site: Site) -> tuple[str, ...]:
    """The paths of the linear layers in the attention of a site's block."""
    modules = dict(model.named_modules())
    block = block_of(site.path, modules)
    return tuple(
        path
        for path, module in modules.items()
        if block is not None
        and path.startswith(f"{block}.")
        and linear_shape(module)
        and any(_mixes(part, modules) for part in _above(path) if part in modules)
    )


def attention_outputs(model: nn.Module, sites: Sequence[Site], probe: Callable[[], object]) -> tuple[str, ...]:
    """The paths of the attention's output projections, one for each site's block: the last linear layer it runs.

    `probe` runs tokens through the stack. Raises `SkillNeuronsError` where a block has no attention of linear layers.
    """
    modules = dict(model.named_modules())
    blocks = dict.fromkeys(block_of(site.path, modules) for site in sites)
    inside = {
        path: block
        for path, module in modules.items()
        if linear_shape(module)
        and (block := block_of(path, modules)) in blocks
        and any(_mixes(part, modules) for part in _above(path) if part in modules)
    }
    last: dict[str | None, str] = {}

    def call(path: str) -> None:
        last[inside[path]] = path

    with contextlib.ExitStack() as hooks:
        for path in inside:
            hook = modules[path].register_forward_pre_hook(lambda _module, _args, path=path: call(path))
            hooks.callback(hook.remove)
        probe()
    if lacking := [block for block in blocks if block is None or block not in last]:
        raise SkillNeuronsError(
            f"an attention ends in a linear layer; {lacking[0] or sites[0].path} of {type(model).__name__} has none. "
            "Use adapters after the FFN alone."
        )
    return tuple(last[block] for block in blocks)


def refuse_experts(config: Any, name: str, stack: nn.Module | None = None) -> None:
    """Raise `SkillNeuronsError` where a configuration, or the weights of a stack, tell of a mixture of experts."""
    counts = [getattr(config.get_text_config(), count, None) for count in _EXPERTS]
    packed = stack is not None and any("expert" in path for path, _ in stack.named_parameters())
    if packed or any(isinstance(count, int) and count > 1 for count in counts):
        raise SkillNeuronsError(
            f"neurons are ranked in dense models; {name} is a mixture of experts, whose FFNs are chosen token by token "
            "and hold their weights in one block, with no linear layer to read. Use a dense model."
        )


@contextlib.contextmanager
def attached(roots: Sequence[nn.Module], sites: Sequence[Site], watch: Watch) -> Iterator[None]:
    """Call `watch` at every site while the block runs; nothing stays hooked after it, however it ends.

    `roots`: the whole model, in which the sites' paths are found, and whatever part of it is called on its own; a
    call of any of them begins a new pass. `sites` are all of the model's, for a module that several layers share
    tells them apart by counting its calls. `watch` sees activations of shape [batch, token, neuron], as the watches
    of the blocks entered before have left them.
    """
    modules = dict(roots[0].named_modules())
    layers: dict[str, list[Site]] = {}
    for site in sites:
        layers.setdefault(site.path, []).append(site)
    calls = dict.fromkeys(layers, 0)  # in this pass, by module
    batch = 1

    def begin(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal batch
        calls.update(dict.fromkeys(layers, 0))
        given = [kwargs.get("inputs_embeds"), kwargs.get("input_ids"), *args]
        batch = next((value.shape[0] for value in given if isinstance(value, Tensor)), 1)

    def enter(path: str, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        site = layers[path][calls[path] % len(layers[path])]
        calls[path] += 1
        activations: Tensor = args[0]
        # some models (OPT) fold batch and tokens into one axis
        changed = watch(site.layer, activations.reshape(batch, -1, site.width))
        return None if changed is None else (changed.reshape(activations.shape).contiguous(), *args[1:])

    with contextlib.ExitStack() as hooks:
        for root in roots:
            hooks.callback(root.register_forward_pre_hook(begin, with_kwargs=True).remove)
        for path in layers:
            hook = modules[path].register_forward_pre_hook(lambda _module, args, path=path: enter(path, args))
            hooks.callback(hook.remove)
        yield


def _down_projections(modules: Mapping[str, nn.Module], hidden: int) -> dict[str, int]:
    """Each down-projection's path and its width."""
    blocks: dict[str, dict[str, tuple[int, int]]] = {}  # each block's linear layers outside what mixes tokens
    for path, module in modules.items():
        shape, block = linear_shape(module), block_of(path, modules)
        if shape and block and not any(_mixes(part, modules) for part in _above(path) if part in modules):
            blocks.setdefault(block, {})[path] = shape
    downs: dict[str, int] = {}
    for block, linears in blocks.items():
        found = {
            path: width
            for path, (width, out) in linears.items()
            if out == hidden
            and any(
                shape in ((hidden, width), (hidden, 2 * width)) for other, shape in linears.items() if other != path
            )
        }
        # of square layers any could be the way back: the last one is, and only where there is no other
        real = {path: width for path, width in found.items() if width != hidden} or dict(list(found.items())[-1:])
        if len(real) > 1:
            raise SkillNeuronsError(f"two FFNs stand in {block}: {' and '.join(list(real)[:2])}. {_REMEDY}")
        downs |= real
    return downs


def linear_shape(module: nn.Module) -> tuple[int, int] | None:
    """Inputs and outputs of a linear layer, None of anything else; GPT-2's `Conv1D` has its weight transposed."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, Conv1D):
        return module.weight.shape[0], module.weight.shape[1]
    return None


def _above(path: str) -> list[str]:
    """The paths of the modules around `path`, the outermost first, and `path` itself."""
    return [*(path[: dot.start()] for dot in re.finditer(r"\.", path)), path]


def _mixes(path: str, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a module mixes tokens: attention by its name or type, Mamba's state space by its type."""
    return bool(_ATTENTION.search(path.rpartition(".")[2]) or _MIXER.search(type(modules[path]).__name__))


def block_of(path: str, modules: Mapping[str, nn.Module]) -> str | None:
    """The innermost block around `path`: an item of a list of blocks; None outside such lists."""
    around = [part for part in _above(path) if _lists_blocks(modules.get(part.rpartition(".")[0]))]
    return around[-1] if around else None


def _lists_blocks(module: nn.Module | None) -> bool:
    """Whether a module lists blocks, and not the parts of one block (T5's attention and FFN, the layers of an FFN)."""
    if not isinstance(module, nn.ModuleList):
        return False
    kinds = [type(item) for item in module]
    parts = len(set(kinds)) == len(kinds) > 1 or any(linear_shape(item) for item in module)
    return not parts


def _matching(modules: Mapping[str, nn.Module], pattern: str) -> dict[str, int]:
    """The linear layers that the pattern names, and their widths."""
    if "{layer}" not in pattern:
        raise SkillNeuronsError(
            f"sites must hold {{layer}} where the layer's number stands; given: {pattern!r}. {_REMEDY}"
        )
    expression = re.compile(r"(?:.*\.)?" + re.escape(pattern).replace(r"\{layer\}", r"\d+"))
    linears = {path: shape[0] for path, module in modules.items() if (shape := linear_shape(module))}
    found = {path: width for path, width in linears.items() if expression.fullmatch(path)}
    if not found:
        kinds = list(dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)", "{layer}", path, count=1) for path in linears))
        raise SkillNeuronsError(
            f"sites must name linear layers of the model; {pattern!r} fits none of them. "
            f"There are: {', '.join(kinds[:12])}{', ...' if len(kinds) > 12 else '.'}"
        )
    return found
