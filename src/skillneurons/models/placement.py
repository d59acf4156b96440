"""Where prompt, input and answer token stand.

    masked             [MASK] p_1 ... p_l <s> x </s>     read at [MASK]
    causal             x p_1 ... p_l                     read at p_l; padded on the left
    encoder-decoder    p_1 ... p_l x                     read at the decoder's first step

Padding is told by the attention mask alone. In each kind the prompt stands at the same places in every sample of a
batch, so its activations are a slice. Causal models get explicit position ids, so that padding shifts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Kind = Literal["masked", "causal", "encoder-decoder"]


@dataclass(frozen=True)
class Batch:
    """What goes into the model, and where to read.

    `embeddings` [batch, token, embedding]; `attention` [batch, token], 1 where there is a token; `inputs`
    [batch, token], true at the tokens of x; `prompt`, the tokens of the prompt; `answer`, the token where the label
    word is read, None in an encoder-decoder, whose answer token is the decoder's; `extra`, further arguments of the model.
    """

    embeddings: Float[Tensor, "batch token embedding"]
    attention: Int[Tensor, "batch token"]
    inputs: Bool[Tensor, "batch token"]
    prompt: slice
    answer: int | None
    extra: dict[str, Tensor]

    def __len__(self) -> int:
        return self.embeddings.shape[0]


def place(
    kind: Kind,
    embed: Callable[[Tensor], Tensor],
    prompt: Float[Tensor, "position embedding"],
    inputs: Sequence[np.ndarray],
    types: Sequence[np.ndarray] | None = None,
    mask_token: int = 0,
) -> Batch:
    """Put the prompt beside a batch of tokenised inputs.

    `embed` turns token ids into embeddings; `inputs` and `types` hold each sample's token ids and token types. A
    gradient flows to `prompt`.
    """
    samples, positions = len(inputs), prompt.shape[0]
    longest = max(1, max(len(row) for row in inputs))  # one padded token where every input is empty
    left = kind == "causal"
    ids = torch.zeros(samples, longest, dtype=torch.long)
    mask = torch.zeros(samples, longest, dtype=torch.long)
    kinds = torch.zeros(samples, longest, dtype=torch.long)
    for index, row in enumerate(inputs):
        where = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[index, where] = torch.from_numpy(row.astype(np.int64))
        mask[index, where] = 1
        if types is not None:
            kinds[index, where] = torch.from_numpy(types[index].astype(np.int64))
    device = prompt.device
    ids, mask = ids.to(device), mask.to(device)
    text = embed(ids)
    soft = prompt.to(text.dtype).expand(samples, -1, -1)
    there = mask.new_ones(samples, positions)
    nothing = torch.zeros_like(there)
    if kind == "masked":
        one = mask.new_ones(samples, 1)
        answer_token = embed(torch.full_like(one, mask_token))
        parts, seen, own = [answer_token, soft, text], [one, there, mask], [one - 1, nothing, mask]
        where, answer = slice(1, 1 + positions), 0
    elif kind == "causal":
        parts, seen, own = [text, soft], [mask, there], [mask, nothing]
        where, answer = slice(longest, longest + positions), longest + positions - 1
    else:
        parts, seen, own = [soft, text], [there, mask], [nothing, mask]
        where, answer = slice(0, positions), None
    attention = torch.cat(seen, 1)
    extra: dict[str, Tensor] = {}
    if types is not None:
        extra["token_type_ids"] = torch.cat([kinds.new_zeros(samples, attention.shape[1] - longest), kinds], 1).to(
            device
        )
    if kind == "causal":
        extra["position_ids"] = (attention.cumsum(1) - 1).clamp(min=0)
    return Batch(torch.cat(parts, 1), attention, torch.cat(own, 1).bool(), where, answer, extra)
