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


@dataclass(frozen=True, eq=False)
class Batch:
    """What goes into the model, and where to read.

    `embeddings` [batch, token, embedding]; `attention` [batch, token], 1 where there is a token; `inputs`
    [batch, token], true at the tokens of x; `prompt`, the tokens of the prompt; `answer`, the token where the label
    word is read, None in an encoder-decoder, whose answer token is the decoder's; `extra`, token types or position
    ids [batch, token], under the model's name for them.
    """

    embeddings: Float[Tensor, "batch token embedding"]
    attention: Int[Tensor, "batch token"]
    inputs: Bool[Tensor, "batch token"]
    prompt: slice
    answer: int | None
    extra: dict[str, Tensor]

    def __len__(self) -> int:
        return self.embeddings.shape[0]

    def rows(self) -> Int[Tensor, "batch token"]:
        """Which row of a trial's means each token has: its position in the prompt, then answer token, input tokens.

        Padding counts as input. In causal models the answer token is the last of the prompt.
        """
        positions = self.prompt.stop - self.prompt.start
        rows = torch.full_like(self.attention, positions + 1)
        if self.answer is not None:
            rows[:, self.answer] = positions
        rows[:, self.prompt] = torch.arange(positions, device=rows.device)
        return rows

    def among(self, tokens: str) -> Bool[Tensor, "batch token"]:
        """True at the prompt, the answer or the input; in causal models the answer token is of the prompt as well."""
        if tokens == "input":
            return self.inputs
        chosen = torch.zeros_like(self.inputs)
        chosen[:, self.prompt if tokens == "prompt" else self.answer] = True
        return chosen


def place(
    kind: Kind,
    embed: Callable[[Tensor], Tensor],
    prompt: Float[Tensor, "*sample position embedding"],
    inputs: Sequence[np.ndarray],
    types: Sequence[np.ndarray] | None = None,
    mask_token: int = 0,
) -> Batch:
    """Put the prompt, or each sample's own, beside a batch of tokenised inputs.

    `embed` turns token ids into embeddings; `inputs` and `types` hold each sample's token ids and token types [token]
    (all but the input's are of type 0). A gradient flows to `prompt`.
    """
    samples, positions = len(inputs), prompt.shape[-2]
    longest = max(1, max(len(row) for row in inputs))  # one padded token where every input is empty
    left = kind == "causal"
    ids = _padded(inputs, longest, left).to(prompt.device)
    mask = _padded([np.ones(len(row), np.int64) for row in inputs], longest, left).to(prompt.device)
    text = embed(ids)
    soft = prompt.to(text.dtype).expand(samples, -1, -1)
    there = mask.new_ones(samples, positions)
    nothing = torch.zeros_like(there)
    if kind == "masked":
        one = mask.new_ones(samples, 1)
        parts, seen, own = [embed(one * mask_token), soft, text], [one, there, mask], [one - 1, nothing, mask]
        where, answer = slice(1, 1 + positions), 0
    elif kind == "causal":
        parts, seen, own = [text, soft], [mask, there], [mask, nothing]
        where, answer = slice(longest, longest + positions), longest + positions - 1
    else:
        parts, seen, own = [soft, text], [there, mask], [nothing, mask]
        where, answer = slice(0, positions), None
    attention, tokens = torch.cat(seen, 1), torch.cat(own, 1).bool()
    extra: dict[str, Tensor] = {}
    if types is not None:
        extra["token_type_ids"] = torch.zeros_like(attention)
        extra["token_type_ids"][tokens] = torch.from_numpy(np.concatenate(types).astype(np.int64)).to(prompt.device)
    if kind == "causal":
        extra["position_ids"] = (attention.cumsum(1) - 1).clamp(min=0)
    return Batch(torch.cat(parts, 1), attention, tokens, where, answer, extra)


def _padded(rows: Sequence[np.ndarray], longest: int, left: bool) -> Int[Tensor, "batch token"]:
    """The rows, padded with 0 to one length."""
    padded = torch.zeros(len(rows), longest, dtype=torch.long)
    for row, values in zip(padded, rows, strict=True):
        start = longest - len(values) if left else 0
        row[start : start + len(values)] = torch.from_numpy(values.astype(np.int64))
    return padded
