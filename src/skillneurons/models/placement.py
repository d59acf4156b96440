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
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

Kind = Literal["masked", "causal", "encoder-decoder"]
Token = int | torch.SymInt
"""A token's number; a symbol where a model is traced for any number of tokens."""


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
    answer: Token | None
    extra: dict[str, Tensor]

    def __len__(self) -> int:
        return self.embeddings.shape[0]

    def rows(self) -> Int[Tensor, "batch token"]:
        """Which row of a trial's means each token has: its position in the prompt, then answer token, input tokens.

        Padding counts as input. In causal models the answer token is the last of the prompt.
        """
        positions = self.prompt.stop - self.prompt.start
        tokens = torch.arange(self.attention.shape[1], device=self.attention.device)
        others = torch.full_like(tokens, positions + 1)
        answer: Any = self.answer  # torch's annotations know no symbols
        if answer is not None:
            others = torch.where(tokens == answer, positions, others)
        rows = tokens - self.prompt.start
        return torch.where((rows >= 0) & (rows < positions), rows, others).expand(self.attention.shape)

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
    ids, attention, own = padded(kind, inputs, types)
    device = prompt.device
    own = None if own is None else own.to(device)
    return place_padded(kind, embed, prompt, ids.to(device), attention.to(device), own, mask_token)


def padded(
    kind: Kind, inputs: Sequence[np.ndarray], types: Sequence[np.ndarray] | None = None
) -> tuple[Int[Tensor, "batch token"], Int[Tensor, "batch token"], Int[Tensor, "batch token"] | None]:
    """Token ids, attention mask and token types of a batch of inputs, all of one length."""
    longest = max(1, max(len(row) for row in inputs))  # one padded token where every input is empty
    left = kind == "causal"
    ones = [np.ones(len(row), np.int64) for row in inputs]
    ids, attention = _padded(inputs, longest, left), _padded(ones, longest, left)
    return ids, attention, None if types is None else _padded(types, longest, left)


def place_padded(
    kind: Kind,
    embed: Callable[[Tensor], Tensor],
    prompt: Float[Tensor, "*sample position embedding"],
    ids: Int[Tensor, "batch token"],
    attention: Int[Tensor, "batch token"],
    types: Int[Tensor, "batch token"] | None = None,
    mask_token: int = 0,
) -> Batch:
    """As `place`, of inputs that `padded` made; it can be traced with any number of samples and tokens."""
    samples, longest, positions = ids.shape[0], ids.shape[1], prompt.shape[-2]
    text = embed(ids)
    soft = prompt.to(text.dtype).expand(samples, -1, -1)
    if kind == "masked":
        parts = [embed(torch.full_like(ids[:, :1], mask_token)), soft, text]
        start, answer, around = 1, 0, (1 + positions, 0)
    elif kind == "causal":
        parts = [text, soft]
        start, answer, around = longest, longest + positions - 1, (0, positions)
    else:
        parts = [soft, text]
        start, answer, around = 0, None, (positions, 0)
    everything = pad(attention, around, value=1)
    extra: dict[str, Tensor] = {}
    if types is not None:
        extra["token_type_ids"] = pad(types, around)
    if kind == "causal":
        extra["position_ids"] = (everything.cumsum(1) - 1).clamp(min=0)
    where = slice(start, start + positions)
    return Batch(torch.cat(parts, 1), everything, pad(attention, around).bool(), where, answer, extra)


def _padded(rows: Sequence[np.ndarray], longest: int, left: bool) -> Int[Tensor, "batch token"]:
    """The rows, padded with 0 to one length."""
    padded = torch.zeros(len(rows), longest, dtype=torch.long)
    for row, values in zip(padded, rows, strict=True):
        start = longest - len(values) if left else 0
        row[start : start + len(values)] = torch.from_numpy(values.astype(np.int64))
    return padded
