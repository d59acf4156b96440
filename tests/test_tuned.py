"""Adapters and BitFit: what they compute, what they leave alone, and that they are tuned as a plain loop would."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import skillneurons as sn
from skillneurons.models import load_model
from skillneurons.tuning import adapter, bitfit
from skillneurons.tuning import train as training
from skillneurons.tuning.config import AdapterConfig, BitFitConfig
from skillneurons.tuning.evaluate import evaluate_inputs
from skillneurons.tuning.tuned import Method, Tuned, evaluate_tuned, tune_weights

from .backbones import encoded, fresh, hooks, placed, without_dropout
from .families import FAMILIES, named
from .makings import easy, make

# where the attention of each family's blocks ends
ATTENTION = {
    "roberta": "roberta.encoder.layer.{}.attention.output.dense",
    "bert": "bert.encoder.layer.{}.attention.output.dense",
    "electra": "electra.encoder.layer.{}.attention.output.dense",
    "albert": "albert.encoder.albert_layer_groups.{}.albert_layers.0.attention.dense",
    "albert-groups": "albert.encoder.albert_layer_groups.{}.albert_layers.0.attention.dense",
    "deberta-v2": "deberta.encoder.layer.{}.attention.output.dense",
    "modernbert": "model.layers.{}.attn.Wo",
    "gpt2": "transformer.h.{}.attn.c_proj",
    "opt": "model.decoder.layers.{}.self_attn.out_proj",
    "opt-projected": "model.decoder.layers.{}.self_attn.out_proj",
    "llama": "model.layers.{}.self_attn.o_proj",
    "qwen2": "model.layers.{}.self_attn.o_proj",
    "qwen3": "model.layers.{}.self_attn.o_proj",
    "t5": "encoder.block.{}.layer.0.SelfAttention.o",
    "t5-gated": "encoder.block.{}.layer.0.SelfAttention.o",
    "bart": "model.encoder.layers.{}.self_attn.out_proj",
}
BIASED = [name for name in FAMILIES if name not in ("modernbert", "llama", "qwen3", "t5", "t5-gated")]
HOUSES = AdapterConfig(placement="houlsby", reduction=4)
METHODS: list[Method] = [AdapterConfig(reduction=4, lr=0.02), HOUSES, BitFitConfig(lr=0.01)]
SMALL: dict[str, Any] = {"trials": 1, "steps": 6, "batch": 5, "evaluate_every": 2}


def loaded(name: str = "bert", dtype: torch.dtype = torch.float32, dropout: bool = True) -> sn.Backbone:
    model, tokenizer = fresh(name)
    if not dropout:
        without_dropout(model)
    return load_model(model.to(dtype), tokenizer=tokenizer)


def unlike(tensors: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """Values of the same shapes that do something."""
    draw = torch.Generator().manual_seed(seed)
    return {name: torch.randn(own.shape, generator=draw).to(own.dtype) * 0.3 for name, own in tensors.items()}


def nowhere(model: sn.Backbone) -> Tensor:
    return torch.zeros(0, model.embedding_size)


def begun(model: sn.Backbone, method: Method) -> dict[str, Tensor]:
    return adapter.begin(model, method, 0) if isinstance(method, AdapterConfig) else bitfit.begin(model)


def bits(model: nn.Module) -> dict[str, Tensor]:
    return {name: own.detach().clone().view(torch.uint8) for name, own in model.state_dict().items()}


def same_bits(model: nn.Module, before: dict[str, Tensor]) -> bool:
    after = bits(model)
    return after.keys() == before.keys() and all(torch.equal(own, after[name]) for name, own in before.items())


def plain(model: Any, kind: str, tokenizer: Any, text: str) -> Tensor:
    """Logits at the answer token, no prompt, as anybody would call the library."""
    ids = tokenizer(text)["input_ids"]
    if kind == "masked":
        return model(input_ids=torch.tensor([[tokenizer.mask_token_id, *ids]])).logits[0, 0]
    if kind == "causal":
        return model(input_ids=torch.tensor([ids])).logits[0, -1]
    start = torch.tensor([[model.config.decoder_start_token_id]])
    return model(input_ids=torch.tensor([ids]), decoder_input_ids=start).logits[0, 0]


def inert(name: str, path: str) -> bool:
    """Biases that softmax does not see: of keys, and of the queries of a decoder that looks at its one token."""
    alone = name == "bart" and path.startswith("model.decoder.") and path.endswith("self_attn.q_proj.bias")
    return alone or path.endswith((".k_proj.bias", ".key.bias"))


class ByHand(nn.Module):
    """A linear layer and its adapter."""

    def __init__(self, inner: nn.Module, down: Tensor, down_bias: Tensor, up: Tensor, up_bias: Tensor) -> None:
        super().__init__()
        self.inner, self.parts = inner, [own.double() for own in (down, down_bias, up, up_bias)]

    @property
    def weight(self) -> Any:  # T5 looks at its dtype
        return self.inner.weight

    def forward(self, given: Tensor) -> Tensor:
        down, down_bias, up, up_bias = self.parts
        h = self.inner(given)
        return h + (h @ down.T + down_bias).clamp(min=0) @ up.T + up_bias


@pytest.mark.parametrize("placement", ["pfeiffer", "houlsby"])
@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_adapters_are_layers_put_behind_those_of_a_copy(name: str, placement: Any) -> None:
    model = loaded(name, torch.float64)
    config = AdapterConfig(placement=placement, reduction=5)
    tensors = unlike(adapter.begin(model, config, 0))
    modules = len(set(FAMILIES[name].sites))
    places = [*dict.fromkeys(FAMILIES[name].sites)]
    if placement == "houlsby":
        places += [ATTENTION[name].format(number) for number in range(modules)]
    assert sorted({key.rpartition(".")[0] for key in tensors}) == sorted(places)
    assert {own.shape for key, own in tensors.items() if key.endswith(".down")} == {(4, 24)}  # 24 / 5

    other = copy.deepcopy(model.model)
    for path in places:
        above, _, last = path.rpartition(".")
        own = [tensors[f"{path}.{part}"] for part in ("down", "down_bias", "up", "up_bias")]
        setattr(other.get_submodule(above), last, ByHand(other.get_submodule(path), *own))
    batch = placed(model, soft=nowhere(model))
    before = model.answer(batch)
    with adapter.inserted(model, tensors):
        found = model.answer(batch)
    texts = [" the film is bright and warm", " positive", " we won today"]
    expected = torch.stack([plain(other, model.kind, model.tokenizer, text) for text in texts])
    # an adapter computes in float32
    assert torch.allclose(found[:3], expected, atol=1e-4 * float(expected.abs().max()))
    assert (found - before).abs().max() > 0.01 * before.abs().max()
    assert torch.equal(model.answer(batch), before)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_a_new_adapter_changes_nothing_and_no_prompt_is_the_plain_model(name: str) -> None:
    model = loaded(name)
    batch = placed(model, soft=nowhere(model))
    before = model.answer(batch)
    with adapter.inserted(model, adapter.begin(model, HOUSES, 0)):
        assert torch.equal(model.answer(batch), before)
    for text, own in zip((" the film is bright and warm", " positive"), before, strict=False):
        expected = plain(model.model, model.kind, model.tokenizer, text)
        assert torch.allclose(own, expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", BIASED)
@torch.no_grad()
def test_other_biases_are_those_of_a_copy(name: str) -> None:
    model = loaded(name, torch.float64)
    before, parameters = bits(model.model), dict(model.model.named_parameters())
    tensors = unlike(bitfit.begin(model))
    assert all(parameters[path].ndim == 1 and path.endswith("bias") for path in tensors)
    other: Any = copy.deepcopy(model.model)
    own = dict(other.named_parameters())
    for path, value in tensors.items():
        own[path].copy_(value)
    batch = placed(model, soft=nowhere(model))
    with bitfit.replaced(model, tensors):
        found = model.answer(batch)
    expected = plain(other, model.kind, model.tokenizer, " the film is bright and warm")
    assert torch.allclose(found[0], expected, atol=1e-9)
    assert not torch.allclose(model.answer(batch), found, atol=1e-3)
    assert same_bits(model.model, before)
    assert all(parameters[path] is now for path, now in model.model.named_parameters())


@pytest.mark.parametrize("name", ["modernbert", "llama", "qwen3", "t5"])
def test_a_model_without_biases_is_told_so(name: str) -> None:
    with pytest.raises(sn.SkillNeuronsError, match=r"BitFit tunes biases; the layers of .* have none"):
        tune_weights(loaded(name), make("single"), BitFitConfig(), **SMALL)


class Killed(BaseException):
    """Not an error that anything would catch."""


@pytest.mark.parametrize("method", METHODS, ids=["pfeiffer", "houlsby", "bitfit"])
@pytest.mark.parametrize("name", ["roberta", "gpt2", "opt", "bart"])
def test_every_weight_stays_bit_for_bit(
    name: str, method: Method, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, task = loaded(name), make("single", train=12, dev=9, test=8)
    before, parameters = bits(model.model), dict(model.model.named_parameters())

    def untouched() -> bool:
        own = all(parameters[path] is now for path, now in model.model.named_parameters())
        frozen = not any(now.requires_grad or now.grad is not None for now in model.model.parameters())
        return own and frozen and same_bits(model.model, before) and not hooks(model.model) and not model.model.training

    [tuned] = tune_weights(model, task, method, **SMALL)
    assert untouched()
    started = {key: own.cpu() for key, own in begun(model, method).items()}
    assert all(not torch.equal(tuned.tensors[key], own) for key, own in started.items() if not inert(name, key))
    with pytest.raises(RuntimeError, match="mine"), tuned.applied(model), tuned.applied(model):
        assert not untouched()
        raise RuntimeError("mine")
    assert untouched()

    def fails(*_: object) -> Any:
        raise Killed

    monkeypatch.setattr(training, "evaluate_inputs", fails)
    with pytest.raises(Killed):
        tune_weights(model, task, method, out=tmp_path, **SMALL)
    assert untouched()


def test_a_changed_weight_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded()

    def careless(*given: Any) -> Any:
        found = training.fit(*given)
        with torch.no_grad():
            model.model.get_submodule(model.sites[0].path).weight[0, 0] += 1e-3  # type: ignore[operator, index]
        return found

    monkeypatch.setattr("skillneurons.tuning.tuned.fit", careless)
    with pytest.raises(AssertionError, match="adapter has changed weights"):
        tune_weights(model, make("single"), AdapterConfig(), **SMALL)


def loss_of(model: Any, backbone: sn.Backbone, task: sn.Task) -> Tensor:
    words = torch.tensor([word.token for word in backbone.label_words(task.words)])
    found = []
    for row in task.train.rows:
        logits = plain(model, backbone.kind, backbone.tokenizer, row["text"])[words]
        found.append(-logits.log_softmax(0)[row["label"]])
    return torch.stack(found).mean()


@pytest.mark.parametrize("name", ["bert", "gpt2", "bart"])
def test_a_plain_loop_tunes_the_same_biases(name: str) -> None:
    """The library's Adam on the biases of a copy, its gradient clipped by hand; a step sees all samples."""
    backbone, task = loaded(name, dropout=False), make("single", train=10, dev=8, test=4)
    steps, lr, clip = 4, 0.02, 0.5
    options: dict[str, Any] = {"trials": 1, "batch": 10, "epochs": steps, "evaluate_every": steps, "warmup": 0.0}
    [tuned] = tune_weights(backbone, task, BitFitConfig(lr=lr), clip=clip, **options)
    other = copy.deepcopy(backbone.model)
    own = dict(other.named_parameters())
    biases = [own[path].requires_grad_() for path in tuned.tensors]
    adam, seen = torch.optim.Adam(biases, lr=lr, betas=(0.9, 0.98), eps=1e-6), []
    for step in range(steps):
        adam.zero_grad()
        loss = loss_of(other, backbone, task)
        loss.backward()
        seen.append(loss.item())
        norm = float(torch.stack([bias.grad.norm() for bias in biases if bias.grad is not None]).norm())
        for bias in biases:
            if bias.grad is not None:
                bias.grad *= min(1.0, clip / norm)
        adam.param_groups[0]["lr"] = lr * min(1.0, (steps - step) / (steps - 1))
        adam.step()
    assert tuned.prompt.history[0].loss == pytest.approx(np.mean(seen), abs=1e-4)
    assert seen[-1] < seen[0]
    start = dict(backbone.model.named_parameters())
    for path, found in tuned.tensors.items():
        if inert(name, path):
            continue
        assert torch.allclose(found, own[path].detach(), atol=2e-3), path
        assert own[path].grad is None or not torch.allclose(found, start[path], atol=1e-3), path


