"""The words of the tiny models, in the dress of each family's tokenizer.

    tokenizer = roberta()                      # a PreTrainedTokenizerFast, built here, nothing downloaded
    texts = sentences(32, seed=1)              # random texts of unequal lengths over WORDS

Two kinds. *By words*: blanks are dropped, a word is a token wherever it stands, an unknown one is `unk`; so WordPiece
and sentencepiece treat label words. *By bytes*: a word after a space is one token, without the space several, save
the label words where a masked model needs them at the opening of its input; no text is unknown.
"""

from __future__ import annotations

import random
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

POSITIONS = 168  # tokens that fit a tiny model, whatever rows its family adds to the table for its own use
LABELS = ("negative", "neutral", "positive")
_OTHERS = """
    a the this that it one we they film story plot actor scene music phone battery screen price shop service news team
    goal match market bank share river town is was seems had made lost won sold likes bright dull slow quick warm cold
    fine poor grand weak fresh stale loud quiet very rather not never and but so because again today . , ?
"""
WORDS = (*LABELS, *_OTHERS.split())


def sentences(n: int, seed: int = 0) -> list[str]:
    """`n` random texts of 1 to 12 words; every length comes once before any comes again."""
    draw = random.Random(seed)
    lengths = [length for _ in range(0, n, 12) for length in draw.sample(range(1, 13), 12)]
    return [" ".join(draw.choices(WORDS, k=length)) for length in lengths[:n]]


def bert(types: bool = True) -> PreTrainedTokenizerFast:
    """`[CLS] a [SEP] b [SEP]`, with token types or (ModernBERT) without."""
    roles: dict[str, Any] = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    pair = "[CLS] $A [SEP] $B:1 [SEP]:1"
    return _by_words(" ".join(roles.values()), "[CLS] $A [SEP]", pair, types=types, **roles)


def roberta() -> PreTrainedTokenizerFast:
    """`<s> a </s> </s> b </s>`; the mask swallows the space before it."""
    roles: dict[str, Any] = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    roles |= {"cls_token": "<s>", "sep_token": "</s>", "mask_token": AddedToken("<mask>", lstrip=True, special=True)}
    pair = "<s> $A </s> </s> $B </s>"
    return _by_bytes("<s> <pad> </s> <unk> <mask>", "<s> $A </s>", pair, opening=True, **roles)


def gpt2() -> PreTrainedTokenizerFast:
    """Nothing is added; padding is the end of text."""
    end = "<|endoftext|>"
    return _by_bytes(end, "$A", "$A $B", bos_token=end, eos_token=end, unk_token=end, pad_token=end)


def qwen() -> PreTrainedTokenizerFast:
    """Nothing is added; padding and end of text differ."""
    return _by_bytes("<|endoftext|> <|im_end|>", "$A", "$A $B", eos_token="<|im_end|>", pad_token="<|endoftext|>")


def opt() -> PreTrainedTokenizerFast:
    """`</s> a </s> b`: the end of text opens every text."""
    roles: dict[str, Any] = {"bos_token": "</s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "</s>"}
    return _by_bytes("<s> <pad> </s> <unk>", "</s> $A", "</s> $A </s> $B", **roles)


def llama() -> PreTrainedTokenizerFast:
    """`<s> a <s> b`; there is no padding token."""
    roles: dict[str, Any] = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return _by_words("<unk> <s> </s>", "<s> $A", "<s> $A <s> $B", **roles)


def t5() -> PreTrainedTokenizerFast:
    """`a </s> b </s>`; the tokenizer alone knows how many tokens fit, for T5's configuration says nothing."""
    roles: dict[str, Any] = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return _by_words("<pad> </s> <unk>", "$A </s>", "$A </s> $B </s>", model_max_length=POSITIONS, **roles)


def _by_words(specials: str, single: str, pair: str, **options: Any) -> PreTrainedTokenizerFast:
    """One token a word; a newline is a token of its own."""
    vocabulary = {word: index for index, word in enumerate([*specials.split(), "\n", *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=options["unk_token"]))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", "removed"),
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Punctuation("isolated"),
        ]
    )
    return _dressed(inner, specials, single, pair, **options)


def _by_bytes(specials: str, single: str, pair: str, opening: bool = False, **options: Any) -> PreTrainedTokenizerFast:
    """Byte-level BPE whose merges spell " word" from left to right, and with `opening` the bare label words too."""
    whole = [*(f"Ġ{word}" for word in WORDS), *(LABELS if opening else ())]
    merges = dict.fromkeys((word[:end], word[end]) for word in whole for end in range(1, len(word)))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = dict.fromkeys([*specials.split(), *letters, *("".join(parts) for parts in merges)])
    inner = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, list(merges)))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return _dressed(inner, specials, single, pair, **options)


def _dressed(
    inner: Tokenizer, specials: str, single: str, pair: str, types: bool = False, **options: Any
) -> PreTrainedTokenizerFast:
    """The library's tokenizer around `inner`; `single` and `pair` are templates, a `:1` being the token's type."""
    ids = [(token, inner.token_to_id(token)) for token in specials.split()]
    inner.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)
    names = ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_input_names=names, **options)
