"""A prompt frozen into keys and values: exact with a sample's own, the library's own cache, tuned, and nothing left."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import DynamicCache

import skillneurons as sn
from skillneurons.models import Batch, load_model
from skillneurons.pruning.cut import cut
from skillneurons.pruning.prefix import Prefix, frozen_prompt, means, tuned
from skillneurons.pruning.prefixed import Prefixed, prefixed
from skillneurons.tuning import train as training
from skillneurons.tuning.evaluate import evaluate_inputs
from skillneurons.tuning.inputs import Inputs
from skillneurons.tuning.prompt import Prompt, nothing

from .backbones import TEXTS, backbone, encoded, fresh, hooks, prompt
from .families import named
from .makings import easy, make

FAMILIES = [name for name in named("masked") if name != "deberta-v2"]
CACHED = ("bert", "roberta", "electra")  # encoders to which the library itself can give past keys and values
SMALL: dict[str, Any] = {"trials": 1, "steps": 6, "batch": 5, "evaluate_every": 2}
LEARNING: dict[str, Any] = {"lr": 0.1, "steps": 80, "epochs": 20, "evaluate_every": 20, "batch": 16}


def loaded(name: str = "bert", dtype: torch.dtype = torch.float32) -> sn.Backbone:
    model, tokenizer = fresh(name)
    return load_model(model.to(dtype), tokenizer=tokenizer)


def one(model: sn.Backbone, index: int) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """One of the texts, encoded."""
    ids, types = encoded(model)
    return ids[index : index + 1], None if types is None else types[index : index + 1]


def drawn(model: sn.Backbone, positions: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random keys and values of the shapes that a prompt's would have."""
    draw = torch.Generator().manual_seed(seed)
    shape = (model.layers, 4, positions, 6)
    keys, values = (torch.randn(shape, generator=draw, dtype=torch.float64) for _ in range(2))
    return keys, values


def untuned(model: sn.Backbone, task: sn.Task, positions: int = 5) -> Prompt:
    [own] = sn.tune(model, task, prompt="random", trials=1, positions=positions, init_std="auto")
    return own


def close(found: Tensor, expected: Tensor, share: float) -> bool:
    return bool((found - expected).abs().max() <= share * expected.abs().max())


@pytest.mark.parametrize("positions", [1, 5, 20])  # the last is longer than ModernBERT's windows reach
@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_a_samples_own_keys_and_values_change_nothing(name: str, positions: int) -> None:
    model = backbone(name)
    for index in range(len(TEXTS)):
        whole = model.place(prompt(model, positions), *one(model, index))
        expected = model.answer(whole)
        inside = prefixed(model, *means(model, [whole]))
        alone = inside.place(nothing(model), *one(model, index))
        assert alone.embeddings.shape[1] == whole.embeddings.shape[1] - positions
        assert close(inside.answer(alone), expected, 1e-5)
        other = prefixed(model, *drawn(model, positions))
        assert not close(other.answer(alone), expected, 1e-2)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_a_batch_with_padding_is_its_samples_one_by_one(name: str) -> None:
    model = backbone(name)
    inside = prefixed(model, *drawn(model))
    together = inside.answer(inside.place(nothing(model), *encoded(model)))
    alone = torch.cat([inside.answer(inside.place(nothing(model), *one(model, index))) for index in range(len(TEXTS))])
    assert close(together, alone, 1e-12)


@pytest.mark.parametrize("name", CACHED)
@torch.no_grad()
def test_constants_are_what_the_library_calls_past_keys_and_values(name: str) -> None:
    model = backbone(name)
    keys, values = drawn(model)
    inside = prefixed(model, keys, values)
    batch = inside.place(nothing(model), *encoded(model))
    samples, tokens = batch.attention.shape
    cache = DynamicCache()
    for layer in range(model.layers):
        cache.update(keys[layer].expand(samples, -1, -1, -1), values[layer].expand(samples, -1, -1, -1), layer)
    first = model.model.config.pad_token_id + 1 if name == "roberta" else 0
    places = torch.tensor([first, *range(first + 6, first + 5 + tokens)]).expand(samples, -1)
    extra = {key: own for key, own in batch.extra.items() if key == "token_type_ids"}
    expected = model.model(
        inputs_embeds=batch.embeddings, position_ids=places, past_key_values=cache, **extra,
        attention_mask=torch.cat([torch.ones(samples, 5, dtype=torch.long), batch.attention], 1),
    ).logits[:, 0]  # fmt: skip
    assert close(inside.answer(batch), expected, 1e-12)


