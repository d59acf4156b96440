"""A shorter prompt: which positions carry least, what stays of the others, and that dropping them costs little."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import skillneurons as sn
from skillneurons.models import load_model
from skillneurons.pruning.shorter import carried, shorter
from skillneurons.tuning.inputs import Inputs
from skillneurons.tuning.prompt import Prompt

from .backbones import encoded, fresh
from .families import FAMILIES, named
from .makings import easy, make

# where each family puts the place's embedding, normalised, beside the token's
EMBEDDINGS = {
    "bert": "bert.embeddings.LayerNorm",
    "roberta": "roberta.embeddings.LayerNorm",
    "electra": "electra.embeddings.LayerNorm",
    "albert": "albert.embeddings.LayerNorm",
}


def loaded(name: str = "bert", dtype: torch.dtype = torch.float32) -> sn.Backbone:
    model, tokenizer = fresh(name)
    return load_model(model.to(dtype), tokenizer=tokenizer)


def drawn(model: sn.Backbone, task: sn.Task, positions: int = 8, seed: int = 0) -> Prompt:
    [own] = sn.tune(model, task, prompt="random", trials=1, positions=positions, init_std="auto", seed=seed)
    return own


@pytest.mark.parametrize("name", FAMILIES)
def test_a_position_carries_its_slope_times_itself(name: str) -> None:
    """A plain loop, one sample at a time."""
    model, task = loaded(name, torch.float64), make("three", train=19, dev=9, test=5)
    own = drawn(model, task, 5)
    inputs = Inputs.beside(model, task, own)
    words = torch.tensor([word.token for word in inputs.words])
    expected = torch.zeros(5, dtype=torch.float64)
    for sample in range(19):
        soft = own.embedding.double().requires_grad_()
        logits = model.answer(inputs.batch("train", [sample], soft))[:, words]
        cross_entropy(logits, torch.tensor(inputs.labels("train")[[sample]])).backward()
        assert soft.grad is not None
        expected += (soft.grad * soft.detach()).sum(1).abs()
    found = carried(model, task, own)
    assert torch.allclose(found, expected, rtol=2e-2)  # DeBERTa and ModernBERT compute in float32 in part
    assert found.min() > 0
    few = carried(model, task, own, samples=7)
    assert not torch.allclose(few, found, rtol=1e-2) and torch.equal(few, carried(model, task, own, samples=7))
    assert not torch.equal(few, carried(model, task, own, samples=7, seed=1))


@pytest.mark.parametrize("name", FAMILIES)
def test_what_carries_most_stays_in_its_order(name: str) -> None:
    model, task = loaded(name), make("pair")
    own = drawn(model, task)
    best = sorted(carried(model, task, own).argsort(descending=True)[:3].tolist())
    short = shorter(model, task, own, keep=3)
    assert short.positions == 3 and short.accuracy == sn.evaluate(model, task, short, "dev").accuracy
    assert (short.trial, short.input_limit, short.history) == (own.trial, own.input_limit, ())
    if name in ("modernbert", "deberta-v2") or name not in named("masked"):  # no learned embeddings that could be moved
        assert torch.equal(short.embedding, own.embedding[best])
    whole = shorter(model, task, own, keep=8)
    assert torch.equal(whole.embedding, own.embedding) and whole.accuracy == own.accuracy


@pytest.mark.parametrize(("name", "embeddings"), EMBEDDINGS.items())
@torch.no_grad()
def test_what_stays_looks_as_before(name: str, embeddings: str) -> None:
    """The first layer is given the same at the positions that stay."""
    model, task = loaded(name), make("single")
    own = drawn(model, task, seed=1)
    short = shorter(model, task, own, keep=3)
    best = sorted(carried(model, task, own).argsort(descending=True)[:3].tolist())
    assert best != [0, 1, 2]

    def seen(prompt: Prompt) -> Tensor:
        found: list[Tensor] = []
        hook = model.model.get_submodule(embeddings).register_forward_hook(
            lambda _module, _args, output: found.append(output)
        )
        batch = model.place(prompt.embedding, *encoded(model))
        model.answer(batch)
        hook.remove()
        return found[0][:, batch.prompt]

    assert torch.allclose(seen(short), seen(own)[:, best], atol=1e-5)
    plain = replace(own, embedding=own.embedding[best])
    assert not torch.allclose(seen(plain), seen(own)[:, best], atol=1e-2)


def test_it_costs_less_than_another_choice() -> None:
    """A tuned prompt's half, against its other half."""
    model, task = loaded("roberta"), easy(train=192, dev=192)
    options: dict[str, Any] = {"trials": 1, "positions": 12, "lr": 0.05, "init_std": "auto", "batch": 16}
    [own] = sn.tune(model, task, steps=80, epochs=20, evaluate_every=20, **options)
    assert own.accuracy > 0.95
    order = carried(model, task, own).argsort()
    losses = []
    for gone in (order[:6], order[6:]):
        stays = torch.ones(12, dtype=torch.bool)
        stays[gone] = False
        inputs = Inputs.beside(model, task, own)
        batch = inputs.batch("dev", range(192), own.embedding)
        attention = batch.attention.clone()
        attention[:, 1:13] = stays
        logits = inputs.word_logits(replace(batch, attention=attention))
        losses.append(float(cross_entropy(logits, torch.tensor(inputs.labels("dev"), dtype=torch.long))))
    assert losses[0] < losses[1]


@pytest.mark.parametrize("keep", [0, -1, 9])
def test_a_wrong_number_is_told(keep: int) -> None:
    model, task = loaded(), make("single")
    with pytest.raises(sn.SkillNeuronsError, match=f"from 1 to all of its 8 positions; given: {keep}"):
        shorter(model, task, drawn(model, task), keep)
