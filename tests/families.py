"""Tiny random models of every family, offline: the one table that all tests of models share.

    model, tokenizer = tiny("opt")                     # evaluation mode, float32, weights fixed by name and seed
    @pytest.mark.parametrize("name", FAMILIES)         # every family that works; named("causal") those of one kind
    folder = save_tiny("bert", tmp_path)               # what from_pretrained reads; REFUSED are mixtures of experts

A model comes from its configuration and is then drawn anew with wide weights (matrices 0.25, norms around 1), for at
the library's usual 0.02 every output looks like every other. Dropout is 0.1 wherever the family has it. The FFN's
width is a size that nothing else in the model has; `Family.sites` names the down-projection of each ranked layer
and is the oracle for whatever finds them.

Traps of real checkpoints are set here too: an embedding table longer than the vocabulary, padding and position ids
that are not 0, embeddings narrower than the hidden states (electra, albert, opt-projected), heads wider than them
(qwen3, t5-gated), sliding windows and a fused gate shaped like the attention's input (modernbert), layers that share
one module (albert), decoders shorter than encoders, padding that is the end of text (gpt2) or missing (llama).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerFast

from . import vocabulary
from .vocabulary import LABELS, POSITIONS, WORDS, sentences

__all__ = ["FAMILIES", "LABELS", "POSITIONS", "REFUSED", "WORDS", "Family", "named", "save_tiny", "sentences", "tiny"]

Kind = Literal["masked", "causal", "encoder-decoder"]

HIDDEN, HEADS, WIDTH = 24, 4, 44


@dataclass(frozen=True)
class Family:
    """One row: `make` returns the model as its configuration initialises it, and its tokenizer.

    `sites` are the module paths of the down-projections, one a ranked layer (the encoder's, where there are both
    parts); a path that stands there twice serves two layers. The families that are refused have none.
    """

    name: str
    kind: Kind
    width: int
    layers: int
    make: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerFast]]
    sites: tuple[str, ...]


def tiny(name: str, seed: int = 0) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A new model in evaluation mode, and its tokenizer. The global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        model, tokenizer = {**FAMILIES, **REFUSED}[name].make()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            centre = 1.0 if parameter.ndim == 1 and path.endswith("weight") else 0.0
            parameter.normal_(centre, 0.1 if parameter.ndim == 1 else 0.25, generator=draw)
    return model.eval(), tokenizer


def save_tiny(name: str, folder: Path, seed: int = 0) -> Path:
    """Save `tiny(name, seed)` in `folder` as the library does (safetensors, tokenizer.json); return `folder`."""
    model, tokenizer = tiny(name, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def named(kind: Kind) -> list[str]:
    """The names of the families of one kind."""
    return [name for name, family in FAMILIES.items() if family.kind == kind]


_HEADS: dict[Kind, Any] = {
    "masked": transformers.AutoModelForMaskedLM,
    "causal": transformers.AutoModelForCausalLM,
    "encoder-decoder": transformers.AutoModelForSeq2SeqLM,
}


def _row(
    name: str,
    kind: Kind,
    dress: Callable[[], PreTrainedTokenizerFast],
    site: str,
    *,
    model_type: str | None = None,
    layers: int = 2,
    width: int = WIDTH,
    modules: int | None = None,
    **options: Any,
) -> Family:
    """A family whose configuration takes `options`; `site` has a place for the number of the layer or of its module."""

    def make() -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
        tokenizer = dress()
        special = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("pad", "bos", "eos")}
        rows = len(tokenizer) // 8 * 8 + 8
        config = AutoConfig.for_model(model_type or name, vocab_size=rows, **special, **options)
        return _HEADS[kind].from_config(config), tokenizer

    sites = [site.format(layer * (modules or layers) // layers) for layer in range(layers)] if site else []
    return Family(name, kind, width, layers, make, tuple(sites))


def _block(layers: int = 2, positions: int = POSITIONS, width: int = WIDTH, **options: Any) -> dict[str, Any]:
    """The options that most families share, by the names that most of them give."""
    return {
        "layers": layers, "width": width, "num_hidden_layers": layers, "intermediate_size": width,
        "hidden_size": HIDDEN, "num_attention_heads": HEADS, "max_position_embeddings": positions, **options,
    }  # fmt: skip


_ALBERT: dict[str, Any] = {
    "model_type": "albert", "embedding_size": 16, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
}  # fmt: skip
_OPT: dict[str, Any] = {
    "model_type": "opt", "hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": HEADS, "ffn_dim": WIDTH,
    "max_position_embeddings": POSITIONS, "attention_dropout": 0.1,
}  # fmt: skip
_GROUPED: dict[str, Any] = {"num_key_value_heads": 2, "attention_dropout": 0.1}
_T5: dict[str, Any] = {
    "model_type": "t5", "layers": 3, "num_layers": 3, "num_decoder_layers": 2, "d_model": HIDDEN, "num_heads": HEADS,
    "d_ff": WIDTH, "decoder_start_token_id": 0,
}  # fmt: skip

_ROWS = [
    _row(
        "roberta", "masked", vocabulary.roberta, "roberta.encoder.layer.{}.output.dense",
        **_block(3, POSITIONS + 2, type_vocab_size=1),
    ),
    _row("bert", "masked", vocabulary.bert, "bert.encoder.layer.{}.output.dense", **_block()),
    _row("electra", "masked", vocabulary.bert, "electra.encoder.layer.{}.output.dense", **_block(embedding_size=16)),
    _row(
        "albert", "masked", vocabulary.bert, "albert.encoder.albert_layer_groups.{}.albert_layers.0.ffn_output",
        modules=1, **_block(3, **_ALBERT),
    ),
    _row(
        "albert-groups", "masked", vocabulary.bert, "albert.encoder.albert_layer_groups.{}.albert_layers.0.ffn_output",
        modules=2, num_hidden_groups=2, **_block(4, **_ALBERT),
    ),
    _row(
        "deberta-v2", "masked", vocabulary.bert, "deberta.encoder.layer.{}.output.dense",
        relative_attention=True, position_buckets=32, pos_att_type=["p2c", "c2p"], share_att_key=True,
        norm_rel_ebd="layer_norm", position_biased_input=False, **_block(),
    ),
    _row(
        "modernbert", "masked", partial(vocabulary.bert, types=False), "model.layers.{}.mlp.Wo",
        cls_token_id=2, sep_token_id=3, local_attention=32, attention_dropout=0.1, mlp_dropout=0.1,
        embedding_dropout=0.1, **_block(3, width=3 * HIDDEN // 2),
    ),
    _row(
        "gpt2", "causal", vocabulary.gpt2, "transformer.h.{}.mlp.c_proj",
        n_embd=HIDDEN, n_layer=2, n_head=HEADS, n_inner=WIDTH, n_positions=POSITIONS,
    ),
    _row("opt", "causal", vocabulary.opt, "model.decoder.layers.{}.fc2", **_OPT),
    _row(
        "opt-projected", "causal", vocabulary.opt, "model.decoder.layers.{}.fc2",
        word_embed_proj_dim=16, do_layer_norm_before=False, **_OPT,
    ),
    _row("llama", "causal", vocabulary.llama, "model.layers.{}.mlp.down_proj", **_block(**_GROUPED)),
    _row("qwen2", "causal", vocabulary.qwen, "model.layers.{}.mlp.down_proj", **_block(**_GROUPED)),
    _row("qwen3", "causal", vocabulary.qwen, "model.layers.{}.mlp.down_proj", head_dim=8, **_block(**_GROUPED)),
    _row("t5", "encoder-decoder", vocabulary.t5, "encoder.block.{}.layer.1.DenseReluDense.wo", d_kv=6, **_T5),
    _row(
        "t5-gated", "encoder-decoder", vocabulary.t5, "encoder.block.{}.layer.1.DenseReluDense.wo",
        d_kv=8, feed_forward_proj="gated-gelu", tie_word_embeddings=False, **_T5,
    ),
    _row(
        "bart", "encoder-decoder", vocabulary.roberta, "model.encoder.layers.{}.fc2", layers=3,
        d_model=HIDDEN, encoder_layers=3, decoder_layers=2, encoder_ffn_dim=WIDTH, decoder_ffn_dim=WIDTH,
        encoder_attention_heads=HEADS, decoder_attention_heads=HEADS, max_position_embeddings=POSITIONS,
        attention_dropout=0.1, activation_dropout=0.1, decoder_start_token_id=2,
    ),
]  # fmt: skip
FAMILIES: dict[str, Family] = {row.name: row for row in _ROWS}
REFUSED: dict[str, Family] = {
    row.name: row
    for row in [
        _row(
            "mixtral", "causal", vocabulary.llama, "",
            num_local_experts=4, num_experts_per_tok=2, **_block(**_GROUPED),
        ),
        _row(
            "qwen3-moe", "causal", vocabulary.qwen, "", model_type="qwen3_moe",
            moe_intermediate_size=WIDTH, num_experts=4, num_experts_per_tok=2, head_dim=8, **_block(**_GROUPED),
        ),
    ]
}  # fmt: skip
