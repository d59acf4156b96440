"""Edits change the chosen neurons of the chosen tokens by what they say, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import skillneurons as sn
from skillneurons.models import Batch
from skillneurons.models.edits import AddedEdit, Edit, PlacedEdit

from .backbones import PROMPT, backbone, hooks, placed

NAMES = ("roberta", "llama", "gpt2", "t5", "opt")
CHOSEN = ((0, 3), (0, 1), (1, 7))


def edited(model: sn.Backbone, batch: Batch, edit: Edit | PlacedEdit | AddedEdit, tokens: Any = "all") -> list[Tensor]:
    """Each layer's activations after the edit."""
    layers: list[Tensor] = []
    watch = model.observe(lambda layer, activations: layers.append(activations.clone()))
    with torch.no_grad(), model.edit(sn.NeuronSet(CHOSEN, model.widths), edit, tokens), watch:
        model.answer(batch)
    return layers


def plain(model: sn.Backbone, batch: Batch, layer_of: list[Tensor], layer: int, edit: Edit | None = None) -> Tensor:
    """What a layer's activations were before its own edit: all layers before it as `layer_of` has them."""
    kept: list[Tensor] = []

    def watch(own: int, activations: Tensor) -> Tensor | None:
        kept.append(activations.clone())
        return layer_of[own] if own < layer else None

    with torch.no_grad(), model.observe(watch):
        model.answer(batch)
    return kept[layer]


def differences(
    model: sn.Backbone, batch: Batch, edit: Edit | PlacedEdit | AddedEdit, tokens: Any = "all"
) -> list[Tensor]:
    """Per layer, what the edit added to the activations as that layer had them."""
    layers = edited(model, batch, edit, tokens)
    return [layers[layer] - plain(model, batch, layers, layer) for layer in range(model.layers)]


def columns(layer: int) -> list[int]:
    return [neuron for own, neuron in CHOSEN if own == layer]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per", ["sample", "token"])
def test_noise_is_drawn_for_each_sample_or_token_and_neuron(name: str, per: Any) -> None:
    model = backbone(name)
    batch = placed(model)
    found = differences(model, batch, sn.Noise(0.1, per=per, seed=3))
    for layer, added in enumerate(found):
        others = [n for n in range(model.widths[layer]) if n not in columns(layer)]
        assert not added[:, :, others].any()
        own = added[:, :, columns(layer)]
        if not columns(layer):
            continue
        assert (own != 0).all()
        shared = torch.allclose(own, own[:, :1].expand_as(own), rtol=0, atol=1e-12)
        assert shared == (per == "sample")
        draws = own[:, 0].flatten() if per == "sample" else own.flatten()
        assert len(draws.unique()) == len(draws)
    again = differences(model, batch, sn.Noise(0.1, per=per, seed=3))
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))
    assert not torch.equal(found[0], differences(model, batch, sn.Noise(0.1, per=per, seed=4))[0])
    assert hooks(model.model) == 0


def test_noise_has_the_spread_that_is_asked_for() -> None:
    model = backbone("bert")
    batch = placed(model, [" the film is bright and warm"] * 400)
    spreads = [torch.linspace(0.5, 4.0, width, dtype=torch.float64) for width in model.widths]
    for noise, scale in ((sn.Noise(0.3), torch.ones(2)), (sn.Noise(0.3, relative=spreads), spreads[0][columns(0)])):
        drawn = differences(model, batch, noise)[0][:, 0, columns(0)]
        # 400 numbers: their spread is off by 3.5 %, their mean by 5 % of it
        assert torch.allclose(drawn.std(0) / scale, torch.full((2,), 0.3, dtype=torch.float64), rtol=0.15)
        assert (drawn.mean(0).abs() < 0.2 * 0.3 * scale).all()
        assert torch.corrcoef(drawn.T)[0, 1].abs() < 0.2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("one", [False, True])
