"""A cut model answers as the whole one with the same neurons frozen, and is as small as counted by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, RobertaConfig

import skillneurons as sn
from skillneurons.models import Backbone, Batch, Site, load_model
from skillneurons.pruning.cut import cut
from skillneurons.pruning.head import words_alone

from . import vocabulary
from .backbones import PROMPT, backbone, encoded, fresh, hooks, passed, placed, prompt, without_dropout
from .families import FAMILIES, HIDDEN
from .makings import make

CUT = [name for name in FAMILIES if not name.startswith("albert")]
GATED = ("modernbert", "llama", "qwen2", "qwen3", "t5-gated")
WITHOUT_BIAS = ("modernbert", "llama", "qwen2", "qwen3", "t5", "t5-gated")
EVERY = 7
"""One of so many neurons stays."""


def ends(model: Backbone) -> tuple[int, ...]:
    """The layers that are pruned here: the first and the last."""
    return (0, model.layers - 1)


def some(model: Backbone) -> sn.NeuronSet:
    """Neurons of every layer, other ones in each."""
    kept = [(layer, neuron) for layer, width in enumerate(model.widths) for neuron in range(layer, width, EVERY)]
    return sn.NeuronSet(tuple(kept), model.widths)


def others(model: Backbone) -> sn.NeuronSet:
    """The rest of the pruned layers."""
    rest = [
        (layer, at) for layer in ends(model) for at in range(model.widths[layer]) if (at - layer) % EVERY or at < layer
    ]
    return sn.NeuronSet(tuple(rest), model.widths)


def means(model: Backbone, positions: int = PROMPT, seed: int = 0) -> list[Tensor]:
    """Anything that could be means: a row a position, answer token (which encoders do not have), input tokens."""
    draw = torch.Generator().manual_seed(seed)
    found = [torch.randn(positions + 2, width, generator=draw, dtype=torch.float64) for width in model.widths]
    if model.kind == "encoder-decoder":
        for own in found:
            own[positions] = torch.nan
    return found


def smaller(model: Backbone, one: bool) -> Backbone:
    return cut(model, some(model), ends(model), means(model), one)


@torch.no_grad()
def answer(model: Backbone, batch: Batch) -> Tensor:
    return model.answer(batch)


@pytest.mark.parametrize("one", [True, False])
@pytest.mark.parametrize("name", CUT)
def test_cut_equals_frozen(name: str, one: bool) -> None:
    model = backbone(name)
    batch, small = placed(model), smaller(model, one)
    with model.edit(others(model), sn.Baseline(means(model), one)):
        expected = answer(model, batch)
        activations, _ = passed(model, batch)
    assert torch.allclose(answer(small, batch), expected, rtol=0, atol=1e-10)
    assert not torch.allclose(answer(model, batch), expected, rtol=0, atol=1e-2)
    found, whole = passed(small, batch)  # which runs every token of the last layer
    assert torch.allclose(whole, expected, rtol=0, atol=1e-10)
    stay = some(model).by_layer()
    for layer, own in enumerate(activations):
        kept = own[..., stay[layer]] if layer in ends(model) else own
        assert torch.allclose(found[layer], kept, rtol=0, atol=1e-10)


@pytest.mark.parametrize("one", [True, False])
@pytest.mark.parametrize("name", CUT)
def test_in_single_precision_too(name: str, one: bool) -> None:
    model = backbone(name, torch.float32)
    batch, small = placed(model), smaller(model, one)
    with model.edit(others(model), sn.Baseline(means(model), one)):
        expected = answer(model, batch)
    assert answer(small, batch).dtype == torch.float32
    assert torch.allclose(answer(small, batch), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("one", [True, False])
@pytest.mark.parametrize("name", CUT)
def test_with_all_kept_nothing_changes(name: str, one: bool) -> None:
    model = backbone(name)
    everything = sn.NeuronSet(
        tuple((layer, at) for layer, width in enumerate(model.widths) for at in range(width)), model.widths
    )
    small = cut(model, everything, range(model.layers), means(model), one)
    assert small.widths == model.widths
    assert torch.allclose(answer(small, placed(model)), answer(model, placed(model)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("one", [True, False])
@pytest.mark.parametrize("name", CUT)
def test_parameters_are_as_counted_by_hand(name: str, one: bool) -> None:
    model = backbone(name)
    small = smaller(model, one)
    biased = name not in WITHOUT_BIAS
    ups = 2 if name in GATED else 1
    width = FAMILIES[name].width
    count = sum(own.numel() for own in model.model.parameters())
    for layer in ends(model):
        kept = len(range(layer, width, EVERY))
        assert small.widths[layer] == kept
        count -= (width - kept) * ((ups + 1) * HIDDEN + ups * biased)
        count += HIDDEN * ((1 if one else PROMPT + 2) - biased)
    assert sum(own.numel() for own in small.model.parameters()) == count


@pytest.mark.parametrize("name", ["roberta", "gpt2", "t5-gated"])
def test_the_original_stays_as_it_was(name: str) -> None:
    loaded, tokenizer = fresh(name)
    model = load_model(loaded, tokenizer=tokenizer)
    before = {key: value.clone() for key, value in loaded.state_dict().items()}
    fingerprint, modules = model.fingerprint, [*loaded.modules()]
    small = smaller(model, one=False)
    answer(small, placed(small))
    after = loaded.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(own, after[key]) for key, own in before.items())
    assert [*loaded.modules()] == modules and replace(model).fingerprint == fingerprint != small.fingerprint
    assert hooks(loaded) == hooks(small.model) == 0
    # what is not cut is not there twice
    assert small.model.get_input_embeddings().weight is loaded.get_input_embeddings().weight
    assert not {*map(id, loaded.modules())} & {*map(id, small.model.modules())}


@pytest.mark.parametrize("name", ["bert", "modernbert", "opt", "llama", "bart"])
def test_each_sample_is_answered_as_if_alone(name: str) -> None:
    small = smaller(backbone(name), one=False)
    rows, types = encoded(small)
    together = answer(small, placed(small))
    for at, row in enumerate(rows):
        alone = answer(small, small.place(prompt(small), [row], types and [types[at]]))
        assert torch.allclose(alone[0], together[at], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["bert", "gpt2", "bart"])
def test_without_a_prompt_answer_and_input_have_their_own_rows(name: str) -> None:
    model = backbone(name)
    nothing = torch.zeros(0, model.embedding_size)
    batch = placed(model, soft=nothing)
    own = [mean[PROMPT:] for mean in means(model)]  # as many rows as a batch without a prompt has
    with model.edit(others(model), sn.Baseline(own)):
        expected = answer(model, batch)
    assert torch.allclose(answer(smaller(model, one=False), batch), expected, rtol=0, atol=1e-10)


def test_another_prompt_needs_another_table() -> None:
    model = backbone("bert")
    longer = placed(model, soft=prompt(model, PROMPT + 1))
    with pytest.raises(sn.SkillNeuronsError, match=f"for a prompt of {PROMPT}; given: one of {PROMPT + 1}"):
        answer(smaller(model, one=False), longer)
    answer(smaller(model, one=True), longer)


def test_a_model_with_a_table_is_called_through_its_backbone() -> None:
    small = smaller(backbone("bert"), one=False)
    with pytest.raises(sn.SkillNeuronsError, match=r"known in model\.read and model\.answer alone"):
        small.model(input_ids=torch.tensor([[5, 6, 7]]))
    plain: Any = smaller(backbone("bert"), one=True).model
    assert torch.isfinite(plain(input_ids=torch.tensor([[5, 6, 7]])).logits).all()


@pytest.mark.parametrize(("name", "one"), [("roberta", True), ("roberta", False), ("gpt2", False), ("t5", False)])
def test_what_works_on_a_backbone_works_on_a_cut_one(name: str, one: bool) -> None:
    model = smaller(backbone(name, torch.float32), one)
    task = make("three", train=30, dev=20, test=20)
    options: dict[str, Any] = {"trials": 1, "positions": PROMPT, "steps": 3, "evaluate_every": 2}
    skill = sn.find(model, task, **options)
    assert skill.widths == model.widths and len(skill.top(fraction=0.2)) == round(0.2 * model.neurons)
    with model.edit(skill.top(5), sn.Zero()):
        sn.evaluate(model, task, skill.prompts[0])
    means = skill.scores[0].mean
    again = cut(model, skill.top(fraction=0.5, scope="layer"), [1], [means(at) for at in range(model.layers)], one)
    assert again.widths[1] == round(0.5 * model.widths[1]) and again.widths[0] == model.widths[0]


@pytest.mark.parametrize("name", ["bert", "opt"])
def test_gradients_are_those_under_the_edit(name: str) -> None:
    loaded, tokenizer = fresh(name)
    without_dropout(loaded)
    model = load_model(loaded.double(), tokenizer=tokenizer)
    small = smaller(model, one=False)
    gradients = []
    for own in (model, small):
        soft = prompt(model).double().requires_grad_()
        with model.edit(others(model), sn.Baseline(means(model))):
            own.answer(placed(own, soft=soft))[:, 3:9].logsumexp(1).sum().backward()
        assert soft.grad is not None
        gradients.append(soft.grad)
    assert gradients[0].abs().max() > 1e-6
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_a_cut_model_can_be_traced(name: str) -> None:
    """With as many samples and tokens as there will be: what an export to another form needs."""
    small = smaller(backbone(name, torch.float32), one=False)

    class Answer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = small.model

        def forward(self, embeddings: Tensor, attention: Tensor) -> Tensor:
            start = 1 if small.kind == "masked" else embeddings.shape[1] - PROMPT
            answer = 0 if small.kind == "masked" else -1
            where = slice(start, start + PROMPT)
            return small.answer(Batch(embeddings, attention, attention.bool(), where, answer, {}))

    batch, sizes = placed(small), {0: torch.export.Dim("batch"), 1: torch.export.Dim("token", min=PROMPT + 2, max=60)}
    traced = torch.export.export(
        Answer(), (batch.embeddings, batch.attention), dynamic_shapes=(sizes, sizes), strict=False
    ).module()
    other = placed(small, [" a quiet scene , but the story", " we won"])
    with torch.no_grad():
        assert torch.allclose(
            traced(other.embeddings, other.attention), Answer()(other.embeddings, other.attention), atol=1e-5
        )


def test_layers_that_share_their_weights_are_refused() -> None:
    for name in ("albert", "albert-groups"):
        with pytest.raises(sn.SkillNeuronsError, match="share one set of weights"):
            smaller(backbone(name), one=True)


def test_a_layer_keeps_a_neuron() -> None:
    model = backbone("bert")
    with pytest.raises(sn.SkillNeuronsError, match=r"layer 1 of .* would keep none"):
        cut(model, sn.NeuronSet(((0, 3),), model.widths), [0, 1], means(model), one=True)


def test_neurons_of_another_model_are_refused() -> None:
    model = backbone("bert")
    with pytest.raises(sn.SkillNeuronsError, match="belongs to the model it was chosen in"):
        cut(model, sn.NeuronSet(((0, 3),), (4, 4)), [0], means(model), one=True)


@pytest.mark.parametrize("norm", [True, False])
def test_ffns_of_another_form_are_refused(norm: bool) -> None:
    class Mixed(nn.Module):
        """An activation after which a neuron is no longer its own row's."""

        def forward(self, given: Tensor) -> Tensor:
            return nn.functional.gelu(given).roll(1, -1)

    loaded, tokenizer = fresh("bert")
    loaded.bert.encoder.layer[1].intermediate.intermediate_act_fn = nn.LayerNorm(44).double() if norm else Mixed()
    model = load_model(loaded.double(), tokenizer=tokenizer)
    with pytest.raises(sn.SkillNeuronsError, match=r"answers as the whole one .* does not"):
        smaller(model, one=True)


