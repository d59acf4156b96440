"""Pretrain the embedded miniature: a small RoBERTa, by masked language modelling on the miniature's unlabelled text.

    python scripts/pretrain_miniature.py                               # writes the folder that the package ships
    python scripts/pretrain_miniature.py --out elsewhere --seed 1      # every option: --help

The same options, seed, number of threads and versions give the same weights. Grammar is learned first; what the clauses of
a document have in common stays unseen for about two thousand steps, and for good with weights drawn at the library's 0.02.
So each evaluation tells apart, on held-out documents without a verdict:

    latent        loss, in nats, at words that nothing but the label decides, masked one at a time
    latent_far    the same with the document at positions 128 and on, where a long prompt pushes it
    rest          loss at the other words, 15 % of them masked at once
    verdict_*     share of documents whose label is the likeliest word for <mask> in "overall the verdict is <mask>",
                  a clause put after or before the document

Beside `latent` stand what a reader would lose who knows the grammar and sees the clause alone (`blind`) or all of the
document (`informed`): both follow from the grammar. Beside the verdict stands the accuracy of Bayes' rule.

Documents start at random positions, so that every position is trained. The position table starts as sinusoids: drawn at
random, it took thousands of steps to learn which of its rows are neighbours.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import tokenizers
import torch
import transformers
import tyro
from pydantic import Field
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

from skillneurons.config import Config
from skillneurons.files import replacing, write_json
from skillneurons.tasks.grammar import Document, Genre
from skillneurons.tasks.miniature import documents, vocabulary

FOLDER = Path(__file__).resolve().parents[1] / "src" / "skillneurons" / "models" / "miniature"
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
FIRST = 2  # RoBERTa counts positions from the padding token's id + 1
FAR = 128
PROBE = "overall the verdict is <mask>"

Count = Annotated[int, Field(ge=1)]
Sample = tuple[Genre, Document]


class Pretraining(Config):
    """What decides the weights."""

    seed: int = 0
    steps: Count = 6000
    batch: Count = 64
    learning_rate: float = 1e-3
    warm_up: Count = 100
    """Steps over which the learning rate rises."""
    cool_down: Count = 2000
    """Last steps, over which it falls to zero."""
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    clip: float = 1.0
    masked: float = 0.15
    """Share of the words that are to be guessed; of these 80 % are masked, 10 % replaced and 10 % left."""
    verdicts: float = 0.5
    """Share of the documents that have a verdict."""
    layers: Count = 2
    width: Count = 128
    heads: Count = 4
    ffn: Count = 512
    positions: Count = 256
    initializer_range: float = 0.08
    position_scale: float = 0.12
    """Amplitude of the sinusoids that the position table starts from."""
    position_base: float = 300.0
    """Their longest wave, in positions over 2 pi."""
    evaluate_every: Count = 500
    held_out: Count = 300
    """Documents of an evaluation."""
    threads: Count = 1


def make_tokenizer(positions: int) -> PreTrainedTokenizerFast:
    """A token for every word, in RoBERTa's form: `<s> x </s>` and `<s> a </s></s> b </s>`."""
    words = {word: index for index, word in enumerate((*SPECIAL, *vocabulary()))}
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.RobertaProcessing(
        ("</s>", words["</s>"]), ("<s>", words["<s>"]), trim_offsets=False, add_prefix_space=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", pad_token="<pad>", unk_token="<unk>",
        mask_token=AddedToken("<mask>", lstrip=True, special=True),
        model_max_length=positions,
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def make_model(config: Pretraining, tokenizer: PreTrainedTokenizerFast) -> RobertaForMaskedLM:
    """A new model without dropout, its position table set to sinusoids of many wavelengths."""
    model = RobertaForMaskedLM(
        RobertaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.ffn,
            max_position_embeddings=config.positions + FIRST,
            type_vocab_size=1,
            initializer_range=config.initializer_range,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            bos_token_id=tokenizer.bos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    frequency = config.position_base ** -torch.linspace(0, 1, config.width // 2 + 1)[:-1]
    angle = torch.arange(config.positions)[:, None] * frequency
    table = model.roberta.embeddings.position_embeddings.weight
    with torch.no_grad():
        table[FIRST:] = config.position_scale * torch.cat([angle.sin(), angle.cos()], dim=1)
    return model


def batches(config: Pretraining) -> Iterator[list[str]]:
    """Texts without end, a batch at a time; batches of like lengths are cut from eight batches' worth of documents."""
    source = documents(f"train {config.seed}", config.verdicts)
    draw = torch.Generator().manual_seed(config.seed)
    while True:
        texts = sorted((str(document) for _, document in islice(source, 8 * config.batch)), key=lambda text: len(text))
        for index in torch.randperm(8, generator=draw).tolist():
            yield texts[index * config.batch : (index + 1) * config.batch]


def conceal(ids: Tensor, share: float, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Token ids with a share of the words hidden, and which words those are; RoBERTa's way."""
    hidden = (torch.rand(ids.shape, generator=draw) < share) & (ids >= len(SPECIAL))
    fate = torch.rand(ids.shape, generator=draw)
    other = torch.randint(len(SPECIAL), len(SPECIAL) + len(vocabulary()), ids.shape, generator=draw)
    mask = torch.full_like(ids, SPECIAL.index("<mask>"))
    return torch.where(hidden & (fate < 0.8), mask, torch.where(hidden & (fate >= 0.9), other, ids)), hidden


def predict(model: RobertaForMaskedLM, ids: Tensor, attention: Tensor, start: Tensor | int, at: Tensor) -> Tensor:
    """Logits at the tokens that `at` marks, the texts standing at positions `start` and on."""
    steps = torch.arange(ids.shape[1]) + FIRST + torch.as_tensor(start).reshape(-1, 1)
    states = model.roberta(input_ids=ids, attention_mask=attention, position_ids=steps.expand_as(ids))
    return model.lm_head(states.last_hidden_state[at])


@torch.no_grad()
def measure(
    model: RobertaForMaskedLM, tokenizer: PreTrainedTokenizerFast, held_out: Sequence[Sample]
) -> dict[str, float]:
    """The losses and accuracies that the head of this file explains."""
    model.eval()
    latent, plain, after, before, labels = [], [], [], [], []
    for _, document in held_out:
        words, places = document.words, [place for place, _ in document.latent()]
        latent += [(" ".join((*words[:place], "<mask>", *words[place + 1 :])), words[place]) for place in places]
        plain.append((words, places))
        after.append(f"{document} {PROBE} {document.end}")
        before.append(f"{PROBE} {document.end} {document}")
        labels.append(document.label)

    def guesses(texts: Sequence[str], start: int = 0) -> Tensor:
        found = []
        for begin in range(0, len(texts), 100):
            given = tokenizer(list(texts[begin : begin + 100]), padding=True, return_tensors="pt")
            at = given["input_ids"] == tokenizer.mask_token_id
            found.append(predict(model, given["input_ids"], given["attention_mask"], start, at).log_softmax(-1))
        return torch.cat(found)

    def loss(start: int = 0) -> float:
        wanted = torch.tensor(tokenizer.convert_tokens_to_ids([word for _, word in latent]))
        return -guesses([text for text, _ in latent], start).gather(1, wanted[:, None]).mean().item()

    def accuracy(texts: Sequence[str]) -> float:
        wanted = torch.tensor(tokenizer.convert_tokens_to_ids(labels))
        return (guesses(texts).argmax(-1) == wanted).double().mean().item()

    draw = torch.Generator().manual_seed(0)
    texts, wanted = [], []
    for words, places in plain:
        hidden = torch.rand(len(words), generator=draw) < 0.15
        hidden[places] = False
        texts.append(" ".join("<mask>" if hide else word for word, hide in zip(words, hidden.tolist(), strict=True)))
        wanted += [word for word, hide in zip(words, hidden.tolist(), strict=True) if hide]
    rest = -guesses(texts).gather(1, torch.tensor(tokenizer.convert_tokens_to_ids(wanted))[:, None]).mean().item()
    figures = {
        "latent": loss(), "latent_far": loss(FAR), "rest": rest,
        "verdict_after": accuracy(after), "verdict_before": accuracy(before),
    }  # fmt: skip
    return {name: round(figure, 4) for name, figure in figures.items()}


def bounds(held_out: Sequence[Sample]) -> dict[str, float]:
    """What the figures of `measure` can be at worst and at best; all from the grammar."""
    blind, informed, ceiling, chance = [], [], [], []
    for genre, document in held_out:
        blind += [genre.blind(clause) for _, clause in document.latent()]
        informed += [genre.informed(document, clause) for _, clause in document.latent()]
        chances = genre.posterior(document.clauses)
        best = [label for label, value in chances.items() if math.isclose(value, max(chances.values()))]
        ceiling.append((document.label in best) / len(best))
        chance.append(1 / len(genre.labels))
    figures = {"latent_blind": blind, "latent_informed": informed, "verdict_bayes": ceiling, "verdict_chance": chance}
    return {"latent_words": len(blind)} | {name: round(sum(all_) / len(all_), 4) for name, all_ in figures.items()}


def held_out(config: Pretraining) -> list[Sample]:
    """Documents of their own seed, without a verdict."""
    return list(islice(documents("held out", verdict=0.0), config.held_out))


def pretrain(
    config: Pretraining, tell: Callable[[dict[str, float]], None]
) -> tuple[RobertaForMaskedLM, PreTrainedTokenizerFast]:
    """Train a new model; `tell` is given the figures of each evaluation."""
    torch.manual_seed(config.seed)
    tokenizer = make_tokenizer(config.positions)
    model = make_model(config, tokenizer)
    optimizer = torch.optim.AdamW(
        model.parameters(), config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
    )
    draw = torch.Generator().manual_seed(config.seed)
    samples, losses = held_out(config), []
    for step, texts in enumerate(islice(batches(config), config.steps), start=1):
        model.train()
        given = tokenizer(texts, padding=True, return_tensors="pt")
        ids, attention = given["input_ids"], given["attention_mask"]
        concealed, hidden = conceal(ids, config.masked, draw)
        start = torch.randint(config.positions - ids.shape[1] + 1, (len(texts),), generator=draw)
        logits = predict(model, concealed, attention, start, hidden)
        loss = torch.nn.functional.cross_entropy(logits, ids[hidden])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.param_groups[0]["lr"] = config.learning_rate * min(
            1.0, step / config.warm_up, (config.steps - step + 1) / config.cool_down
        )
        optimizer.step()
        losses.append(loss.item())
        if step % config.evaluate_every == 0 or step == config.steps:
            tell({"step": step, "training": round(sum(losses) / len(losses), 4)} | measure(model, tokenizer, samples))
            losses.clear()
    return model.eval(), tokenizer


README = """\
# The embedded miniature

A small masked language model of a small language: RoBERTa's architecture, {layers} layers of width {width}, FFNs of {ffn} neurons,
{parameters:,} parameters, a vocabulary of {vocabulary} tokens (one a word), {positions} positions. It is for demonstrations and tests without
a network; of English it knows nothing but these words.

It was pretrained by masked language modelling alone, on unlabelled text that a grammar writes (`skillneurons.tasks.genres`): films,
products and short messages. The clauses of a document share a label that they do not name; every other document has one more
clause that does, such as "overall the verdict is positive". No neuron was planted. The tasks' texts are shorter than any
document of the pretraining, so that none of them is among those, and they have no such clause.

Made by

    {command}

with the options in `training.json`, which has every evaluation too. As it came out, on {held_out} held-out documents without a verdict:

| figure | at the end | for comparison |
|---|---|---|
| loss at words that nothing but the label decides, nats | {latent:.3f} | {latent_blind:.3f} for a reader of the grammar who does not see the other clauses, {latent_informed:.3f} for the best reader of all |
| the same, document at positions 128 and on | {latent_far:.3f} | the same |
| loss at the other words, nats | {rest:.3f} | |
| label named after the document, accuracy | {verdict_after:.3f} | {verdict_chance:.3f} by chance, {verdict_bayes:.3f} by Bayes' rule |
| label named before the document, accuracy | {verdict_before:.3f} | the same |

{share:.0%} of what the other clauses tell about those words is used.
"""


def write(
    out: Path,
    config: Pretraining,
    model: RobertaForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    evaluations: Sequence[dict[str, float]],
) -> None:
    """Write the whole folder: the model, its tokenizer, the log, and a README made from the log."""
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    log: dict[str, Any] = {
        "config": config.model_dump(mode="json"),
        "versions": {module.__name__: module.__version__ for module in (torch, transformers, tokenizers)},
        "vocabulary": len(tokenizer),
        "parameters": model.num_parameters(),
        "bounds": bounds(held_out(config)),
        "evaluations": list(evaluations),
    }
    write_json(out / "training.json", log)
    facts = log["config"] | log["bounds"] | log["evaluations"][-1]
    learned = facts["latent_blind"] - facts["latent"]
    text = README.format(
        **facts,
        vocabulary=log["vocabulary"],
        parameters=log["parameters"],
        command="python scripts/pretrain_miniature.py",
        share=learned / (facts["latent_blind"] - facts["latent_informed"]),
    )
    with replacing(out / "README.md") as temporary:
        temporary.write_text(text, encoding="utf-8")


def main(config: tyro.conf.OmitArgPrefixes[Pretraining] = Pretraining(), out: Path = FOLDER) -> None:  # noqa: B008
    """Pretrain the miniature and write its folder."""
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.disable_progress_bar()
    began = time.monotonic()
    evaluations: list[dict[str, float]] = []

    def tell(figures: dict[str, float]) -> None:
        evaluations.append(figures)
        line = "  ".join(f"{name} {figure}" for name, figure in figures.items())
        print(f"{line}  ({time.monotonic() - began:.0f} s)", flush=True)

    print("held out:", bounds(held_out(config)), flush=True)
    model, tokenizer = pretrain(config, tell)
    write(out, config, model, tokenizer, evaluations)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
