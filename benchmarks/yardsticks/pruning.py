"""A pruned model's forward, against the dense model's, whole and only what is read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

import skillneurons as sn
from skillneurons.pruning.bench import as_shipped, inputs, only_read, threads
from skillneurons.pruning.cut import cut, without_positions
from skillneurons.pruning.head import words_alone
from skillneurons.pruning.multiplications import multiplications
from skillneurons.pruning.prefixed import Prefixed, prefixed
from skillneurons.tuning.prompt import nothing

from . import shape
from .figure import Row, ratio
from .memory import as_usual
from .setting import Setting
from .turns import turns

NAME = "pruning"
TITLE = "A pruned model"
METHOD = """Batches of {batch} inputs of {tokens} tokens beside {positions} positions, float32, one thread on a CPU, \
from token ids to logits. Pruned: {keep:.0%} of the neurons kept in the top {top} of {layers} layers, the others \
frozen at a mean per position, the head's rows of the label words alone; frozen: besides, its prompt is in keys and \
values. The dense model as shipped by the library runs everything for every token, the head over the vocabulary too, \
and memory is asked for as any program does; only what is read: head, last FFN, last queries and attention outputs at \
the answer token alone, as this package does with any model. Speed does not depend on which neurons stay."""
BATCH, TOKENS, KEEP = 16, shape.LENGTHS[0], 0.02


def measure(setting: Setting) -> Row:
    """The row."""
    with threads(1 if not setting.gpu else None):
        return _measured(setting)


def _measured(setting: Setting) -> Row:
    dense = shape.backbone(setting.shape, torch.float32, setting.device)
    layers = range(dense.layers // 4, dense.layers)
    method = METHOD.format(
        batch=BATCH, tokens=TOKENS, positions=shape.POSITIONS, keep=KEEP, top=len(layers), layers=dense.layers
    )
    pruned = made(dense, layers)
    inside = frozen(pruned)
    prompt = torch.zeros(shape.POSITIONS, dense.embedding_size, device=setting.device)
    ids = inputs(dense, TOKENS, BATCH)
    works: dict[str, Callable[[], object]] = {
        "dense": as_usual(partial(as_shipped, dense, prompt, ids)),
        "read": partial(only_read, dense, prompt, ids),
        "pruned": partial(only_read, pruned, prompt, ids),
        "frozen": partial(only_read, inside, nothing(inside), ids),
    }
    seconds = turns(works, setting.repeats, setting.device, NAME)
    count = {name: multiplications(work) for name, work in works.items()}
    figures = (
        ratio("dense, only what is read / pruned", seconds["read"], seconds["pruned"], "more", asked=1.6),
        ratio("dense as shipped by the library / pruned", seconds["dense"], seconds["pruned"], "more", asked=2.8),
        ratio("dense as shipped by the library / frozen", seconds["dense"], seconds["frozen"], "more", asked=10.0),
    )
    remark = (
        f"Multiplications: {count['read'] / count['pruned']:.2f}, {count['dense'] / count['pruned']:.2f} and "
        f"{count['dense'] / count['frozen']:.1f} times fewer"
    )
    return Row(NAME, TITLE, method, figures, (remark,))


def made(dense: sn.Backbone, layers: range) -> sn.Backbone:
    """The model with as many neurons as `prune` would leave, and the head for two words."""
    kept = sn.NeuronSet(
        tuple((layer, neuron) for layer in layers for neuron in range(round(KEEP * dense.widths[layer]))), dense.widths
    )
    means = [torch.zeros(shape.POSITIONS + 2, width) for width in dense.widths]
    small, _ = words_alone(cut(dense, kept, layers, means, one=False), [4, 6])
    return small


def frozen(pruned: sn.Backbone) -> Prefixed:
    """The same with keys and values in the place of the prompt."""
    config = pruned.model.config
    heads = config.num_attention_heads
    draw = torch.Generator().manual_seed(0)
    size = (2, pruned.layers, heads, shape.POSITIONS, config.hidden_size // heads)
    keys, values = torch.randn(size, generator=draw)
    return prefixed(without_positions(pruned), keys, values)
