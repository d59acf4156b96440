"""Where the neurons are, what an edit of one changes, and that nothing stays hooked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from skillneurons import NeuronSet, Scale, SkillNeuronsError, Zero
from skillneurons.models import Backbone, attached, load_model

from .backbones import backbone, fresh, hooks, passed, placed
from .families import FAMILIES, REFUSED


def one(model: Backbone, layer: int, neuron: int = 7) -> NeuronSet:
    """The set of one neuron."""
    return NeuronSet(((layer, neuron),), model.widths)


def written(model: Backbone, name: str) -> list[Tensor]:
    """What the down-projections give in one pass, layer by layer, [batch, token, hidden]."""
    batch = placed(model)
    seen: list[Tensor] = []
    paths = dict.fromkeys(FAMILIES[name].sites)
    made = [
        model.model.get_submodule(path).register_forward_hook(lambda _module, _args, output: seen.append(output))
        for path in paths
    ]
    with torch.no_grad():
        replace(model, entrances=(), attending=()).answer(batch)  # of all tokens
    for hook in made:
        hook.remove()
    return [output.reshape(*batch.attention.shape, -1) for output in seen]


def column(module: Any, neuron: int) -> Tensor:
    """V_i of Eq. 2: what the FFN adds to the hidden state for each unit of the neuron's activation."""
    return module.weight[:, neuron] if isinstance(module, nn.Linear) else module.weight[neuron]


@pytest.mark.parametrize("name", FAMILIES)
def test_sites_are_found(name: str) -> None:
    family, model = FAMILIES[name], backbone(name)
    assert model.kind == family.kind
    assert tuple(site.path for site in model.sites) == family.sites
    assert [site.layer for site in model.sites] == list(range(family.layers))
    assert model.widths == (family.width,) * family.layers


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("layer", [0, -1], ids=["first", "last"])
def test_an_edit_of_one_neuron_changes_what_the_equation_says(name: str, layer: int) -> None:
    model = backbone(name)
    layer = range(model.layers)[layer]
    batch = placed(model)
    plain, before = passed(model, batch)[0], written(model, name)
    given: list[tuple[int, Tensor]] = []

    def edit(where: int, activations: Tensor) -> Tensor:
        given.append((where, activations))
        return 0.5 - 2 * activations

    with model.edit(one(model, layer), edit):
        after = written(model, name)

    assert [(where, own.shape) for where, own in given] == [(layer, (*batch.attention.shape, 1))]
    old = plain[layer][:, :, 7]
    assert torch.equal(given[0][1][:, :, 0], old)
    module = model.model.get_submodule(FAMILIES[name].sites[layer])
    expected = ((0.5 - 2 * old) - old).unsqueeze(-1) * column(module, 7)
    assert expected.abs().max() > 0.1
    # float64: nothing but the last bits of the sum over neurons
    torch.testing.assert_close(after[layer] - before[layer], expected, rtol=1e-10, atol=1e-10)
    assert all(torch.equal(one, other) for one, other in zip(before[:layer], after[:layer], strict=True))
    for later, untouched in zip(after[layer + 1 :], before[layer + 1 :], strict=True):
        assert not torch.equal(later, untouched)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_factor_of_one_and_an_empty_set_change_nothing(name: str) -> None:
    model = backbone(name)
    batch = placed(model)
    plain = passed(model, batch)[1]
    every = NeuronSet(tuple((layer, n) for layer, width in enumerate(model.widths) for n in range(width)), model.widths)
    with model.edit(every, Scale(1.0)):
        assert torch.equal(passed(model, batch)[1], plain)
    with model.edit(NeuronSet((), model.widths), Zero()):
        assert torch.equal(passed(model, batch)[1], plain)
    with model.edit(every, Zero()):
        layers, logits = passed(model, batch)
    assert not torch.equal(logits, plain)
    assert all(not own.any() for own in layers)
    assert torch.equal(passed(model, batch)[1], plain)