@pytest.mark.parametrize("method", METHODS, ids=["pfeiffer", "houlsby", "bitfit"])
@pytest.mark.parametrize("name", ["bert", "opt", "bart"])
def test_what_can_be_learned_is(name: str, method: Method) -> None:
    model, task = loaded(name), easy()
    method = method.model_copy(update={"lr": 0.01})
    [tuned] = tune_weights(model, task, method, trials=1, steps=80, epochs=20, evaluate_every=20, batch=16)
    found = evaluate_tuned(model, task, tuned, "dev")
    assert found.accuracy == tuned.prompt.accuracy == max(point.accuracy for point in tuned.prompt.history) > 0.9
    assert tuned.prompt.positions == 0 and tuned.prompt.kind == "none" and tuned.prompt.lr == 0.01
    with tuned.applied(model), model.edit(sn.NeuronSet((), model.widths), sn.Zero()):
        assert sn.evaluate(model, task, tuned.prompt, "dev").accuracy == found.accuracy
    untuned = sn.evaluate(model, task, tuned.prompt, "dev")
    assert untuned.accuracy < found.accuracy


def test_neurons_are_edited_under_what_was_tuned() -> None:
    """Silenced neurons are zero columns of a copy's down-projections."""
    model, task = loaded("roberta"), make("three", test=20)
    [tuned] = tune_weights(model, task, METHODS[0], **SMALL)
    chosen = sn.NeuronSet(tuple((layer, neuron) for layer in range(3) for neuron in range(0, 44, 2)), model.widths)
    with torch.no_grad(), tuned.applied(model), model.edit(chosen, sn.Zero()):
        found = sn.evaluate(model, task, tuned.prompt)
        logits = model.answer(placed(model, soft=nowhere(model)))
    other = copy.deepcopy(model.model)
    with torch.no_grad():
        for path in FAMILIES["roberta"].sites:
            other.get_submodule(path).weight[:, ::2] = 0  # type: ignore[operator]
    cut = load_model(other, tokenizer=model.tokenizer)
    with torch.no_grad(), adapter.inserted(cut, tuned.tensors):
        assert torch.allclose(cut.answer(placed(cut, soft=nowhere(cut))), logits, atol=1e-5)
        assert sn.evaluate(cut, task, tuned.prompt).predicted.tolist() == found.predicted.tolist()