@pytest.mark.parametrize(
    ("name", "attention"),
    [
        ("roberta", "roberta.encoder.layer.{}.attention.self"),
        ("electra", "electra.encoder.layer.{}.attention.self"),
    ],
)
def test_they_are_means_over_train(name: str, attention: str) -> None:
    model, task = loaded(name, torch.float64), make("pair", train=23, dev=9, test=5)
    own = untuned(model, task)
    prefix = frozen_prompt(model, task, own)
    library: Any = model.model
    inputs = Inputs.beside(model, task, own)
    seen: dict[tuple[int, str], list[Tensor]] = {}

    def keep(layer: int, which: str, output: Tensor) -> None:
        heads = output[0, 1:6].unflatten(-1, (4, 6)).transpose(0, 1)
        seen.setdefault((layer, which), []).append(heads)

    handles = [
        library.get_submodule(f"{attention.format(layer)}.{which}").register_forward_hook(
            lambda _module, _args, output, layer=layer, which=which: keep(layer, which, output)
        )
        for layer in range(model.layers)
        for which in ("key", "value")
    ]
    for sample in range(23):
        model.answer(inputs.batch("train", [sample], own.embedding))
    for handle in handles:
        handle.remove()
    for layer in range(model.layers):
        for which, found in (("key", prefix.keys), ("value", prefix.values)):
            assert torch.allclose(found[layer].double(), torch.stack(seen[layer, which]).mean(0), atol=1e-6)
    assert prefix.keys.dtype == torch.float32 and prefix.prompt.positions == 0 and prefix.prompt.kind == "none"
    found_dev = sn.evaluate(prefix.applied(model), task, prefix.prompt, "dev")
    assert found_dev.accuracy == prefix.prompt.accuracy


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_reach_every_key_and_value(name: str) -> None:
    """The slope along a random direction, against the difference of two losses."""
    model = backbone(name)
    both = tuple(own.requires_grad_() for own in drawn(model))
    aims = drawn(model, seed=1)

    def loss(keys: Tensor, values: Tensor) -> Tensor:
        inside = prefixed(model, keys, values)
        return inside.answer(inside.place(nothing(model), *encoded(model))).log_softmax(-1)[:, 7].sum()

    loss(*both).backward()
    slope = 0.0
    for own, aim in zip(both, aims, strict=True):
        assert own.grad is not None and bool((own.grad.abs().amax((1, 3)) > 0).all())  # of every layer and position
        slope += float((own.grad * aim).sum())
    with torch.no_grad():
        ends = [
            float(loss(*(own + sign * 1e-3 * aim for own, aim in zip(both, aims, strict=True)))) for sign in (1, -1)
        ]
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=1e-3)  # ModernBERT turns queries in float32


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_nothing_stays_behind(name: str) -> None:
    model = loaded(name)
    before = model.model.config._attn_implementation
    whole = model.place(prompt(model), *encoded(model))
    expected = model.answer(whole)
    inside = prefixed(model, *drawn(model))
    alone = inside.place(nothing(model), *encoded(model))

    def fails(layer: int, activations: Tensor) -> None:
        assert activations.shape[1] == alone.embeddings.shape[1]
        raise RuntimeError("mine")

    def left_as_it_was() -> bool:
        same = model.model.config._attn_implementation == before and torch.equal(model.answer(whole), expected)
        return same and not hooks(model.model)

    inside.answer(alone)
    assert left_as_it_was()
    with pytest.raises(RuntimeError, match="mine"), inside.observe(fails):
        inside.answer(alone)
    assert left_as_it_was()
    with pytest.raises(sn.SkillNeuronsError, match="has its prompt inside, 5 positions of it"):
        inside.answer(inside.place(prompt(model, 2), *encoded(model)))
    assert left_as_it_was()


def test_there_is_as_much_room_as_beside_the_prompt() -> None:
    model = backbone("bert")
    assert prefixed(model, *drawn(model)).room(0) == model.room(5)


