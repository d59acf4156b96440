"""A shorter prompt: the positions that carry least are dropped.

    short = shorter(model, task, prompt, keep=32)         # of 127, say; still a prompt like any other
    carried(model, task, prompt)                          # [position], what `shorter` ranks by
    shortened(model, prompt, kept)                        # the prompt with these positions alone

To leave each position out in turn would take a pass over dev for every one. In its place, with L the cross-entropy
over the label words and p_j the prompt's embedding at position j, over some training samples,

    carried_j = sum over samples |dL / dp_j . p_j|

which is to first order what L changes when p_j goes to 0 (Michel et al., 2019, for heads).

A masked model adds a learned embedding of its place to every token, and what stays moves up: the difference is put
into the prompt, p_j + e(old place) - e(new place), so that the model sees what it saw. Without that the moves cost more
than what is dropped. The input moves as well, which it bears.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..errors import SkillNeuronsError
from ..models import Backbone
from ..progress import progress
from ..tasks import Task
from ..tuning.evaluate import evaluate
from ..tuning.inputs import Inputs, alike, most_tokens
from ..tuning.prompt import Prompt
from .prefixed import place_table

SAMPLES = 256


def shorter(model: Backbone, task: Task, prompt: Prompt, keep: int, samples: int = SAMPLES, seed: int = 0) -> Prompt:
    """The prompt with the `keep` positions that carry most, in their order, evaluated on dev.

    `samples` of train, drawn by `seed`, tell which. It may be tuned further from there. Raises `SkillNeuronsError` for
    a `keep` that is not from 1 to the prompt's positions.
    """
    if not 1 <= keep <= prompt.positions:
        raise SkillNeuronsError(
            f"a shorter prompt keeps from 1 to all of its {prompt.positions} positions; given: {keep}. Choose a number "
            "in between."
        )
    short = shortened(model, prompt, most(carried(model, task, prompt, samples, seed), keep))
    return replace(short, accuracy=evaluate(model, task, short, "dev").accuracy)


def most(carried: Float[Tensor, " position"], keep: int) -> Int[Tensor, " kept"]:
    """The `keep` positions that carry most, ascending."""
    return carried.argsort(descending=True, stable=True)[:keep].sort().values


def shortened(model: Backbone, prompt: Prompt, kept: Int[Tensor, " kept"]) -> Prompt:
    """The prompt with the positions `kept`, ascending, alone; its accuracy is the whole prompt's still."""
    return replace(prompt, embedding=_moved(model, prompt, kept), history=(), text=None)


@torch.enable_grad()
def carried(
    model: Backbone, task: Task, prompt: Prompt, samples: int = SAMPLES, seed: int = 0
) -> Float[Tensor, " position"]:
    """How much each position carries, as the module's page says; float64, on the CPU."""
    inputs = Inputs.beside(model, task, prompt)
    labels, lengths = inputs.labels("train"), inputs.tokens("train").lengths
    drawn = np.random.default_rng(seed).permutation(len(labels))[:samples]
    words = torch.tensor([word.token for word in inputs.words], device=model.device)
    sums = torch.zeros(prompt.positions, dtype=torch.float64)
    most = most_tokens(model.device, gradients=True)
    with progress("what each position carries", len(drawn), "samples") as advance:
        for part in alike(lengths[drawn].astype(np.int32) + prompt.positions + 1, most):
            chosen = drawn[part]
            own = prompt.embedding.to(model.device).repeat(len(chosen), 1, 1).requires_grad_()
            logits = model.answer(inputs.batch("train", chosen, own))[:, words].float()
            loss = cross_entropy(logits, torch.from_numpy(labels[chosen]).to(model.device), reduction="sum")
            [slopes] = torch.autograd.grad(loss, own)
            sums += (slopes * own.detach()).sum(-1).abs().double().sum(0).cpu()
            advance(len(chosen))
    return sums


def _moved(model: Backbone, prompt: Prompt, kept: Int[Tensor, " kept"]) -> Float[Tensor, "kept embedding"]:
    """The embeddings of what stays, as they have to be in their new places."""
    own = prompt.embedding[kept]
    table, first = place_table(model)
    if model.kind != "masked" or table is None or table.embedding_dim != model.embedding_size:
        return own
    places = table.weight.detach().float().cpu()[first + 1 :]  # after [MASK]
    return own + (places[kept] - places[: len(kept)])
