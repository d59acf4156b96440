"""What the miniature's model has learned, told apart by genre, on held-out documents without a verdict.

    figures = measure(model, tokenizer, samples)     # of the model, for each genre; samples: {genre: [...]}
    limits = bounds(samples)                         # what they can be at worst and at best, by the grammar alone

    latent, latent_far      loss, in nats, at the words that nothing but the label decides, masked one at a time; the
                            document at position 0 and on, and at 128 and on, where a long prompt pushes it
    rest                    loss, in nats, at the other words, 15 % of them masked at once
    verdict_after, _before  share of the documents whose label has the likeliest of all words for <mask> in a verdict,
                            such as "overall the verdict is <mask>", put after or before the document

    latent_blind, latent_informed    the loss of a reader who knows the grammar and sees the word's clause alone, or
                                     the whole document
    verdict_chance, verdict_bayes    accuracy of naming the commonest label always, and of Bayes' rule

Grammar shows in `rest`; what the clauses of a document have to do with each other shows in `latent` below
`latent_blind`. Questions have no latent words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, RobertaForMaskedLM

from skillneurons.tasks.document import BREAK, Document
from skillneurons.tasks.miniature import AnyGenre

FIRST = 2  # RoBERTa counts positions from the padding token's id + 1
FAR = 128
SHARE = 0.15
ROWS = 100

_VERDICTS = ("after", "before", "chance", "bayes")

Sample = tuple[AnyGenre, Document]
Figures = dict[str, dict[str, float]]  # genre -> figure
Masked = tuple[str, list[str]]  # a text, and the words behind its masks


def measure(
    model: RobertaForMaskedLM, tokenizer: PreTrainedTokenizerBase, samples: Mapping[str, Sequence[Sample]]
) -> Figures:
    """The model's figures for each genre, to four digits."""
    return {name: _measure(model, tokenizer, own) for name, own in samples.items()}


def bounds(samples: Mapping[str, Sequence[Sample]]) -> Figures:
    """For each genre how many latent words there are, and what the figures can be, to four digits."""
    return {name: _bounds(own) for name, own in samples.items()}


def _measure(
    model: RobertaForMaskedLM, tokenizer: PreTrainedTokenizerBase, samples: Sequence[Sample]
) -> dict[str, float]:
    told = [document for _, document in samples]
    latent = [_masked(document, [place]) for document in told for place, _ in document.latent()]
    draw = torch.Generator().manual_seed(0)
    rest = [_masked(document, _others(document, draw)) for document in told]
    figures = {
        "rest": _guess(model, tokenizer, rest)[0],
        "verdict_after": _guess(model, tokenizer, [_judged(*sample, first=False) for sample in samples])[1],
        "verdict_before": _guess(model, tokenizer, [_judged(*sample, first=True) for sample in samples])[1],
    }
    if latent:
        figures |= {
            "latent": _guess(model, tokenizer, latent)[0],
            "latent_far": _guess(model, tokenizer, latent, FAR)[0],
        }
    return {name: round(figure, 4) for name, figure in figures.items()}


def _bounds(samples: Sequence[Sample]) -> dict[str, float]:
    latent = [(genre, document, clause) for genre, document in samples for _, clause in document.latent()]
    bayes = []
    for genre, document in samples:
        chances = genre.posterior(document)
        best = [label for label, chance in chances.items() if math.isclose(chance, max(chances.values()))]
        bayes.append((document.label in best) / len(best))
    commonest = max(Counter(document.label for _, document in samples).values())
    figures = {"verdict_chance": [commonest / len(samples)], "verdict_bayes": bayes}
    if latent:
        figures |= {
            "latent_blind": [genre.blind(clause) for genre, _, clause in latent],
            "latent_informed": [genre.informed(document, clause) for genre, document, clause in latent],
        }
    means = {name: round(sum(values) / len(values), 4) for name, values in figures.items()}
    return {"latent_words": len(latent), **means}


def table(limits: Figures, figures: Figures) -> str:
    """A Markdown table of what `bounds` and `measure` gave, a row a genre."""
    lines = [
        "| genre | loss at latent words | one clause alone | whole document | gain made | label named after, before "
        "| commonest label | Bayes' rule |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, own in figures.items():
        facts = own | limits[name]
        if "latent" in facts:
            gain = (facts["latent_blind"] - facts["latent"]) / (facts["latent_blind"] - facts["latent_informed"])
            latent = [f"{facts[key]:.3f}" for key in ("latent", "latent_blind", "latent_informed")] + [f"{gain:.0%}"]
        else:
            latent = ["", "", "", ""]
        after, before, chance, bayes = (f"{facts[f'verdict_{key}']:.1%}" for key in _VERDICTS)
        lines.append(f"| {' | '.join([name, *latent, f'{after}, {before}', chance, bayes])} |")
    return "\n".join(lines)


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


def _judged(genre: AnyGenre, document: Document, first: bool) -> Masked:
    """The document with a verdict whose label word is masked, before or after it."""
    verdict = genre.verdicts[0].replace("{label}", "<mask>")
    parts = (f"{verdict} {document.end}", str(document)) if first else (str(document), f"{verdict} {document.end}")
    return " ".join(parts), [genre.named[document.label]]


def _others(document: Document, draw: torch.Generator) -> list[int]:
    """A random share of the words that are not latent."""
    kept = {place for place, _ in document.latent()}
    kept |= {place for place, word in enumerate(document.words) if word in BREAK}
    chosen = torch.rand(len(document.words), generator=draw) < SHARE
    return [place for place, hidden in enumerate(chosen.tolist()) if hidden and place not in kept]