@pytest.mark.parametrize("method", METHODS[1:], ids=["houlsby", "bitfit"])
def test_killed_at_every_evaluation_it_ends_as_it_would_have(
    method: Method, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, task = loaded("opt"), make("three")
    options = SMALL | {"trials": 2, "steps": 7, "evaluate_every": 2}
    whole = tune_weights(model, task, method, out=tmp_path / "whole", **options)
    calls = kills = 0

    def killed(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Killed
        return evaluate_inputs(*given)

    monkeypatch.setattr(training, "evaluate_inputs", killed)
    while True:
        calls = 0
        try:
            broken = tune_weights(model, task, method, out=tmp_path / "broken", **options)
            break
        except Killed:
            kills += 1
    assert kills >= 6
    for one, other in zip(broken, whole, strict=True):
        assert one.prompt.record() == other.prompt.record() and one.tensors.keys() == other.tensors.keys()
        assert all(torch.equal(own, other.tensors[key]) for key, own in one.tensors.items())
    files = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "broken").iterdir()} == files
    assert sorted(files) == [f"{method.method}-{trial}.safetensors" for trial in (0, 1)]


def test_what_is_there_is_not_tuned_again_and_what_is_another_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, task = loaded(), make("single")
    first = tune_weights(model, task, METHODS[0], out=tmp_path, **SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(type(model.model), "forward", lambda *_, **__: pytest.fail("the model ran"))
        again = tune_weights(model, task, METHODS[0], out=tmp_path, **SMALL)
        config = sn.TuneConfig.make(positions=9, lr=0.5, **SMALL)  # of a run: what is a prompt's own says nothing
        assert tune_weights(model, task, METHODS[0], out=tmp_path, config=config)[0].identity == first[0].identity
    assert [own.prompt.record() for own in again] == [own.prompt.record() for own in first]
    [other] = tune_weights(model, task, METHODS[0], out=tmp_path, **SMALL | {"seed": 1})
    assert other.identity != first[0].identity
    assert any(not torch.equal(own, other.tensors[key]) for key, own in first[0].tensors.items())


def test_saved_and_loaded(tmp_path: Path) -> None:
    model, task = loaded(), make("single")
    for method in METHODS:
        [tuned] = tune_weights(model, task, method, **SMALL)
        tuned.save(tmp_path / "one.safetensors")
        found = Tuned.load(tmp_path / "one.safetensors")
        assert found.method == method and found.prompt.record() == tuned.prompt.record() and repr(found) == repr(tuned)
        one, other = (evaluate_tuned(model, task, own) for own in (found, tuned))
        assert one.predicted.tolist() == other.predicted.tolist()
    (tmp_path / "one.safetensors").write_bytes(b"rubbish")
    with pytest.raises(sn.SkillNeuronsError, match="truncated, or no tuned method's file"):
        Tuned.load(tmp_path / "one.safetensors")
    with pytest.raises(sn.SkillNeuronsError, match="there is no"):
        Tuned.load(tmp_path / "none")


def test_what_is_wrong_is_told() -> None:
    model, task = loaded(), make("single")
    [tuned] = tune_weights(model, task, METHODS[0], **SMALL)
    with pytest.raises(sn.SkillNeuronsError, match="adapter belongs to the model"), tuned.applied(loaded("roberta")):
        pass
    with pytest.raises(sn.SkillNeuronsError, match="bitfit has no prompt; positions, lr would say nothing"):
        tune_weights(model, task, BitFitConfig(), positions=3, lr=0.1, **SMALL)
    with pytest.raises(sn.SkillNeuronsError, match="lost them at step"):
        tune_weights(model, task, BitFitConfig(lr=1e30), **SMALL)
    with pytest.raises(sn.SkillNeuronsError, match="reduction"):
        AdapterConfig.make(reduction=0)


def test_no_positions_leave_as_much_room_as_there_is() -> None:
    for kind in ("masked", "causal"):
        model = loaded(named(kind)[0])
        assert model.longest is not None and model.room(0) == model.longest - (kind == "masked")
        ids, types = encoded(model)
        assert model.place(nowhere(model), ids, types).rows().max() == 1
