"""Pretrain the embedded miniature: a small RoBERTa, by masked language modelling on the miniature's unlabelled text.

    python scripts/pretrain_miniature.py                               # writes the folder that the package ships
    python scripts/pretrain_miniature.py --out elsewhere --seed 1      # every option: --help

The same options, seed and versions on the same kind of processor give the same weights. Training took 32 minutes on one
thread, beside other work. Grammar is learned first; for some four thousand steps, what the clauses of a document have
in common stays unseen; to compare two texts is learned last. So each evaluation tells apart the loss at the words that
only the label decides and the loss at all others (see `miniature_figures`).

Documents start at random positions, so that every position is trained and a text is understood wherever a prompt
pushes it. The position table starts as sinusoids and is trained from there: from a table drawn at random, the model
takes long to learn which rows are neighbours.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TypedDict

import tokenizers
import torch
import transformers
import tyro
from miniature_figures import FIRST, Figures, Sample, bounds, measure, predict, table
from pydantic import Field
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

from skillneurons.config import Config
from skillneurons.files import replacing, write_json
from skillneurons.tasks.miniature import MINIATURE_TASKS, documents, vocabulary

FOLDER = Path(__file__).resolve().parents[1] / "src" / "skillneurons" / "models" / "miniature"
CARD = Path(__file__).with_name("miniature_card.md")
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")

Count = Annotated[int, Field(ge=1)]


class Evaluation(TypedDict):
    """A line of the log: the mean training loss since the last one, and the figures of each genre."""

    step: int
    training: float
    genres: Figures


class Pretraining(Config):
    """What decides the weights."""

    seed: int = 0
    steps: Count = 12000
    batch: Count = 64
    learning_rate: float = 1.5e-3
    warm_up: Count = 100
    """Steps over which the learning rate rises."""
    cool_down: Count = 4000
    """Last steps, over which it falls to zero."""
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    clip: float = 1.0
    masked: float = 0.2
    """Share of the words that are to be guessed; of these 80 % are masked, 10 % replaced and 10 % left."""
    verdicts: float = 0.75
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
    held_out: Count = 100
    """Documents of each genre in an evaluation."""
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


def held_out(config: Pretraining) -> dict[str, list[Sample]]:
    """Documents of each genre, of their own seed and without a verdict."""
    return {
        name: list(islice(documents(f"held out {name}", verdict=0.0, names=(name,)), config.held_out))
        for name in MINIATURE_TASKS
    }


def pretrain(
    config: Pretraining, tell: Callable[[Evaluation], None]
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
            training = round(sum(losses) / len(losses), 4)
            tell({"step": step, "training": training, "genres": measure(model, tokenizer, samples)})
            losses.clear()
    return model.eval(), tokenizer


def write(
    out: Path,
    config: Pretraining,
    model: RobertaForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    evaluations: Sequence[Evaluation],
) -> None:
    """Write the whole folder: the model, its tokenizer, the log, and a README made from the log."""
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
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
    with replacing(out / "README.md") as temporary:
        temporary.write_text(card(log), encoding="utf-8")


def card(log: dict[str, Any]) -> str:
    """The folder's README: the text of `miniature_card.md` with the figures of a log."""
    facts = {name: log[name] for name in ("vocabulary", "parameters")}
    learned = table(log["bounds"], log["evaluations"][-1]["genres"])
    return CARD.read_text(encoding="utf-8").format(**log["config"], **facts, table=learned)


def main(config: tyro.conf.OmitArgPrefixes[Pretraining] = Pretraining(), out: Path = FOLDER) -> None:  # noqa: B008
    """Pretrain the miniature and write its folder."""
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.disable_progress_bar()
    began = time.monotonic()
    evaluations: list[Evaluation] = []

    def tell(evaluation: Evaluation) -> None:
        evaluations.append(evaluation)
        print(f"step {evaluation['step']}: training {evaluation['training']} ({time.monotonic() - began:.0f} s)")
        for name, figures in evaluation["genres"].items():
            print(f"  {name:13}", *(f"{figure} {value:.4f} " for figure, value in figures.items()), flush=True)

    print("held out:", bounds(held_out(config)), flush=True)
    model, tokenizer = pretrain(config, tell)
    write(out, config, model, tokenizer, evaluations)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