@torch.no_grad()
def test_neurons_are_watched_and_edited_as_in_any_backbone() -> None:
    """Silenced neurons are zero columns of a copy's down-projections."""
    model = loaded("roberta")
    constants = drawn(model)
    inside = prefixed(model, *constants)
    batch = inside.place(nothing(model), *encoded(model))
    chosen = sn.NeuronSet(tuple((layer, neuron) for layer in range(3) for neuron in range(0, 44, 2)), model.widths)
    with inside.edit(chosen, sn.Zero()):
        found = inside.answer(batch)
    other = copy.deepcopy(model.model)
    for site in model.sites:
        other.get_submodule(site.path).weight[:, ::2] = 0  # type: ignore[operator]
    silent = prefixed(replace(model, model=other), *constants)
    assert close(found, silent.answer(batch), 1e-5)


@torch.no_grad()
def test_a_cut_model_with_its_prompt_frozen() -> None:
    """A bias for every position: of those the answer's and the input's are left in use."""
    model = backbone("roberta")
    kept = sn.NeuronSet(tuple((layer, neuron) for layer in (1, 2) for neuron in range(0, 44, 5)), model.widths)
    draw = torch.Generator().manual_seed(0)
    rows = [torch.randn(7, 44, generator=draw) for _ in range(3)]
    small = cut(model, kept, (1, 2), rows, one=False)
    whole = small.place(prompt(model), *one(model, 0))
    inside = prefixed(small, *means(small, [whole]))
    alone = inside.place(nothing(model), *one(model, 0))
    assert close(inside.answer(alone), small.answer(whole), 1e-5)
    frozen = sn.NeuronSet(
        tuple((layer, neuron) for layer in (1, 2) for neuron in range(44) if neuron % 5), model.widths
    )
    dense = prefixed(model, inside.keys, inside.values)
    with dense.edit(frozen, sn.Baseline([own[-2:] for own in rows])):
        assert close(inside.answer(alone), dense.answer(alone), 1e-5)


class Exported(nn.Module):
    """Token ids and attention of inputs to logits."""

    def __init__(self, inside: Prefixed) -> None:
        super().__init__()
        self.model, self.inside = inside.model, inside

    def forward(self, ids: Tensor, there: Tensor) -> Tensor:
        mask = torch.full_like(ids[:, :1], self.inside.tokenizer.mask_token_id)
        attention = torch.cat([torch.ones_like(mask), there], 1)
        embeddings = self.inside.embed(torch.cat([mask, ids], 1))
        return self.inside.answer(Batch(embeddings, attention, attention.bool(), slice(1, 1), 0, {}))


@pytest.mark.parametrize("name", ["roberta", "modernbert"])
@torch.no_grad()
def test_it_can_be_traced_for_any_number_of_samples_and_tokens(name: str) -> None:
    model = backbone(name)
    inside = prefixed(model, *drawn(model))
    ids, there = torch.randint(5, 40, (3, 11)), torch.ones(3, 11, dtype=torch.long)
    samples, tokens = torch.export.Dim("samples"), torch.export.Dim("tokens", min=2, max=60)
    sizes = {0: samples, 1: tokens}
    traced = torch.export.export(Exported(inside), (ids, there), dynamic_shapes=(sizes, sizes), strict=False)
    rows, _ = encoded(model)
    batch = inside.place(nothing(model), rows)
    padded = torch.zeros(batch.inputs[:, 1:].shape, dtype=torch.long)
    padded[batch.inputs[:, 1:]] = torch.from_numpy(np.concatenate(rows))
    found = traced.module()(padded, batch.attention[:, 1:].clone())
    assert close(found, inside.answer(batch), 1e-12)


def bits(model: nn.Module) -> dict[str, Tensor]:
    return {name: own.detach().clone().view(torch.uint8) for name, own in model.state_dict().items()}


@pytest.mark.parametrize("name", ["bert", "albert", "modernbert"])
def test_what_can_be_learned_is(name: str) -> None:
    model, task = loaded(name), easy()
    start = frozen_prompt(model, task, untuned(model, task, 4))
    before = bits(model.model)
    found = tuned(model, task, start, **LEARNING)
    assert start.prompt.accuracy < 0.9 < found.prompt.accuracy == max(own.accuracy for own in found.prompt.history)
    assert sn.evaluate(found.applied(model), task, found.prompt, "dev").accuracy == found.prompt.accuracy
    assert not torch.equal(found.keys, start.keys) and not torch.equal(found.values, start.values)
    after = bits(model.model)
    assert all(torch.equal(own, after[path]) for path, own in before.items())
    assert not any(own.requires_grad or own.grad is not None for own in model.model.parameters())


