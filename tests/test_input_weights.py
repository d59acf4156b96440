"""A neuron's input weights and the embeddings beside them are those that a neuron worked out by hand answers to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from skillneurons.errors import SkillNeuronsError
from skillneurons.models.input_weights import input_embeddings, input_weights
from skillneurons.models.loading import load_model

from .backbones import backbone, fresh, hooks, passed, placed
from .families import FAMILIES

# the layer that a neuron's K stands in, beside its down-projection; of a fused one, the first half
UP = {
    "bert": "bert.encoder.layer.{}.intermediate.dense",
    "electra": "electra.encoder.layer.{}.intermediate.dense",
    "roberta": "roberta.encoder.layer.{}.intermediate.dense",
    "deberta-v2": "deberta.encoder.layer.{}.intermediate.dense",
    "modernbert": "model.layers.{}.mlp.Wi",
    "gpt2": "transformer.h.{}.mlp.c_fc",
    "opt": "model.decoder.layers.{}.fc1",
    "opt-projected": "model.decoder.layers.{}.fc1",
    "llama": "model.layers.{}.mlp.gate_proj",
    "qwen2": "model.layers.{}.mlp.gate_proj",
    "qwen3": "model.layers.{}.mlp.gate_proj",
    "t5": "encoder.block.{}.layer.1.DenseReluDense.wi",
    "t5-gated": "encoder.block.{}.layer.1.DenseReluDense.wi_0",
    "bart": "model.encoder.layers.{}.fc1",
    "albert": "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn",
    "albert-groups": "albert.encoder.albert_layer_groups.{}.albert_layers.0.ffn",
}
PROJECTION = {
    "electra": "electra.embeddings_project",
    "albert": "albert.encoder.embedding_hidden_mapping_in",
    "albert-groups": "albert.encoder.embedding_hidden_mapping_in",
    "opt-projected": "model.decoder.project_in",
}


@pytest.mark.parametrize("name", FAMILIES)
def test_they_are_the_rows_that_the_family_is_known_to_have(name: str) -> None:
    model = backbone(name)
    for layer in (0, model.layers - 1):
        module: Any = model.model.get_submodule(UP[name].format(layer // 2 if name == "albert-groups" else layer))
        for neuron in (0, 7):
            expected = module.weight[:, neuron] if isinstance(module, Conv1D) else module.weight[neuron]
            assert torch.equal(input_weights(model, [(layer, neuron)])[0], expected)
    assert hooks(model.model) == 0


@pytest.mark.parametrize("name", ["modernbert", "llama", "t5-gated"])
def test_the_gate_is_the_half_that_is_not_linear(name: str) -> None:
    model, tokenizer = fresh(name)
    backbone = load_model(model.double(), tokenizer=tokenizer)
    module: Any = model.get_submodule(UP[name].format(0))
    batch = placed(backbone)
    before = passed(backbone, batch)[0][0][..., 7].clone()
    module.weight[7] *= 2
    after = passed(backbone, batch)[0][0][..., 7]
    assert not torch.allclose(after, 2 * before, rtol=1e-3)  # twice the up-projection is twice the activation
    module.weight[7] /= 2
    other, row = (module, 7 + backbone.widths[0]) if name == "modernbert" else (_other(model, name), 7)
    other.weight[row] *= 2
    assert torch.allclose(passed(backbone, batch)[0][0][..., 7], 2 * before)


def _other(model: nn.Module, name: str) -> Any:
    paths = {"llama": "model.layers.0.mlp.up_proj", "t5-gated": "encoder.block.0.layer.1.DenseReluDense.wi_1"}
    return model.get_submodule(paths[name])


@pytest.mark.parametrize("name", FAMILIES)
def test_embeddings_go_through_the_models_projection(name: str) -> None:
    model, ids = backbone(name), torch.tensor([3, 9, 4])
    expected: Tensor = model.model.get_input_embeddings()(ids)
    if name in PROJECTION:
        expected = model.model.get_submodule(PROJECTION[name])(expected)
    assert torch.equal(input_embeddings(model, ids), expected)
    assert expected.shape[1] == input_weights(model, [(0, 0)]).shape[1]


def test_the_neuron_answers_to_its_weight() -> None:
    """A neuron's pre-activation grows by K @ d where its FFN's input grows by d."""
    model = backbone("opt-projected")
    weight = input_weights(model, [(1, 5)])[0]
    module: Any = model.model.get_submodule(UP["opt-projected"].format(1))
    step = torch.randn(len(weight), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grown = module(step) - module(torch.zeros_like(step))
    assert grown[5] == pytest.approx(float(weight @ step))


def test_an_ffn_without_an_up_projection_that_can_be_told_is_refused() -> None:
    model, tokenizer = fresh("llama")
    model.config.hidden_act = "linear"
    for layer in model.model.layers:
        layer.mlp.act_fn = nn.Identity()
    with pytest.raises(SkillNeuronsError, match=r"layer 0 of .* has 2 linear layers before .* of which 0 could"):
        input_weights(load_model(model, tokenizer=tokenizer), [(0, 1)])
    narrow, own = fresh("albert")
    loaded = load_model(narrow, tokenizer=own)
    narrow.albert.encoder.embedding_hidden_mapping_in = nn.Sequential(nn.Linear(16, 20), nn.Linear(20, 24))
    with pytest.raises(SkillNeuronsError, match=r"one linear layer from 16 to 24; .* has none"):
        input_embeddings(loaded, torch.tensor([1]))
