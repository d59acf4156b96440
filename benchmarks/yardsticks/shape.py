"""The model and the data of the rows that need no real ones: RoBERTa-base's shape, random weights, random words.

    model = backbone("roberta-base", torch.float32, device)
    own = task(model, tokens=28, train=104, dev=52)             # two labels; subtasks=2: three labels, two subtasks

A text is words of the vocabulary, drawn evenly; with its special tokens it has exactly `tokens` of them. The tokenizer
looks words up, one a token, with RoBERTa's special tokens. Beside a prompt of 127 positions and [MASK] a sample is
128 + `tokens` long.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

import skillneurons as sn

POSITIONS = 127
LENGTHS = (28, 300)
"""Tokens of an input; what is asked is asked of the first."""
SHAPES: dict[str, dict[str, Any]] = {
    "roberta-base": {
        "vocab_size": 50_265, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
    "small": {
        "vocab_size": 1000, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 256,
    },
}  # fmt: skip
WORDS = ("negative", "neutral", "positive")


def config(shape: str) -> RobertaConfig:
    """The configuration of a shape."""
    return RobertaConfig(
        **SHAPES[shape], max_position_embeddings=514, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2
    )


def backbone(shape: str, dtype: torch.dtype, device: torch.device) -> sn.Backbone:
    """A model of that shape; the same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model: Any = RobertaForMaskedLM(config(shape))
    return sn.load_model(model.to(device, dtype), tokenizer=tokenizer(SHAPES[shape]["vocab_size"]))


@cache
def tokenizer(size: int) -> PreTrainedTokenizerFast:
    """One token a word, `size` of them."""
    special = ("<s>", "<pad>", "</s>", "<unk>")
    known = [*special, *WORDS]
    words = [*known, *(f"w{index}" for index in range(len(known), size - 1)), "<mask>"]
    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )  # fmt: skip
    roles = dict(zip(("cls", "pad", "sep", "unk", "mask"), (*special, "<mask>"), strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, model_input_names=["input_ids", "attention_mask"],
        **{f"{role}_token": word for role, word in roles.items()},
    )  # fmt: skip


def task(model: sn.Backbone, tokens: int, train: int, dev: int, subtasks: int = 1) -> sn.Task:
    """Random words of `tokens` tokens a sample, labels in turn; the test split has eight samples."""
    size = len(model.tokenizer)
    labels = WORDS if subtasks == 2 else (WORDS[0], WORDS[2])
    draw = random.Random(tokens)

    def rows(count: int) -> list[dict[str, str]]:
        return [
            {
                "text": " ".join(f"w{draw.randrange(4 + len(WORDS), size - 1)}" for _ in range(tokens - 2)),
                "label": labels[index % len(labels)],
            }
            for index in range(count)
        ]

    options: dict[str, Any] = {"words": {label: label for label in labels}}
    if subtasks == 2:
        options["subtasks"] = [
            {"name": "positive-negative", "positive": ["positive"], "negative": ["negative"]},
            {"name": "neutral-rest", "positive": ["neutral"], "negative": ["negative", "positive"]},
        ]
    return sn.Task.from_rows(f"words-{tokens}-{subtasks}", train=rows(train), dev=rows(dev), test=rows(8), **options)


def multiplications(config: RobertaConfig, tokens: int, read: int, times: int = 1) -> int:
    """The multiplications of one block on one sample of `tokens` tokens, of which `read` are read after it.

    Keys and values are of all tokens; queries, output and FFN of those that are read. `times` = 2: of the pass back to
    the block's input alone, which for a product of two activations (attention) goes to both.
    """
    hidden, width = config.hidden_size, config.intermediate_size
    linear = 2 * tokens * hidden**2 + read * (2 * hidden**2 + 2 * hidden * width)
    return linear + times * 2 * read * tokens * hidden


def step_multiplications(config: RobertaConfig, batch: int, tokens: int) -> int:
    """What a step of prompt tuning needs: forward and back to the prompt, the last block read at [MASK] alone.

    Dropout, norms, softmax and the label words' rows of the head are left out: they are few beside these.
    """
    reads = [tokens] * (config.num_hidden_layers - 1) + [1]
    return batch * sum(multiplications(config, tokens, read, times) for read in reads for times in (1, 2))