def test_its_start_is_kept_where_nothing_is_as_good() -> None:
    model, task = loaded(), easy()
    good = tuned(model, task, frozen_prompt(model, task, untuned(model, task, 4)), **LEARNING)
    worse = tuned(model, task, good, lr=5.0, **SMALL)
    assert torch.equal(worse.keys, good.keys) and worse.prompt.record() == good.prompt.record()


def test_the_rate_goes_with_the_size_of_keys_and_values() -> None:
    model, task = loaded(), make("single")
    start = frozen_prompt(model, task, untuned(model, task))
    size = float(torch.cat([start.keys.flatten(), start.values.flatten()]).square().mean().sqrt())
    record = tuned(model, task, replace(start, prompt=replace(start.prompt, accuracy=0.0)), **SMALL).prompt.record()
    assert record["lr"] == pytest.approx(0.01 * size) and len(record["history"]) == 3


class Killed(BaseException):
    """Not an error that anything would catch."""


def test_killed_at_every_evaluation_it_ends_as_it_would_have(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, task = loaded("roberta"), make("three")
    start = frozen_prompt(model, task, untuned(model, task))
    options = SMALL | {"steps": 7}
    whole = tuned(model, task, start, out=tmp_path / "whole.safetensors", **options)
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
            broken = tuned(model, task, start, out=tmp_path / "broken.safetensors", **options)
            break
        except Killed:
            kills += 1
    assert kills >= 3
    assert torch.equal(broken.keys, whole.keys) and torch.equal(broken.values, whole.values)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(files) == ["broken.safetensors", "whole.safetensors"]
    assert files["broken.safetensors"] == files["whole.safetensors"]
    with monkeypatch.context() as patch:
        patch.setattr(type(model.model), "forward", lambda *_, **__: pytest.fail("the model ran"))
        again = tuned(model, task, start, out=tmp_path / "whole.safetensors", **options)
    assert again.identity == whole.identity and torch.equal(again.keys, whole.keys)
    monkeypatch.undo()
    other = tuned(model, task, start, out=tmp_path / "whole.safetensors", **options | {"seed": 1})
    assert other.identity != whole.identity


def test_saved_and_loaded(tmp_path: Path) -> None:
    model, task = loaded(), make("pair")
    prefix = frozen_prompt(model, task, untuned(model, task))
    prefix.save(tmp_path / "one.safetensors")
    found = Prefix.load(tmp_path / "one.safetensors")
    assert repr(found) == repr(prefix) and found.prompt.record() == prefix.prompt.record()
    ours, theirs = (sn.evaluate(own.applied(model), task, own.prompt) for own in (prefix, found))
    assert ours.predicted.tolist() == theirs.predicted.tolist()
    (tmp_path / "one.safetensors").write_bytes(b"rubbish")
    with pytest.raises(sn.SkillNeuronsError, match="truncated, or not what"):
        Prefix.load(tmp_path / "one.safetensors")
    with pytest.raises(sn.SkillNeuronsError, match="is missing"):
        Prefix.load(tmp_path / "none")


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_other_layouts_are_refused(name: str) -> None:
    model, task = loaded(name), make("single")
    with pytest.raises(sn.SkillNeuronsError, match=f"masked model's prompt can be frozen.* is {model.kind}"):
        frozen_prompt(model, task, untuned(model, task))


def test_an_attention_of_its_own_is_refused() -> None:
    model, task = loaded("deberta-v2"), make("single")
    with pytest.raises(sn.SkillNeuronsError, match=r"\(deberta-v2\) has one of its own"):
        frozen_prompt(model, task, untuned(model, task))


def test_a_model_that_counts_positions_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, task = loaded(), make("single")
    own, embeddings = untuned(model, task), model.model.get_submodule("bert.embeddings")
    whole = embeddings.forward
    monkeypatch.setattr(embeddings, "forward", lambda **given: whole(**given | {"position_ids": None}))
    with pytest.raises(sn.SkillNeuronsError, match=r"must answer as before; .* does not"):
        frozen_prompt(model, task, own)


def test_what_is_wrong_is_told() -> None:
    model, task = loaded(), make("single")
    prefix = frozen_prompt(model, task, untuned(model, task))
    with pytest.raises(sn.SkillNeuronsError, match="keys and values belong to the model"):
        prefix.applied(loaded("roberta"))
    with pytest.raises(sn.SkillNeuronsError, match="frozen already; positions, init_std would say nothing"):
        tuned(model, task, prefix, positions=3, init_std=0.1)
    assert isinstance(prefix.applied(model), Prefixed)