@pytest.mark.parametrize("name", FAMILIES)
def test_inside_an_edit_one_sees_what_it_made_and_around_it_what_was(name: str) -> None:
    model = backbone(name)
    last = model.layers - 1
    batch = placed(model)
    plain, _ = passed(model, batch)
    outside: dict[int, Tensor] = {}
    with (
        torch.no_grad(),
        model.observe(lambda layer, own: outside.__setitem__(layer, own.clone())),
        model.edit(one(model, last), Scale(3.0)),
    ):
        inside, _ = passed(model, batch)
    assert sorted(outside) == list(range(model.layers))
    for layer, own in enumerate(plain):
        assert torch.equal(outside[layer], own)
        expected = own.clone()
        expected[:, :, 7] *= 3.0 if layer == last else 1.0
        assert torch.equal(inside[layer], expected)


@pytest.mark.parametrize("name", ["albert", "opt", "t5"])
def test_edits_nest_the_inner_one_getting_what_the_outer_one_made(name: str) -> None:
    model = backbone(name)
    batch = placed(model)
    plain, _ = passed(model, batch)
    with model.edit(one(model, 1), lambda _, own: own + 1), model.edit(one(model, 1), Scale(2.0)):
        layers, _ = passed(model, batch)
    assert torch.equal(layers[1][:, :, 7], (plain[1][:, :, 7] + 1) * 2)
    assert torch.equal(layers[1][:, :, 8:], plain[1][:, :, 8:])


@pytest.mark.parametrize("name", ["gpt2", "opt"])
def test_a_watch_may_put_other_activations_in_place_however_they_lie_in_memory(name: str) -> None:
    model = backbone(name)
    batch = placed(model)
    with model.observe(lambda layer, own: torch.ones_like(own.mT.contiguous()).mT if layer else None):
        layers, _ = passed(model, batch)
    assert not (layers[0] == 1).all() and (layers[1] == 1).all()


class Unwelcome(Exception):
    pass


def raising(*_: Any) -> Any:
    raise Unwelcome


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("where", ["nowhere", "block", "watch", "edit", "model", "head"])
def test_nothing_stays_hooked(name: str, where: str) -> None:
    model = backbone(name)
    batch = placed(model)
    plain, logits = passed(model, batch)
    clean = hooks(model.model)
    last = model.model.get_submodule(model.sites[-1].path)
    broken = {"model": last, "head": model.model.get_output_embeddings()}.get(where)
    trap = broken.register_forward_hook(raising) if broken is not None else None
    counts: list[int] = []

    def use() -> None:
        with (
            model.edit(one(model, 0), raising if where == "edit" else Zero()),
            model.observe(raising if where == "watch" else lambda layer, own: counts.append(hooks(model.model))),
        ):
            model.answer(batch)
            model.read(batch)
            if where == "block":
                raise Unwelcome

    try:
        if where == "nowhere":
            use()
        else:
            with pytest.raises(Unwelcome):
                use()
    finally:
        if trap is not None:
            trap.remove()
    if where not in ("watch", "edit"):
        assert min(counts) > clean  # there were hooks to take away
    assert hooks(model.model) == clean
    again, same = passed(model, batch)
    assert torch.equal(same, logits)
    assert all(torch.equal(own, other) for own, other in zip(again, plain, strict=True))


def test_layers_that_share_a_module_are_counted_anew_after_a_pass_that_broke_off() -> None:
    model = backbone("albert")
    batch = placed(model)
    layers: list[int] = []

    def watch(layer: int, _: Tensor) -> None:
        layers.append(layer)
        if len(layers) == 2:
            raise Unwelcome

    with torch.no_grad(), model.observe(watch):
        with pytest.raises(Unwelcome):
            model.read(batch)
        model.read(batch)
        model.answer(batch)
        model.model(input_ids=torch.tensor([[2, 9, 3]]))
        model.model(torch.tensor([[2, 9, 3]]))
    assert layers == [0, 1, *[0, 1, 2] * 4]


def test_an_edit_that_returns_another_shape_is_told() -> None:
    model = backbone("bert")
    with model.edit(one(model, 1), lambda _, own: own[:, :2]), pytest.raises(SkillNeuronsError, match="edit returns"):
        model.read(placed(model))


def test_a_set_of_another_model_is_refused() -> None:
    model = backbone("bert")
    with pytest.raises(SkillNeuronsError, match=r"layers of \[44, 44, 44\] neurons, .* has \[44, 44\]"):
        model.edit(NeuronSet(((0, 0),), (44, 44, 44)), Zero())


