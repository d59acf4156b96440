"""What is placed beside the input: soft (tuned), random (untuned) or hard (words)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import SkillNeuronsError
from ..models import Backbone
from ..tasks import Task
from .config import TuneConfig


@dataclass(frozen=True)
class Evaluated:
    """One evaluation of a trial: mean loss of the steps since the last one, accuracy on dev."""

    step: int
    loss: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt of one trial, and how it came about.

    `embedding` [position, embedding], float32, on the CPU. `accuracy` is that on dev of this very prompt; the
    prompt was chosen by it. `majority` is the share of the commonest label of the same dev samples. `text` has a
    hard prompt's words. Of kind `none`, it has no positions: the model answers from the input alone.
    """

    embedding: Float[Tensor, "position embedding"]
    kind: Literal["soft", "random", "hard", "none"]
    trial: int
    accuracy: float
    majority: float
    samples: int
    input_limit: int | None = None
    lr: float | None = None
    history: tuple[Evaluated, ...] = ()
    text: str | None = None

    @property
    def positions(self) -> int:
        """The number of prompt tokens."""
        return int(self.embedding.shape[0])

    @property
    def margin(self) -> float:
        """Dev accuracy above the majority label's share, in standard errors of that share's accuracy."""
        error = (self.majority * (1 - self.majority) / self.samples) ** 0.5
        return (self.accuracy - self.majority) / error if error else float(self.accuracy > self.majority)

    @property
    def worth_ranking(self) -> bool:
        """Whether the prompt beat the majority label on dev by 2 points and by 3 standard errors."""
        return self.accuracy - self.majority >= 0.02 and self.margin >= 3

    def record(self) -> dict[str, Any]:
        """All but the embedding, as plain values for JSON."""
        values = asdict(self)
        del values["embedding"]
        return values

    @classmethod
    def from_record(cls, embedding: Tensor, record: dict[str, Any]) -> Prompt:
        """The prompt whose `record` and embedding [position, embedding] these are."""
        history = tuple(Evaluated(**point) for point in record["history"])
        return cls(embedding=embedding, **{**record, "history": history})

    def __repr__(self) -> str:
        return (
            f"Prompt({self.kind}, trial {self.trial}, {self.positions} positions; dev accuracy {self.accuracy:.3f}, "
            f"majority {self.majority:.3f})"
        )


def initial(backbone: Backbone, config: TuneConfig, trial: int) -> Float[Tensor, "position embedding"]:
    """A prompt drawn from N(0, init_std) by seed and trial (paper, appendix B)."""
    std = backbone.embedding_scale if config.init_std == "auto" else config.init_std
    source = torch.Generator().manual_seed(seed_of(config.seed, trial, 0))
    return torch.randn(config.positions, backbone.embedding_size, generator=source) * std


def nothing(backbone: Backbone) -> Float[Tensor, "position embedding"]:
    """A prompt of no positions."""
    return torch.zeros(0, backbone.embedding_size, device=backbone.device)


def hard_prompts(task: Task) -> tuple[str, ...]:
    """The task's own hard prompts; where it has none, one that lists its label words."""
    words = list(task.words.values())
    return tuple(task.prompts) or (f"It is either {', '.join(words[:-1])} or {words[-1]}.",)


@torch.no_grad()
def embed_words(backbone: Backbone, text: str) -> Float[Tensor, "position embedding"]:
    """The embeddings of a hard prompt's tokens."""
    ids = backbone.tokenizer.encode(text, add_special_tokens=False)
    if not ids:
        raise SkillNeuronsError(f"a hard prompt needs at least one token; given: {text!r}.")
    return backbone.embed(torch.tensor(ids, device=backbone.device)).float().cpu()


def seed_of(*numbers: int) -> int:
    """One seed from several numbers (a run's seed, a trial, a step ...), well mixed."""
    from numpy.random import SeedSequence

    return int(SeedSequence(numbers).generate_state(1, "uint64")[0] >> 1)