def test_a_baseline_is_put_in_place(name: str, one: bool) -> None:
    model = backbone(name)
    batch = placed(model)
    draw = torch.Generator().manual_seed(0)
    means = [torch.randn(PROMPT + 2, width, generator=draw, dtype=torch.float64) for width in model.widths]
    layers = edited(model, batch, sn.Baseline(means, one=one))
    for layer in range(model.layers):
        for neuron in columns(layer):
            own = means[layer][:, neuron]
            for sample in range(len(batch)):
                for token in range(batch.attention.shape[1]):
                    if one:
                        expected = own[:PROMPT].mean()
                    elif batch.prompt.start <= token < batch.prompt.stop:
                        expected = own[token - batch.prompt.start]
                    else:
                        expected = own[PROMPT if token == batch.answer else PROMPT + 1]
                    assert layers[layer][sample, token, neuron] == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_push_adds_each_neurons_own_amount(name: str) -> None:
    model = backbone(name)
    amounts = [torch.arange(width, dtype=torch.float64) - 2 for width in model.widths]
    for layer, added in enumerate(differences(model, placed(model), sn.Push(amounts))):
        for neuron in range(model.widths[layer]):
            expected = float(neuron - 2) if neuron in columns(layer) else 0.0
            assert torch.allclose(added[:, :, neuron], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tokens", ["prompt", "answer", "input"])
def test_only_the_chosen_tokens_are_edited(name: str, tokens: Any) -> None:
    model = backbone(name)
    batch = placed(model)
    if tokens == "answer" and batch.answer is None:
        with pytest.raises(sn.SkillNeuronsError, match="an encoder has no answer token"):
            model.edit(sn.NeuronSet(CHOSEN, model.widths), sn.Zero(), tokens)
        return
    inside = torch.zeros_like(batch.inputs)
    if tokens == "input":
        inside = batch.inputs
    else:
        inside[:, batch.prompt if tokens == "prompt" else batch.answer] = True
    for layer, added in enumerate(differences(model, batch, lambda _layer, own: own + 1, tokens)):
        for neuron in columns(layer):
            assert torch.allclose(added[:, :, neuron], inside.double(), rtol=0, atol=1e-12)


def test_bad_edits_are_told() -> None:
    model = backbone("bert")
    chosen = sn.NeuronSet(CHOSEN, model.widths)
    for std in (-0.1, float("nan"), float("inf")):
        with pytest.raises(sn.SkillNeuronsError, match="finite standard deviation"):
            sn.Noise(std)
    with pytest.raises(sn.SkillNeuronsError, match="per 'sample' or per 'token'; given: 'sentence'"):
        sn.Noise(0.1, per="sentence")
    with pytest.raises(sn.SkillNeuronsError, match=r"tokens are one of all, prompt, answer, input.*'sentence'"):
        model.edit(chosen, sn.Zero(), "sentence")
    own: Any = model.model
    with (
        pytest.raises(sn.SkillNeuronsError, match=r"model\.read and model\.answer alone"),
        model.edit(chosen, sn.Noise()),
    ):
        own(input_ids=torch.ones(1, 4, dtype=torch.long))
    assert hooks(own) == 0


@pytest.mark.parametrize("name", ["roberta", "llama", "albert"])
@pytest.mark.parametrize("tokens", ["all", "prompt", "answer", "input"])
def test_an_answer_is_the_same_where_the_last_layer_runs_at_one_token(name: str, tokens: Any) -> None:
    model = backbone(name)
    whole = replace(model, entrances=(), attending=())
    batch = placed(model)
    means = [torch.ones(PROMPT + 2, width, dtype=torch.float64) * 3 for width in model.widths]
    chosen = sn.NeuronSet(tuple((layer, n) for layer in range(model.layers) for n in (0, 5, 7)), model.widths)
    with torch.no_grad():
        before = model.answer(batch)
    edits: dict[str, Any] = {
        "noise": sn.Noise(2.0),
        "zero": sn.Zero(),
        "scale": sn.Scale(-3.0),
        "baseline": sn.Baseline(means),
        "push": sn.Push([own[0] for own in means]),
    }
    for edit in edits.values():
        answers = []
        for own in (model, whole):
            with torch.no_grad(), own.edit(chosen, replace(edit) if isinstance(edit, sn.Noise) else edit, tokens):
                answers.append(own.answer(batch))
        assert torch.allclose(answers[0], answers[1], rtol=0, atol=1e-12)
        assert not torch.allclose(answers[0], before, rtol=0, atol=1e-6)
