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
TOKENS_IN_A_BATCH = 4096  # of a pass without gradients, padding included; beyond this nothing gets faster on a CPU


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

    def batch(self, split: SplitName, chosen: Sequence[int] | np.ndarray, prompt: Tensor) -> Batch:
        """The chosen samples beside the prompt."""
        tokens = self.tokens(split)
        types = [row for index in chosen if (row := tokens.types_row(int(index))) is not None] or None
        return self.backbone.place(prompt, [tokens.row(int(index)) for index in chosen], types)

    def by_length(self, split: SplitName) -> Iterator[Int[np.ndarray, " sample"]]:
        """All samples, longest first, in batches of like length that hold about as many tokens."""
        tokens = self.tokens(split)
        # the one thing that a pass holds for every sample: kept small
        order = np.argsort(-tokens.lengths.astype(np.int32), kind="stable").astype(np.int32)
        start = 0
        while start < len(order):
            size = max(1, TOKENS_IN_A_BATCH // (len(tokens.row(int(order[start]))) + self.positions + 1))
            yield order[start : start + size]
            start += size

    def word_logits(self, batch: Batch) -> Float[Tensor, "batch label"]:
        """Logits of the label words at the answer token."""
        tokens = torch.tensor([word.token for word in self.words])
        logits = self.backbone.answer(batch)
        return logits[:, tokens.to(logits.device)]
