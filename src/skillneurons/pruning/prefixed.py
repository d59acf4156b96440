"""A masked model with a prompt inside, as constant keys and values: the prompt's tokens are not run.

    inside = prefixed(model, keys, values)            # [layer, head, position, size]; a Backbone like any other
    inside.answer(inside.place(nothing(inside), inputs))
    with attending(model.model, watch):               # watch(layer, keys, values): those of one pass as they come
        model.read(batch)

Of `[MASK] p_1 ... p_l <s> x </s>` the tokens that are run keep the places they have in the whole: their position ids
and, where an attention reaches only so far (ModernBERT), their distances.

The library lets its attention functions be exchanged by name. Ours has the constants among keys and values and then
calls the library's; the mask is the library's too. The name is put into the model's configuration for one pass and
taken out again. The number of an attention's call in a pass is its layer, so layers may share modules (ALBERT).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ..errors import SkillNeuronsError
from ..models import Backbone, Batch

Constant = Float[Tensor, "layer head position size"]
Own = Float[Tensor, "batch head token size"]
Change = Callable[[int, Own, Own], "tuple[Tensor, Tensor] | None"]
"""Called with a layer's number, its keys and its values; what it returns takes their places."""

_NAME = "skillneurons"  # of our functions in the library's tables
_ANSWER = 1  # constants stand after [MASK], the one token of the answer


@dataclass
class _Now:
    change: Change
    constants: int
    calls: int = 0


_now: ContextVar[_Now] = ContextVar("what the attentions of the pass under way are to do")


@contextlib.contextmanager
def attending(model: PreTrainedModel, change: Change, constants: int = 0) -> Iterator[None]:
    """Call `change` in every attention of the block's one pass; it may add so many constants after the first token.

    Of a model whose attention is its own and none of the library's, nothing is called.
    """
    before = model.config._attn_implementation
    token = _now.set(_Now(change, constants))
    model.config._attn_implementation = _NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before
        _now.reset(token)


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    now = _now.get()
    key, value = now.change(now.calls, key, value) or (key, value)
    now.calls += 1
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)


def _mask(
    *,
    kv_length: Any,  # a number, traced a symbol
    mask_function: Callable[..., Tensor],
    attention_mask: Tensor | None,
    **options: Any,
) -> Tensor | None:
    """Which of all tokens each that is run may see."""
    constants = _now.get().constants

    def sees(batch: Tensor, head: Tensor, token: Tensor, other: Tensor) -> Tensor:
        return mask_function(batch, head, _places(token, constants), other)

    if attention_mask is not None:
        attention_mask = _among(attention_mask, attention_mask.new_ones(attention_mask.shape[0], constants), 1)
    return sdpa_mask(kv_length=kv_length + constants, mask_function=sees, attention_mask=attention_mask, **options)


def _among(own: Tensor, constants: Tensor, dim: int) -> Tensor:
    """The constants among what the tokens that are run have along `dim`."""
    answer, rest = own.split([_ANSWER, own.shape[dim] - _ANSWER], dim)
    return torch.cat([answer, constants, rest], dim)


def _places(token: Tensor, constants: int) -> Tensor:
    """Where tokens that are run stand among all."""
    return token + constants * (token >= _ANSWER)


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, _mask)


@dataclass(frozen=True, eq=False, repr=False)
class Prefixed(Backbone):
    """A backbone with a prompt's keys and values inside; it takes prompts of no positions."""

    keys: Constant = field(kw_only=True)
    values: Constant = field(kw_only=True)

    @property
    def inside(self) -> int:
        """The number of positions inside."""
        return self.keys.shape[2]

    def room(self, positions: int) -> int | None:
        """As `Backbone.room`, the positions inside counted."""
        return super().room(positions + self.inside)

    def _given(self, batch: Batch) -> dict[str, Any]:
        tokens = torch.arange(batch.attention.shape[1], device=batch.attention.device)
        places = (self._first + _places(tokens, self.inside)).expand(batch.attention.shape)
        return super()._given(replace(batch, extra=batch.extra | {"position_ids": places}))

    @cached_property
    def _first(self) -> int:
        return place_table(self)[1]

    @contextlib.contextmanager
    def _pass(self, batch: Batch) -> Iterator[None]:
        if positions := batch.prompt.stop - batch.prompt.start:
            raise SkillNeuronsError(
                f"this model has its prompt inside, {self.inside} positions of it; it was given another one of "
                f"{positions}. Give it a prompt of no positions, as the frozen prompt's own is."
            )
        with super()._pass(batch), attending(self.model, self._beside, self.inside):
            yield

    def _beside(self, layer: int, keys: Own, values: Own) -> tuple[Tensor, Tensor]:
        both = zip((keys, values), (self.keys[layer], self.values[layer]), strict=True)
        keys, values = (_among(own, there.to(own).expand(own.shape[0], -1, -1, -1), 2) for own, there in both)
        return keys, values


def place_table(model: Backbone) -> tuple[nn.Embedding | None, int]:
    """The learned embeddings of places, if any, and the first row in use: RoBERTa's follows its padding id."""
    named = [module for path, module in model.stack.named_modules() if "position" in path.rpartition(".")[2]]
    table = next((module for module in named if isinstance(module, nn.Embedding)), None)
    return table, 0 if table is None or table.padding_idx is None else table.padding_idx + 1


def prefixed(model: Backbone, keys: Constant, values: Constant) -> Prefixed:
    """The model with these keys and values inside, on its device; it is shared, and gradients flow to both."""
    own = {each.name: getattr(model, each.name) for each in fields(Backbone) if each.init}
    return Prefixed(**own, keys=keys.to(model.device), values=values.to(model.device))