def test_sites_named_by_hand_may_have_no_up_projection() -> None:
    loaded, tokenizer = fresh("bert")
    model = load_model(loaded, tokenizer=tokenizer, sites="encoder.layer.{layer}.attention.output.dense")
    with pytest.raises(sn.SkillNeuronsError, match="no linear layer to 24 is found in its block"):
        cut(model, some(model), [0], means(model), one=True)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_head_for_the_label_words_alone(name: str) -> None:
    model = backbone(name)
    tokens = [5, 11, 7]
    small, columns = words_alone(model, tokens)
    found = answer(small, placed(model))
    assert found.shape[1] == 3 and columns == [0, 1, 2]
    assert torch.allclose(found, answer(model, placed(model))[:, tokens], rtol=0, atol=1e-12)
    table: Any = model.model.get_input_embeddings()
    rows = table.weight.shape[0]
    beside = [own for own in small.model.parameters() if own.shape[-1] == rows]
    assert beside == []  # biases of the vocabulary went with its rows


def test_a_head_that_is_the_embeddings_stays_whole() -> None:
    loaded, tokenizer = fresh("deberta-v2")
    config = type(loaded.config)(**{**loaded.config.to_dict(), "legacy": False})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = load_model(AutoModelForMaskedLM.from_config(config), tokenizer=tokenizer)
    small, columns = words_alone(model, [5, 11])
    assert small is model and columns == [5, 11]


@pytest.mark.parametrize(("one", "share"), [(True, 66.6), (False, 67.3)])
def test_roberta_base_has_the_papers_share_left(one: bool, share: float) -> None:
    """2 % of the top nine of twelve layers, 127 positions, the whole head counted (section 6.1)."""
    config = RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)
    with torch.device("meta"):
        empty = AutoModelForMaskedLM.from_config(config)
    sites = tuple(Site(layer, f"roberta.encoder.layer.{layer}.output.dense", 3072) for layer in range(12))
    model = Backbone(empty, vocabulary.roberta(), "masked", sites, "roberta-base")
    layers = range(3, 12)
    kept = sn.NeuronSet(tuple((layer, at) for layer in layers for at in range(round(0.02 * 3072))), model.widths)
    small = cut(model, kept, layers, [torch.zeros(129, 3072)] * 12, one)
    whole, left = (sum(own.numel() for own in each.model.parameters()) for each in (model, small))
    assert whole == 124_697_433
    assert round(100 * left / whole, 1) == share
    assert np.array(small.widths).tolist() == [3072] * 3 + [61] * 9
