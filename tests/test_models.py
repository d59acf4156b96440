"""Backbones of every family: prompt, input and answer token are where the library itself would have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skillneurons import SkillNeuronsError
from skillneurons.models import Backbone, load_model

from .backbones import PAIRS, PROMPT, TEXTS, backbone, encoded, fresh, passed, placed, prompt
from .families import FAMILIES, POSITIONS, named

HARD = " it is bright and cold"  # as many tokens as PROMPT to every tokenizer


def close(one: Tensor, other: Tensor) -> None:
    """Equal, in float64, but for the order in which sums are taken, which batches and padding change."""
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def by_hand(model: Backbone, sites: tuple[str, ...], texts: Any) -> tuple[list[Tensor], Tensor]:
    """What the library makes of token ids laid out by hand: activations at a hard prompt, logits at the answer token.

    Padding stands at the end, as is the library's habit, also where the backbone has it at the beginning.
    """
    hard = model.tokenizer.encode(HARD, add_special_tokens=False)
    before = {"masked": [model.tokenizer.mask_token_id, *hard], "causal": [], "encoder-decoder": hard}[model.kind]
    after = hard if model.kind == "causal" else []
    rows = [model.tokenizer(*([text] if isinstance(text, str) else text)) for text in texts]
    ids = [[*before, *row["input_ids"], *after] for row in rows]
    longest, pad = max(map(len, ids)), model.tokenizer.pad_token_id or 0
    given = {
        "input_ids": [row + [pad] * (longest - len(row)) for row in ids],
        "attention_mask": [[1] * len(row) + [0] * (longest - len(row)) for row in ids],
    }
    if "token_type_ids" in model.tokenizer.model_input_names:
        types = [[0] * len(before) + row["token_type_ids"] for row in rows]
        given["token_type_ids"] = [row + [0] * (longest - len(row)) for row in types]
    if model.kind == "encoder-decoder":
        given["decoder_input_ids"] = [[model.model.config.decoder_start_token_id]] * len(rows)
    seen: list[Tensor] = []
    made = [
        model.model.get_submodule(path).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        for path in dict.fromkeys(sites)
    ]
    with torch.no_grad():
        logits = model.model(**{name: torch.tensor(value) for name, value in given.items()}).logits
    for hook in made:
        hook.remove()
    end = [len(row) if after else len(before) for row in ids]
    layers = [torch.stack([own[i, at - len(hard) : at] for i, at in enumerate(end)]) for own in _unfolded(seen, rows)]
    answer = [len(row) - 1 if after else 0 for row in ids]
    return layers, logits[range(len(ids)), answer]


def _unfolded(layers: list[Tensor], rows: list[Any]) -> list[Tensor]:
    return [layer.reshape(len(rows), -1, layer.shape[-1]) for layer in layers]


@pytest.mark.parametrize("texts", [TEXTS, PAIRS], ids=["single", "pairs"])
@pytest.mark.parametrize("name", FAMILIES)
def test_equals_the_library_given_token_ids(name: str, texts: Any) -> None:
    model = backbone(name)
    hard = model.embed(torch.tensor(model.tokenizer.encode(HARD, add_special_tokens=False)))
    assert len(hard) == PROMPT
    batch = placed(model, texts, hard)

    layers, logits = passed(model, batch)

    expected, expected_logits = by_hand(model, FAMILIES[name].sites, texts)
    assert len(layers) == len(expected) == FAMILIES[name].layers
    for own, other in zip(layers, expected, strict=True):
        close(own[:, batch.prompt], other)
    close(logits, expected_logits)
    assert float(logits.std()) > 0.05  # there is something to compare


@pytest.mark.parametrize("texts", [TEXTS, PAIRS], ids=["single", "pairs"])
@pytest.mark.parametrize("name", FAMILIES)
def test_batched_equals_one_by_one(name: str, texts: Any) -> None:
    model = backbone(name)
    batch = placed(model, texts)
    layers, logits = passed(model, batch)
    for index, text in enumerate(texts):
        one = placed(model, [text])
        own, own_logits = passed(model, one)
        for together, alone in zip(layers, own, strict=True):
            close(together[index, batch.prompt], alone[0, one.prompt])
            close(together[index, batch.inputs[index]], alone[0, one.inputs[0]])
        close(logits[index], own_logits[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_half_the_work_gives_the_same_activations(name: str) -> None:
    model = backbone(name)
    batch = placed(model)
    whole, _ = passed(model, batch)
    read: list[Tensor] = []
    ran: list[str] = []
    head = model.model.get_output_embeddings()
    parts = {"head": head, **({"decoder": model.model.get_decoder()} if model.kind == "encoder-decoder" else {})}
    made = [part.register_forward_hook(lambda *_, name=name: ran.append(name)) for name, part in parts.items()]
    with torch.no_grad(), model.observe(lambda layer, activations: read.append(activations.clone())):
        model.read(batch)
    for hook in made:
        hook.remove()
    assert ran == []
    assert all(torch.equal(one, other) for one, other in zip(read, whole, strict=True))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_head_runs_at_the_answer_token_alone(name: str) -> None:
    model = backbone(name)
    tokens: list[int] = []
    head = model.model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, args: tokens.append(args[0].numel() // args[0].shape[-1]))
    with torch.no_grad():
        logits = model.answer(placed(model))
    hook.remove()
    assert tokens == [len(TEXTS)]
    assert logits.shape == (len(TEXTS), head.weight.shape[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_gradient_flows_to_the_prompt_alone(name: str) -> None:
    model = backbone(name)
    soft = prompt(model).requires_grad_()
    model.answer(placed(model, soft=soft)).pow(2).mean().backward()
    assert soft.grad is not None and soft.grad.isfinite().all()
    assert (soft.grad.abs().sum(1) > 0).all()  # every position counts
    assert not model.model.training
    assert [path for path, own in model.model.named_parameters() if own.requires_grad or own.grad is not None] == []


@pytest.mark.parametrize("name", FAMILIES)
def test_places_are_where_they_are_said_to_be(name: str) -> None:
    model = backbone(name)
    soft = prompt(model)
    inputs, types = encoded(model)
    batch = model.place(soft, inputs, types)
    assert len(batch) == len(TEXTS)
    longest = max(map(len, inputs))
    assert batch.embeddings.shape[:2] == batch.attention.shape == batch.inputs.shape
    assert batch.attention.shape[1] == longest + PROMPT + (model.kind == "masked")
    for index, row in enumerate(inputs):
        assert torch.equal(batch.embeddings[index, batch.prompt], soft.to(batch.embeddings.dtype))
        assert torch.equal(batch.embeddings[index, batch.inputs[index]], model.embed(torch.tensor(row)))
        assert int(batch.attention[index].sum()) == len(row) + PROMPT + (model.kind == "masked")
        if types is not None and name != "deberta-v2":  # has no embeddings for them
            assert batch.extra["token_type_ids"][index, batch.inputs[index]].tolist() == types[index].tolist()
            assert int(batch.extra["token_type_ids"][index].sum()) == int(types[index].sum())
    if model.kind == "masked":
        mask = model.embed(torch.tensor(model.tokenizer.mask_token_id))
        assert batch.answer == 0
        assert all(torch.equal(own, mask) for own in batch.embeddings[:, 0])
    else:
        if model.kind == "causal":  # nothing between an input and the prompt
            assert all(
                own[batch.prompt.start - len(row) : batch.prompt.start].all()
                for own, row in zip(batch.inputs, inputs, strict=True)
            )
        last = batch.prompt.stop - 1
        assert batch.answer == (last if model.kind == "causal" else None)


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
def test_empty_inputs_are_possible(name: str) -> None:
    model = backbone(name)
    nothing = np.array([], dtype=np.int64)
    batch = model.place(prompt(model), [nothing, nothing])
    layers, logits = passed(model, batch)
    assert not batch.inputs.any()
    assert logits.isfinite().all() and all(own[:, batch.prompt].isfinite().all() for own in layers)
    close(logits[0], logits[1])


@pytest.mark.parametrize("name", FAMILIES)
def test_the_longest_sequence_fits_and_one_more_does_not(name: str) -> None:
    model = backbone(name)
    if name.startswith("t5"):  # positions are differences: nothing is bounded
        assert model.longest is None and model.room(10**6) is None
        return
    assert model.longest == POSITIONS
    room = model.room(PROMPT)
    assert room is not None
    full = model.place(prompt(model), [np.full(room, 9)])
    assert full.attention.shape[1] == POSITIONS
    assert passed(model, full)[1].isfinite().all()
    if [path for path, _ in model.model.named_parameters() if "position_emb" in path or "wpe" in path]:
        with pytest.raises((IndexError, RuntimeError)):
            model.read(model.place(prompt(model), [np.full(room + 1, 9)]))


@pytest.mark.parametrize("name", ["roberta", "gpt2", "bart"])
def test_a_prompt_that_leaves_no_room_is_refused_with_the_most_that_fits(name: str) -> None:
    model = backbone(name)
    with pytest.raises(SkillNeuronsError, match=f"168 tokens of .*prompt of {POSITIONS} leaves 0") as caught:
        model.room(POSITIONS)
    most = int(str(caught.value).rsplit(" ", 1)[1].rstrip("."))
    assert model.room(most) == model.tokenizer.num_special_tokens_to_add(pair=True) + 2
    with pytest.raises(SkillNeuronsError, match=f"--positions {most}"):
        model.room(most + 1)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_size_of_embeddings_is_that_of_what_the_model_takes(name: str) -> None:
    model = backbone(name)
    table: Any = model.model.get_input_embeddings()
    every = model.embed(torch.arange(len(table.weight)))
    assert model.embedding_size == every.shape[1]
    assert model.embedding_scale == pytest.approx(float(every.pow(2).mean().sqrt()), rel=1e-9)


def test_embeddings_that_the_model_scales_are_scaled_once() -> None:
    model, tokenizer = fresh("bart")
    plain = load_model(model, tokenizer=tokenizer)
    scaled_model, _ = fresh("bart")
    for module in scaled_model.modules():
        if hasattr(module, "embed_scale"):
            module.embed_scale = 3.0
    scaled = load_model(scaled_model, tokenizer=tokenizer)
    assert scaled.embedding_scale == pytest.approx(3 * plain.embedding_scale, rel=1e-5)
    ids = torch.tensor([7, 8, 9])
    torch.testing.assert_close(scaled.embed(ids), 3 * plain.embed(ids))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("name", [named("masked")[1], "opt", "llama", "t5", "bart"])
def test_half_precision_gives_about_the_same(name: str, dtype: torch.dtype) -> None:
    exact, half = backbone(name), backbone(name, dtype)
    batch = placed(half)
    layers, logits = passed(half, batch)
    expected, _ = passed(exact, placed(exact))
    assert batch.embeddings.dtype == logits.dtype == dtype
    size = float(expected[0].abs().max())
    # eight bits of mantissa, a few layers
    torch.testing.assert_close(
        layers[0][:, batch.prompt].double(), expected[0][:, batch.prompt], rtol=0, atol=0.05 * size
    )


def test_a_backbone_tells_what_it_is() -> None:
    model = backbone("albert-groups")
    assert (model.layers, model.widths, model.neurons) == (4, (44,) * 4, 176)
    assert repr(model) == "Backbone(AlbertForMaskedLM: masked, 4 layers, 176 neurons)"
    assert model.device == torch.device("cpu")
    assert isinstance(model.stack, nn.Module)


def test_a_decoder_without_a_first_token_is_refused() -> None:
    model, tokenizer = fresh("t5")
    model.config.decoder_start_token_id = None
    model.generation_config.decoder_start_token_id = None
    with pytest.raises(SkillNeuronsError, match=r"decoder starts.*decoder_start_token_id in its config\.json"):
        load_model(model, tokenizer=tokenizer)
