"""What the miniature's model has learned, told apart, on held-out documents without a verdict.

    figures = measure(model, tokenizer, samples)     # of the model
    limits = bounds(samples)                         # what it can be at worst and at best, by the grammar alone

    latent, latent_far      loss, in nats, at the words that nothing but the label decides, masked one at a time; the
                            document at position 0 and on, and at 128 and on, where a long prompt pushes it
    rest                    loss, in nats, at the other words, 15 % of them masked at once
    verdict_after, _before  share of the documents whose label is the likeliest of all words for <mask> in "overall the
                            verdict is <mask>", a clause put after or before the document

    latent_blind, latent_informed    the loss of a reader who knows the grammar and sees the word's clause alone, or
                                     the whole document
    verdict_chance, verdict_bayes    accuracy of a guess, and of Bayes' rule

Grammar shows in `rest`; the label that the clauses share shows in `latent` below `latent_blind`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, RobertaForMaskedLM

from skillneurons.tasks.grammar import Document, Genre

FIRST = 2  # RoBERTa counts positions from the padding token's id + 1
FAR = 128
PROBE = "overall the verdict is <mask>"
SHARE = 0.15
ROWS = 100

Sample = tuple[Genre, Document]
Masked = tuple[str, list[str]]  # a text, and the words behind its masks


def measure(
    model: RobertaForMaskedLM, tokenizer: PreTrainedTokenizerBase, samples: Sequence[Sample]
) -> dict[str, float]:
    """The model's figures, to four digits."""
    told = [document for _, document in samples]
    latent = [_masked(document, [place]) for document in told for place, _ in document.latent()]
    draw = torch.Generator().manual_seed(0)
    rest = [_masked(document, _others(document, draw)) for document in told]
    after = [(f"{document} {PROBE} {document.end}", [document.label]) for document in told]
    before = [(f"{PROBE} {document.end} {document}", [document.label]) for document in told]
    figures = {
        "latent": _guess(model, tokenizer, latent)[0],
        "latent_far": _guess(model, tokenizer, latent, FAR)[0],
        "rest": _guess(model, tokenizer, rest)[0],
        "verdict_after": _guess(model, tokenizer, after)[1],
        "verdict_before": _guess(model, tokenizer, before)[1],
    }
    return {name: round(figure, 4) for name, figure in figures.items()}


def bounds(samples: Sequence[Sample]) -> dict[str, float]:
    """How many latent words there are, and what the figures can be, to four digits."""
    latent = [(genre, document, clause) for genre, document in samples for _, clause in document.latent()]
    bayes = []
    for genre, document in samples:
        chances = genre.posterior(document.clauses)
        best = [label for label, chance in chances.items() if math.isclose(chance, max(chances.values()))]
        bayes.append((document.label in best) / len(best))
    figures = {
        "latent_blind": [genre.blind(clause) for genre, _, clause in latent],
        "latent_informed": [genre.informed(document, clause) for genre, document, clause in latent],
        "verdict_chance": [1 / len(genre.labels) for genre, _ in samples],
        "verdict_bayes": bayes,
    }
    means = {name: round(sum(values) / len(values), 4) for name, values in figures.items()}
    return {"latent_words": len(latent), **means}


def predict(model: RobertaForMaskedLM, ids: Tensor, attention: Tensor, start: Tensor | int, at: Tensor) -> Tensor:
    """Logits at the tokens that `at` marks, the texts standing at positions `start` and on."""
    steps = torch.arange(ids.shape[1]) + FIRST + torch.as_tensor(start).reshape(-1, 1)
    states = model.roberta(input_ids=ids, attention_mask=attention, position_ids=steps.expand_as(ids))
    return model.lm_head(states.last_hidden_state[at])


@torch.no_grad()
def _guess(
    model: RobertaForMaskedLM, tokenizer: PreTrainedTokenizerBase, texts: Sequence[Masked], start: int = 0
) -> tuple[float, float]:
    """Mean loss and accuracy at the masks."""
    losses, hits = [], []
    for begin in range(0, len(texts), ROWS):
        batch = texts[begin : begin + ROWS]
        given = tokenizer([text for text, _ in batch], padding=True, return_tensors="pt")
        at = given["input_ids"] == tokenizer.mask_token_id
        wanted = torch.tensor(tokenizer.convert_tokens_to_ids([word for _, words in batch for word in words]))
        logits = predict(model, given["input_ids"], given["attention_mask"], start, at)
        losses.append(torch.nn.functional.cross_entropy(logits, wanted, reduction="none"))
        hits.append(logits.argmax(-1) == wanted)
    return torch.cat(losses).double().mean().item(), torch.cat(hits).double().mean().item()


def _masked(document: Document, places: Sequence[int]) -> Masked:
    words = list(document.words)
    hidden = [words[place] for place in places]
    for place in places:
        words[place] = "<mask>"
    return " ".join(words), hidden


def _others(document: Document, draw: torch.Generator) -> list[int]:
    """A random share of the words that are not latent."""
    latent = {place for place, _ in document.latent()}
    chosen = torch.rand(len(document.words), generator=draw) < SHARE
    return [place for place, hidden in enumerate(chosen.tolist()) if hidden and place not in latent]
