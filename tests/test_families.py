"""The tiny models are what the other tests take them for: deterministic, visible, saved and loaded whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from .families import FAMILIES, LABELS, POSITIONS, REFUSED, WORDS, named, save_tiny, sentences, tiny

AUTO = {
    "masked": transformers.AutoModelForMaskedLM,
    "causal": transformers.AutoModelForCausalLM,
    "encoder-decoder": transformers.AutoModelForSeq2SeqLM,
}
LAYOUT = {
    "roberta": "<s> negative </s> </s> positive </s>",
    "modernbert": "[CLS] negative [SEP] positive [SEP]",
    "opt": "</s> negative </s> positive",
    "opt-projected": "</s> negative </s> positive",
    "llama": "<s> negative <s> positive",
    "t5": "negative </s> positive </s>",
    "t5-gated": "negative </s> positive </s>",
    "bart": "<s> negative </s> </s> positive </s>",
    **dict.fromkeys(
        ["bert", "electra", "albert", "albert-groups", "deberta-v2"], "[CLS] negative [SEP] positive [SEP]"
    ),
    **dict.fromkeys(["gpt2", "qwen2", "qwen3"], "negative positive"),
}
SPACED = ["gpt2", "opt", "opt-projected", "qwen2", "qwen3"]  # a label word needs the space before it
EVERY = [*FAMILIES, *REFUSED]


def logits(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """The library's own logits, [token, vocabulary], the decoder being fed its start token alone."""
    more: dict[str, Any] = {}
    if model.config.is_encoder_decoder:
        more["decoder_input_ids"] = torch.full((1, 1), model.config.decoder_start_token_id)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), **more).logits[0]


def encode(tokenizer: PreTrainedTokenizerFast, text: str) -> Tensor:
    return tokenizer(text, return_tensors="pt")["input_ids"]


@pytest.mark.parametrize("name", EVERY)
def test_the_seed_alone_decides_the_weights(name: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, _ = tiny(name, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    again, other = tiny(name, seed=3)[0], tiny(name, seed=4)[0]
    assert not first.training
    for (path, weight), same, different in zip(
        first.named_parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(weight, same), path
        assert not torch.equal(weight, different), path


@pytest.mark.parametrize("name", EVERY)
def test_outputs_differ_visibly_and_are_finite(name: str) -> None:
    model, tokenizer = tiny(name)
    one, two = (logits(model, encode(tokenizer, f"the film is {word}"))[-1] for word in ("negative", "positive"))
    assert one.isfinite().all()
    assert one.std() > 0.05
    assert (one - two).abs().max() > 0.05


@pytest.mark.parametrize("name", FAMILIES)
def test_sites_are_called_in_the_order_of_the_layers(name: str) -> None:
    family = FAMILIES[name]
    model, tokenizer = tiny(name)
    ids = encode(tokenizer, "the film is bright")
    called: list[str] = []

    def watch(path: str) -> None:
        def hook(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            called.append(path)
            assert given[0].numel() == ids.numel() * family.width

        model.get_submodule(path).register_forward_pre_hook(hook)

    for path in dict.fromkeys(family.sites):
        watch(path)
    logits(model, ids)
    assert called == list(family.sites)
    assert len(called) == family.layers


@pytest.mark.parametrize("name", EVERY)
def test_the_width_is_a_size_of_the_ffn_alone(name: str) -> None:
    model, _ = tiny(name)
    width = {**FAMILIES, **REFUSED}[name].width
    paths = [path for path, weight in model.named_parameters() if width in weight.shape]
    assert paths
    assert not [path for path in paths if re.search("att|embed|norm|head|shared|wte|wpe", path, re.IGNORECASE)]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_longest_input_fits(name: str) -> None:
    model, tokenizer = tiny(name)
    ids = encode(tokenizer, " positive").repeat(1, POSITIONS)[:, :POSITIONS]
    if model.config.pad_token_id is not None:
        ids[ids == model.config.pad_token_id] = ids[0, 0]
    assert logits(model, ids).isfinite().all()
    if hasattr(model.config, "max_position_embeddings"):
        assert model.config.max_position_embeddings == POSITIONS + 2 * (name == "roberta")


@pytest.mark.parametrize("name", FAMILIES)
def test_label_words_are_one_token_in_the_form_that_applies(name: str) -> None:
    _, tokenizer = tiny(name)
    for word in LABELS:
        assert len(tokenizer(f" {word}", add_special_tokens=False).input_ids) == 1
        assert (len(tokenizer(word, add_special_tokens=False).input_ids) > 1) == (name in SPACED)


@pytest.mark.parametrize("name", FAMILIES)
def test_pairs_are_laid_out_as_the_family_does(name: str) -> None:
    _, tokenizer = tiny(name)
    pair = tokenizer(" negative", " positive")
    tokens = tokenizer.convert_ids_to_tokens(pair.input_ids)
    assert " ".join(token.removeprefix("Ġ") for token in tokens) == LAYOUT[name]
    types = [0, 0, 0, 1, 1] if tokens[0] == "[CLS]" and name != "modernbert" else None
    assert pair.get("token_type_ids") == types
    assert (tokenizer.mask_token is not None) == (name in [*named("masked"), "bart"])


@pytest.mark.parametrize("name", EVERY)
def test_saved_and_loaded_is_the_same(name: str, tmp_path: Path) -> None:
    model, tokenizer = tiny(name, seed=5)
    save_tiny(name, tmp_path, seed=5)
    assert not [path.name for path in tmp_path.iterdir() if path.suffix not in {".json", ".safetensors"}]
    kind = {**FAMILIES, **REFUSED}[name].kind
    loaded, report = AUTO[kind].from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    reread = AutoTokenizer.from_pretrained(tmp_path)
    texts = [*sentences(12), "Ünknown\n words"]
    assert reread(texts).input_ids == tokenizer(texts).input_ids
    ids = encode(tokenizer, texts[0])
    assert torch.equal(logits(loaded.eval(), ids), logits(model, ids))


@pytest.mark.parametrize("name", REFUSED)
def test_experts_are_no_linear_layers(name: str) -> None:
    model, _ = tiny(name)
    assert [path for path, weight in model.named_parameters() if weight.ndim == 3]
    assert REFUSED[name].sites == ()


def test_sentences_have_every_length_and_known_words() -> None:
    texts = sentences(30, seed=1)
    lengths = [len(text.split()) for text in texts]
    assert sorted(lengths[:12]) == sorted(lengths[12:24]) == [*range(1, 13)]
    assert len(texts) == 30
    assert {word for text in texts for word in text.split()} <= set(WORDS)
    assert texts == sentences(30, seed=1) != sentences(30, seed=2)
