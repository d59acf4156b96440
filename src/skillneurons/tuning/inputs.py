"""A task's splits as one backbone reads them: tokenised once, cut to fit, served in batches.

inputs = Inputs(backbone, task, positions=127)
for chosen in inputs.by_length("dev"):
    batch = inputs.batch("dev", chosen, prompt)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import SkillNeuronsError
from ..models import Backbone, Batch, LabelWord
from ..tasks import Task
from ..tasks.tokens import Tokens, tokenize
from .prompt import Prompt

SplitName = Literal["train", "dev", "test"]
Rows = tuple[list[np.ndarray], list[np.ndarray] | None]  # token ids, token types; an array [token] a sample
TOKENS_IN_A_BATCH = 4096  # of a pass without gradients, padding included; beyond this nothing gets faster on a CPU
TOKENS_IN_A_PART = 512  # of one with gradients, which are added up: fewer tokens are padding, less memory is taken
TIMES_ON_A_GPU = 16


class Inputs:
    """The splits of `task` for `backbone` beside a prompt of `positions`; tokenised when first asked for."""

    def __init__(self, backbone: Backbone, task: Task, positions: int, input_limit: int | None = None) -> None:
        self.backbone = backbone
        self.task = task
        self.positions = positions
        room = backbone.room(positions)
        self.limit = min((size for size in (room, input_limit) if size is not None), default=None)
        self._splits: dict[str, Tokens] = {}

    @classmethod
    def beside(cls, backbone: Backbone, task: Task, prompt: Prompt) -> Inputs:
        """The inputs beside a prompt that is there already. Raises `SkillNeuronsError` where it is another model's."""
        width = prompt.embedding.shape[1]
        if width != backbone.embedding_size:
            raise SkillNeuronsError(
                f"a prompt belongs to the model it was made for: it is {width} wide, the embeddings of {backbone.name} "
                f"are {backbone.embedding_size}. Tune one for this model."
            )
        return cls(backbone, task, prompt.positions, prompt.input_limit)

    @cached_property
    def words(self) -> tuple[LabelWord, ...]:
        """The labels' words and tokens, in the order of `task.labels`."""
        return self.backbone.label_words(self.task.words)

    def tokens(self, split: SplitName) -> Tokens:
        """A split's tokens, memory-mapped."""
        if split not in self._splits:
            self._splits[split] = tokenize(
                getattr(self.task, split), self.task.text, self.backbone.tokenizer, self.limit
            )
        return self._splits[split]

    def labels(self, split: SplitName) -> Int[np.ndarray, " sample"]:
        """Each sample's label, an index into `task.labels`."""
        return np.asarray(self.tokens(split).labels)

    def rows(self, split: SplitName, chosen: Sequence[int] | np.ndarray) -> Rows:
        """The chosen samples' token ids, and their token types where the tokenizer tells any."""
        tokens = self.tokens(split)
        types = [row for index in chosen if (row := tokens.types_row(int(index))) is not None] or None
        return [tokens.row(int(index)) for index in chosen], types

    def batch(self, split: SplitName, chosen: Sequence[int] | np.ndarray, prompt: Tensor) -> Batch:
        """The chosen samples beside the prompt, or beside each one's own [sample, position, embedding]."""
        return self.backbone.place(prompt, *self.rows(split, chosen))

    def by_length(self, split: SplitName) -> Iterator[Int[np.ndarray, " sample"]]:
        """All samples, longest first, in batches of like length that hold about as many tokens."""
        return alike(
            self.tokens(split).lengths.astype(np.int32) + self.positions + 1, most_tokens(self.backbone.device)
        )

    def word_logits(self, batch: Batch) -> Float[Tensor, "batch label"]:
        """Logits of the label words at the answer token."""
        tokens = torch.tensor([word.token for word in self.words])
        logits = self.backbone.answer(batch)
        return logits[:, tokens.to(logits.device)]


def most_tokens(device: torch.device, gradients: bool = False) -> int:
    """How many tokens run at once on a device."""
    tokens = TOKENS_IN_A_PART if gradients else TOKENS_IN_A_BATCH
    return tokens if device.type == "cpu" else tokens * TIMES_ON_A_GPU


def alike(lengths: Int[np.ndarray, " sample"], most: int) -> Iterator[Int[np.ndarray, " part"]]:
    """The places of samples of these lengths, longest first, in parts that hold at most `most` tokens each when padded.

    A sample that is longer than that is a part of its own.
    """
    # the one thing that a pass holds for every sample: kept small
    order = np.argsort(-lengths, kind="stable").astype(np.int32)
    while len(order):
        size = max(1, most // int(lengths[order[0]]))
        yield order[:size]
        order = order[size:]