def test_float32_inputs_of_a_half_precision_model_are_edited_in_their_own_dtype() -> None:
    model, tokenizer = fresh("t5")
    for block in model.half().encoder.block:
        block.layer[1].DenseReluDense.wo.float()  # as from_pretrained leaves them in float16
    half = load_model(model, tokenizer=tokenizer)
    batch = placed(half)
    with half.edit(one(half, 0), lambda _, own: (own * 0 + 2).double()):
        layers, logits = passed(half, batch)
    assert layers[0].dtype == torch.float32 and logits.dtype == torch.float16
    assert (layers[0][:, :, 7] == 2).all()


@pytest.mark.parametrize("name", REFUSED)
def test_experts_are_refused(name: str) -> None:
    model, tokenizer = fresh(name)
    with pytest.raises(SkillNeuronsError, match=r"mixture of experts.*Use a dense model"):
        load_model(model, tokenizer=tokenizer)


class Bilinear(nn.Module):
    """An up-projection that is no linear layer of the library's."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.weight = inner.weight

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden @ self.weight.T


def odd() -> tuple[Any, Any]:
    """A Llama whose up-projections are not what the search knows."""
    model, tokenizer = fresh("llama")
    for layer in model.model.layers:
        layer.mlp.up_proj = Bilinear(layer.mlp.up_proj)
        layer.mlp.gate_proj = Bilinear(layer.mlp.gate_proj)
    return model, tokenizer


def test_a_model_whose_ffns_are_not_found_is_refused_with_the_way_out() -> None:
    model, tokenizer = odd()
    with pytest.raises(SkillNeuronsError, match=r"LlamaForCausalLM has none .*sites="):
        load_model(model, tokenizer=tokenizer)


@pytest.mark.parametrize("pattern", ["model.layers.{layer}.mlp.down_proj", "layers.{layer}.mlp.down_proj"])
def test_sites_can_be_named(pattern: str) -> None:
    model, tokenizer = odd()
    named = load_model(model, tokenizer=tokenizer, sites=pattern)
    plain = load_model(*fresh("llama")[:1], tokenizer=tokenizer)
    assert named.sites == plain.sites
    for own, other in zip(passed(named, placed(named))[0], passed(plain, placed(plain))[0], strict=True):
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("model.layers.0.mlp.down_proj", r"must hold \{layer\}.*given: 'model.layers.0.mlp.down_proj'"),
        ("model.layers.{layer}.mlp.down", r"fits none of them.*model.layers.\{layer\}.mlp.down_proj"),
        ("layers.{layer}.mlp.*", "fits none of them"),
        ("model.layers.{layer}.mlp", "fits none of them"),
    ],
)
def test_a_pattern_that_names_nothing_is_told_what_there_is(pattern: str, told: str) -> None:
    model, tokenizer = fresh("llama")
    with pytest.raises(SkillNeuronsError, match=told):
        load_model(model, tokenizer=tokenizer, sites=pattern)


def test_a_pattern_in_an_encoder_decoder_means_the_encoder() -> None:
    model, tokenizer = fresh("bart")
    named = load_model(model, tokenizer=tokenizer, sites="layers.{layer}.fc2")
    assert [site.path for site in named.sites] == list(FAMILIES["bart"].sites)


class Chain(nn.Module):
    """An FFN whose layers stand in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(24, 44), nn.Linear(44, 24)])

    def forward(self, hidden: Tensor) -> Tensor:
        return self.layers[1](self.layers[0](hidden).relu())


def test_a_list_of_linear_layers_is_an_ffn_and_no_list_of_blocks() -> None:
    model, tokenizer = fresh("llama")
    with torch.random.fork_rng(devices=[]):
        for layer in model.model.layers:
            layer.mlp = Chain()
    found = load_model(model, tokenizer=tokenizer)
    assert [site.path for site in found.sites] == [f"model.layers.{layer}.mlp.layers.1" for layer in range(2)]


class HybridAttentionDecoderLayer(nn.Module):
    """A whole block with the attention in its name."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *args: Any, **options: Any) -> Any:
        return self.block(*args, **options)


def test_a_block_named_after_its_attention_has_its_ffn() -> None:
    model, tokenizer = fresh("gpt2")
    model.transformer.h = nn.ModuleList([HybridAttentionDecoderLayer(block) for block in model.transformer.h])
    found = load_model(model, tokenizer=tokenizer)
    assert [site.path for site in found.sites] == [f"transformer.h.{layer}.block.mlp.c_proj" for layer in range(2)]


class Parallel(nn.Module):
    """Two FFNs side by side."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, hidden: Tensor) -> Tensor:
        return self.first(hidden) + self.second(hidden)


