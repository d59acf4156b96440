"""Dropout at the speed of the rest, on a CPU.

    with Dropout(seed):
        model.train()
        model(...)

Drawing its masks takes the library as long as a fifth of a tuning step's multiplications, on one thread, and turns its
fast attention off. While the block runs, masks are drawn as 16 random bits an entry, and attention under dropout is
the formula's three products with nothing else: softmax(q k' / sqrt(d)), dropped, times v. An entry is dropped with
`p` rounded to 1/65536, and what stays is divided by the share that stays, so that the mean is the entry itself.
What is not `torch.nn.functional`'s dropout or attention is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import dropout, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

_STEPS = 1 << 16


class Dropout(TorchFunctionMode):
    """Dropout and attention under it while the block runs, its masks decided by `seed`."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._draw = np.random.Generator(np.random.SFC64(seed))

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called by torch in place of each of its functions."""
        given = kwargs or {}
        if func is dropout and given.get("training") and not given.get("inplace") and 0 < given["p"] < 1:
            return self._dropped(args[0], given["p"])
        if func is scaled_dot_product_attention and 0 < given.get("dropout_p", 0.0) < 1:
            return self._attention(*args, **given)
        return func(*args, **given)

    def _dropped(self, values: Tensor, p: float) -> Tensor:
        least = round(p * _STEPS)
        bits = np.frombuffer(self._draw.bytes(2 * values.numel()), np.uint16)
        stays = torch.from_numpy(bits >= least).view(values.shape)
        return values * stays.to(values.dtype).mul_(_STEPS / (_STEPS - least))

    def _attention(
        self,
        query: Float[Tensor, "*batch token size"],
        key: Float[Tensor, "*group other size"],
        value: Float[Tensor, "*group other out"],
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Float[Tensor, "*batch token out"]:
        """As the library's, whose names these are."""
        if enable_gqa:
            key, value = (own.repeat_interleave(query.shape[-3] // own.shape[-3], -3) for own in (key, value))
        if is_causal:
            attn_mask = query.new_ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
        scores = (query * (scale or 1 / sqrt(query.shape[-1]))) @ key.transpose(-2, -1)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            # not minus infinity: a padded token that may look nowhere is to give numbers, which nobody reads
            scores = scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min)
        elif attn_mask is not None:
            scores = scores + attn_mask
        return self._dropped(scores.softmax(-1), dropout_p) @ value
