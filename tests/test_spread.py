"""Each neuron's spread is numpy's standard deviation over all tokens, read one sample at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import skillneurons as sn
from skillneurons.errors import SkillNeuronsError
from skillneurons.evidence.spread import Moments, spread
from skillneurons.models import Batch
from skillneurons.tuning.prompt import Prompt

from .backbones import fresh, hooks
from .makings import Form, make
from .reading import read_one

CASES: list[tuple[str, Form]] = [
    ("bert", "pair"), ("roberta", "three"), ("gpt2", "three"), ("opt", "single"), ("llama", "single"), ("t5", "pair"),
    ("albert", "single"),
]  # fmt: skip


def random_prompt(width: int) -> Prompt:
    return Prompt(torch.randn(5, width, generator=torch.Generator().manual_seed(7)), "random", 0, 0.5, 0.5, 40)


@pytest.mark.parametrize(("name", "form"), CASES)
def test_it_is_the_standard_deviation_over_every_token(name: str, form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skillneurons.tuning.inputs.TOKENS_IN_A_BATCH", 100)  # several batches, padding in them
    model, tokenizer = fresh(name)
    backbone = sn.load_model(model.double(), tokenizer=tokenizer)
    task, prompt = make(form), random_prompt(backbone.embedding_size)
    found = spread(backbone, task, prompt)
    tokens: list[list[np.ndarray]] = [[] for _ in found]
    for row in task.dev.rows:
        layers, _ = read_one(name, model, tokenizer, [row[column] for column in task.text], prompt.embedding.double())
        for own, activations in zip(tokens, layers, strict=True):
            own.append(activations)
    assert [own.shape for own in found] == [(width,) for width in backbone.widths]
    for std, own in zip(found, tokens, strict=True):
        np.testing.assert_allclose(std.numpy(), np.concatenate(own).std(0), rtol=1e-6)
    assert hooks(model) == 0


def test_a_neuron_that_is_always_very_active_keeps_its_spread() -> None:
    values = torch.randn(6, 50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1e7
    there = torch.ones(2, 50, dtype=torch.long)
    there[1, :20] = 0
    moments = Moments([3], torch.device("cpu"))
    for part in values.split(2):
        part[1, :20] = torch.nan  # padding, of which nothing may be read
        moments.begin(Batch(there[:, :, None].float(), there, ~there.bool(), slice(40, 50), 49, {}), np.arange(2))
        moments(0, part)
    own = values.reshape(-1, 3)
    own = own[~own.isnan().any(1)]
    assert torch.allclose(moments.std(0), own.std(0, correction=0), rtol=1e-7)


def test_another_models_prompt_is_refused() -> None:
    model, tokenizer = fresh("bert")
    with pytest.raises(SkillNeuronsError, match="a prompt belongs to the model it was made for"):
        spread(sn.load_model(model, tokenizer=tokenizer), make("single"), random_prompt(7))
