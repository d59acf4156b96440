"""A linear layer whose bias differs from token to token.

    layer = PlacedLinear(weight, biases)        # [out, in]; [row, out]: a row a position, answer token, input tokens
    with placed([layer], batch):
        layer(activations)

Which row a token has, `Batch.rows` says. Samples of a batch have their rows in common, so one list of them serves all.
A batch without a prompt has the last two rows alone in use.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear

from ..errors import SkillNeuronsError
from .placement import Batch, Token


class _Where(NamedTuple):
    rows: Int[Tensor, " token"]  # counted from the end, so below 0
    answer: Token | None


class PlacedLinear(nn.Linear):
    """A linear layer; to each token it adds its own row of `bias` [row, out]."""

    def __init__(self, weight: Float[Tensor, "out in"], bias: Float[Tensor, "row out"]) -> None:
        super().__init__(weight.shape[1], weight.shape[0], bias=False, device="meta")
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.where: _Where | None = None

    def forward(self, input: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        """The layer's output for all tokens of the batch that is under way, or for its answer token alone."""
        if self.where is None:
            raise SkillNeuronsError(
                "where a token stands is known in model.read and model.answer alone; a model whose biases differ from "
                "token to token was called itself. Call one of them."
            )
        rows, answer = self.where
        output = linear(input, self.weight)
        rows, tokens = rows.to(self.bias.device), rows.shape[0]  # no len(), which a trace would take for a constant
        if output.ndim == 2:  # some models (OPT) fold batch and tokens into one axis
            return (output.unflatten(0, (-1, tokens)) + self.bias[rows]).flatten(0, 1)
        if output.shape[1] != tokens:
            rows = rows[answer, None]
        return output + self.bias[rows]


@contextlib.contextmanager
def placed(layers: Sequence[PlacedLinear], batch: Batch) -> Iterator[None]:
    """The layers know where the batch's tokens stand while the block runs.

    Raises `SkillNeuronsError` beside a prompt of another number of positions than they have rows for.
    """
    before = [layer.where for layer in layers]
    if layers:
        positions = batch.prompt.stop - batch.prompt.start
        rows = len(layers[0].bias)
        if positions and positions + 2 != rows:
            raise SkillNeuronsError(
                f"biases of this model differ by position, for a prompt of {rows - 2}; given: one of {positions}. "
                "Use the prompt that the model was pruned with."
            )
        where = _Where(batch.rows()[0] - (positions + 2), batch.answer)
        for layer in layers:
            layer.where = where
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            layer.where = own
