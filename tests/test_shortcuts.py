"""What is not read is not computed, and what is read is the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import skillneurons as sn

from .backbones import backbone, fresh, hooks, passed, placed
from .families import FAMILIES

NARROW = [name for name, own in FAMILIES.items() if own.kind != "encoder-decoder" and not name.startswith("opt")]


def tokens_seen(model: sn.Backbone, path: str, call: Any) -> list[int]:
    """How many tokens a sample has in each call of a module."""
    seen: list[int] = []
    hook = model.model.get_submodule(path).register_forward_hook(
        lambda _module, args, _out: seen.append(args[0].shape[1])
    )
    with torch.no_grad():
        call()
    hook.remove()
    return seen


@pytest.mark.parametrize("name", NARROW)
def test_the_last_ffn_and_attention_run_at_the_answer_token_alone(name: str) -> None:
    model = backbone(name)
    batch = placed(model)
    assert model.entrances and model.attending
    whole = replace(model, entrances=(), attending=())
    with torch.no_grad():
        assert torch.allclose(model.answer(batch), whole.answer(batch), rtol=0, atol=1e-12)
    long = batch.attention.shape[1]
    for path in (*model.entrances, *model.attending):
        calls = tokens_seen(model, path, lambda: model.answer(batch))
        assert calls == [long] * (len(calls) - 1) + [1]
        assert set(tokens_seen(model, path, lambda: whole.answer(batch))) == {long}
    assert hooks(model.model) == 0


@pytest.mark.parametrize(("name", "parts"), [("roberta", {"query", "dense"}), ("llama", {"q_proj", "o_proj"})])
def test_keys_and_values_are_of_every_token(name: str, parts: set[str]) -> None:
    assert {path.rpartition(".")[2] for path in backbone(name).attending} == parts


def test_in_training_the_attention_runs_whole() -> None:
    own, tokenizer = fresh("bert")
    model = sn.load_model(own, tokenizer=tokenizer)
    batch = placed(model)
    own.train()
    for path in model.attending:
        assert set(tokens_seen(model, path, lambda: model.answer(batch))) == {batch.attention.shape[1]}


@pytest.mark.parametrize("name", NARROW)
def test_the_prompts_gradient_is_the_same(name: str) -> None:
    model = backbone(name)
    gradients: list[Tensor] = []
    for own in (model, replace(model, entrances=(), attending=())):
        soft = torch.full((3, model.embedding_size), 0.1, dtype=torch.float64, requires_grad=True)
        own.answer(placed(own, soft=soft))[:, 3:9].logsumexp(1).sum().backward()
        assert soft.grad is not None
        gradients.append(soft.grad)
    assert gradients[0].abs().max() > 1e-6
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", ["opt", "t5", "bart"])
def test_other_models_run_it_whole(name: str) -> None:
    assert backbone(name).entrances == () and backbone(name).attending == ()


@pytest.mark.parametrize("name", ["bert", "albert", "gpt2"])
def test_whoever_watches_sees_every_token(name: str) -> None:
    model = backbone(name)
    batch = placed(model)
    layers, logits = passed(model, batch)
    assert {layer.shape[1] for layer in layers} == {batch.attention.shape[1]}
    with torch.no_grad():
        assert torch.allclose(model.answer(batch), logits, rtol=0, atol=1e-12)
        chosen = sn.NeuronSet(((model.layers - 1, 0), (0, 1)), model.widths)
        with model.edit(chosen, sn.Scale(30.0)):
            edited = model.answer(batch)
            assert torch.allclose(edited, replace(model, entrances=(), attending=()).answer(batch), rtol=0, atol=1e-12)
        assert not torch.allclose(edited, logits)


@pytest.mark.parametrize("name", [*FAMILIES])
def test_reading_ends_with_the_last_layers_neurons(name: str) -> None:
    model = backbone(name)
    batch = placed(model)
    expected, _ = passed(model, batch)
    seen: list[Tensor] = []
    with torch.no_grad(), model.observe(lambda layer, activations: seen.append(activations.clone())):
        model.read(batch)
    assert len(seen) == len(expected)
    assert all(torch.equal(one, other) for one, other in zip(seen, expected, strict=True))
    last = model.sites[-1].path
    shared = sum(site.path == last for site in model.sites)
    ended: list[int] = []
    hook = model.model.get_submodule(last).register_forward_hook(lambda *_: ended.append(1))
    with torch.no_grad():
        model.read(batch)
    hook.remove()
    assert len(ended) == shared - 1 and hooks(model.model) == 0


def test_a_failure_inside_reading_is_not_swallowed() -> None:
    model, tokenizer = fresh("bert")
    own = sn.load_model(model, tokenizer=tokenizer)

    def fail(*_: object) -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"), own.observe(fail):
        own.read(placed(own))
    assert hooks(model) == 0