def test_two_ffns_in_a_block_are_refused_until_one_is_named() -> None:
    model, tokenizer = fresh("llama")
    other, _ = fresh("llama", seed=1)
    for layer, more in zip(model.model.layers, other.model.layers, strict=True):
        layer.mlp = Parallel(layer.mlp, more.mlp)
    both = r"layers\.0: model.layers.0.mlp.first.down_proj and model.layers.0.mlp.second.down_proj.*sites="
    with pytest.raises(SkillNeuronsError, match=both):
        load_model(model, tokenizer=tokenizer)
    named = load_model(model, tokenizer=tokenizer, sites="layers.{layer}.mlp.second.down_proj")
    assert [site.path for site in named.sites] == [f"model.layers.{layer}.mlp.second.down_proj" for layer in range(2)]


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5-gated", "modernbert"])
def test_an_ffn_as_wide_as_the_model_is_no_riddle(name: str) -> None:
    small = fresh(name)[0].config
    options = {**small.to_dict(), "intermediate_size": 24, "n_inner": 24, "d_ff": 24}
    config = type(small)(**{key: value for key, value in options.items() if key != "torch_dtype"})
    model = type(fresh(name)[0])(config)
    found = load_model(model, tokenizer=fresh(name)[1])
    assert tuple(site.path for site in found.sites) == FAMILIES[name].sites
    assert set(found.widths) == {24}


def causal(kind: str, **options: Any) -> Any:
    config = AutoConfig.for_model(kind, vocab_size=504, **options)
    with torch.random.fork_rng(devices=[]):
        return AutoModelForCausalLM.from_config(config)


def test_a_state_space_model_has_no_ffn() -> None:
    model = causal("mamba", hidden_size=24, num_hidden_layers=2, state_size=4)
    with pytest.raises(SkillNeuronsError, match="MambaForCausalLM has none"):
        load_model(model, tokenizer=fresh("llama")[1])


def test_a_model_that_does_not_heed_padding_is_refused() -> None:
    # a BART decoder counts positions from the first token, padding or not
    model = causal("bart", is_decoder=True, is_encoder_decoder=False, d_model=24, decoder_layers=2, decoder_ffn_dim=44,
                   decoder_attention_heads=4)  # fmt: skip
    with pytest.raises(SkillNeuronsError, match="padding must change nothing; in BartForCausalLM"):
        load_model(model, tokenizer=fresh("bart")[1])


def test_an_ffn_that_sees_other_tokens_is_refused() -> None:
    model, tokenizer = fresh("bert")

    class Padded(nn.Module):
        def forward(self, hidden: Tensor) -> Tensor:
            return torch.cat([hidden, hidden], 1)

    model.bert.encoder.layer[0].intermediate = nn.Sequential(model.bert.encoder.layer[0].intermediate, Padded())
    with pytest.raises(SkillNeuronsError, match=r"given 2 tokens, saw a tensor of \[1, 4, 44\]"):
        load_model(model, tokenizer=tokenizer)


def test_activations_that_overflow_are_refused() -> None:
    model, tokenizer = fresh("bert")
    with torch.no_grad():
        model.bert.encoder.layer[1].intermediate.dense.weight.mul_(4e4)
    with pytest.raises(SkillNeuronsError, match=r"layer 1 of .* gives NaN or infinity in torch.float16.*float32"):
        load_model(model.half(), tokenizer=tokenizer)


def test_attached_serves_any_part_that_is_called() -> None:
    model = backbone("t5")
    seen: list[tuple[int, tuple[int, ...]]] = []
    watch: Callable[[int, Tensor], None] = lambda layer, own: seen.append((layer, tuple(own.shape)))  # noqa: E731
    encoder = model.model.get_encoder()
    with torch.no_grad(), attached([model.model, encoder], model.sites, watch):
        encoder(input_ids=torch.tensor([[5, 6, 7], [8, 9, 10]]))
    assert seen == [(layer, (2, 3, 44)) for layer in range(3)]
