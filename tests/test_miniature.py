"""The embedded miniature: its language, its tasks, the model that ships and the script that makes it."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerBase, RobertaForMaskedLM

from skillneurons.models.loading import MINIATURE
from skillneurons.tasks import Task, load_task
from skillneurons.tasks.genres import GENRES
from skillneurons.tasks.grammar import Document, Genre
from skillneurons.tasks.miniature import MINIATURE_TASKS, documents, miniature_task, vocabulary

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
SIZES = {"train": 2000, "dev": 600, "test": 1000}
LONGEST_PROMPT = 127

TINY = Genre(
    labels=("bad", "good"),
    words={"it": ("this", "that")},
    telling={"adj": {"bad": ("dull", "flat", "grey"), "good": ("fine", "bright")}},
    frames=("{it} is {adj}",),
    turned=("{it} is not {!adj}",),
    opposite={"bad": "good", "good": "bad"},
    sayings={"bad": ("never again",), "good": ()},
    fillers=("so it goes",),
    verdicts=("it is {label}",),
    doubt=0.2,
)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(SCRIPTS))
    try:
        return importlib.import_module("pretrain_miniature")
    finally:
        sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def log() -> dict[str, Any]:
    return json.loads((MINIATURE / "training.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model() -> RobertaForMaskedLM:
    return AutoModelForMaskedLM.from_pretrained(MINIATURE, local_files_only=True)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(MINIATURE, local_files_only=True)


def rows(task: Task) -> list[dict[str, Any]]:
    return [row for split in (task.train, task.dev, task.test) for row in split.rows]


def sample(genre: Genre, count: int, **options: Any) -> list[Document]:
    draw = Random("sample")
    return [genre.document(draw, label, **options) for _, label in zip(range(count), itertools.cycle(genre.labels))]


# ---------------------------------------------------------------- the language


def said(genre: Genre, label: str) -> dict[str, float]:
    """Every sentence of TINY's telling clauses under a label, with its chance: written out anew, by its text alone."""
    found: defaultdict[str, float] = defaultdict(float)
    for spoken in genre.labels:
        share = 1 - genre.doubt if spoken == label else genre.doubt
        other = "good" if spoken == "bad" else "bad"
        own = {"bad": ["never again"], "good": []}[spoken]
        for sentence in own:
            found[sentence] += share / (2 + len(own))
        for it in ("this", "that"):
            for pattern, words in (("is", genre.telling["adj"][spoken]), ("is not", genre.telling["adj"][other])):
                for word in words:
                    found[f"{it} {pattern} {word}"] += share / (2 + len(own)) / 2 / len(words)
    return found


def test_the_losses_that_the_grammar_allows_are_those_of_counting_every_text():
    chances = {label: said(TINY, label) for label in TINY.labels}
    assert all(math.isclose(sum(each.values()), 1) for each in chances.values())

    def joint(sentences: list[str]) -> float:
        return sum(0.5 * math.prod(chances[label].get(text, 0) for text in sentences) for label in TINY.labels)

    def loss(sentences: list[str], clause: int, word: int) -> float:
        total = 0.0
        for other in ("dull", "flat", "grey", "fine", "bright"):
            words = sentences[clause].split()
            words[word] = other
            total += joint([*sentences[:clause], " ".join(words), *sentences[clause + 1 :]])
        return -math.log(joint(sentences) / total)

    checked = 0
    for document in sample(TINY, 60):
        telling = [clause for clause in document.clauses if clause.label]
        sentences = [" ".join(clause.words) for clause in telling]
        both = sum(math.prod(chances[label][text] for text in sentences) for label in TINY.labels)
        for label in TINY.labels:
            expected = math.prod(chances[label][text] for text in sentences) / both
            assert math.isclose(TINY.posterior(document.clauses)[label], expected)
        for index, clause in enumerate(telling):
            if clause.latent is not None:
                assert math.isclose(TINY.informed(document, clause), loss(sentences, index, clause.latent))
                assert math.isclose(TINY.blind(clause), loss([sentences[index]], 0, clause.latent))
                checked += 1
    assert checked > 60


def test_a_verdict_names_the_label_first_or_last_and_settles_it():
    for genre in GENRES.values():
        for document in sample(genre, 60, verdict=1.0):
            assert document.verdict is not None
            assert document.sentences[0 if document.verdict_first else -1] is document.verdict
            named = [label for label in genre.labels if label in document.words]
            assert named == [document.label]
            for place, clause in document.latent():
                assert document.words[place] == clause.words[clause.latent or 0]
                others = {label: float(label == document.label) for label in genre.labels}
                if clause is document.verdict:
                    others = genre.posterior(document.clauses)
                    assert math.isclose(genre.informed(document, clause), -math.log(others[document.label]))
        assert {document.verdict_first for document in sample(genre, 60, verdict=1.0)} == {True, False}


@pytest.mark.parametrize("genre", GENRES.values(), ids=GENRES)
def test_a_sentence_speaks_for_one_label_and_a_word_of_a_slot_for_one(genre: Genre):
    spoken = defaultdict(set)
    for document in sample(genre, 4000):
        for clause in document.clauses:
            spoken[clause.words].add(clause.label)
    assert all(len(labels) == 1 for labels in spoken.values())
    for by_label in genre.telling.values():
        words = [word for each in by_label.values() for word in each]
        assert len(words) == len(set(words))


def test_pretraining_documents_have_more_telling_clauses_than_any_text_of_a_task():
    def telling(document: Document) -> int:
        return sum(clause.label is not None for clause in document.clauses)

    stream = [document for _, document in itertools.islice(documents("some"), 300)]
    assert min(map(telling, stream)) > max(telling(each) for genre in GENRES.values() for each in sample(genre, 300))
    assert 0.4 < sum(document.verdict is not None for document in stream) / len(stream) < 0.6


# ---------------------------------------------------------------- the tasks


@pytest.mark.parametrize("name", MINIATURE_TASKS)
def test_a_task_has_disjoint_splits_of_equally_frequent_labels(name: str):
    task = load_task(f"miniature/{name}")
    assert (task.name, task.source, task.kind) == (name, f"miniature/{name}", "sentiment")
    assert task.sizes == SIZES
    for split in (task.train, task.dev, task.test):
        counts = Counter(row["label"] for row in split.rows)
        assert set(counts) == set(range(len(task.labels)))
        assert max(counts.values()) - min(counts.values()) <= 1
    texts = [row["text"] for row in rows(task)]
    assert len(texts) == len(set(texts))


def test_messages_is_three_way_with_the_subtasks_of_tweet():
    task = miniature_task("messages")
    assert task.labels == ("negative", "neutral", "positive")
    assert [(part.name, part.positive, part.negative) for part in task.subtasks] == [
        ("positive-negative", ("positive",), ("negative",)),
        ("neutral-rest", ("neutral",), ("negative", "positive")),
    ]


@pytest.mark.parametrize("genre", GENRES.values(), ids=GENRES)
def test_bayes_rule_reaches_about_95_percent_and_no_single_word_comes_near(genre: Genre):
    told = sample(genre, 3000)
    right = 0.0
    for document in told:
        chances = genre.posterior(document.clauses)
        best = [label for label, chance in chances.items() if math.isclose(chance, max(chances.values()))]
        right += (document.label in best) / len(best)
    assert 0.94 < right / len(told) < 0.98

    counts = {label: Counter[str]() for label in genre.labels}
    for document in told:
        counts[document.label].update(set(document.words))
    totals = Counter(document.label for document in told)
    for word in genre.vocabulary:
        shares = [count[word] / totals[label] for label, count in counts.items()]
        assert (max(shares) + sum(1 - share for share in shares) - (1 - max(shares))) / len(shares) < 0.75


def test_texts_are_the_same_in_another_process_with_another_order_of_sets():
    program = (
        "from skillneurons.tasks.miniature import *\nfrom itertools import islice\n"
        "print([str(document) for _, document in islice(documents('x'), 50)])\n"
        "print(vocabulary(), list(miniature_task('messages').dev.rows))"
    )

    def printed(seed: str) -> str:
        environment = os.environ | {"PYTHONHASHSEED": seed}
        return subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        ).stdout

    first = printed("1")
    assert first == printed("2")
    assert len(first) > 20_000


@pytest.mark.parametrize("name", MINIATURE_TASKS)
def test_the_tokenizer_knows_every_word_and_a_text_fits_beside_the_longest_prompt(
    name: str, tokenizer: PreTrainedTokenizerBase, model: RobertaForMaskedLM
):
    task = miniature_task(name)
    texts = [row["text"] for row in rows(task)]
    assert not any(set(text.split()) & {"negative", "neutral", "positive"} for text in texts)
    ids = tokenizer(texts)["input_ids"]
    assert not any(tokenizer.unk_token_id in each for each in ids)
    assert [len(each) for each in ids] == [len(text.split()) + 2 for text in texts]
    for word in task.words.values():
        assert len(tokenizer.encode(word, add_special_tokens=False)) == 1
    positions = model.config.max_position_embeddings - model.roberta.embeddings.padding_idx - 1
    assert 1 + LONGEST_PROMPT + max(map(len, ids)) <= positions == tokenizer.model_max_length


# ---------------------------------------------------------------- the model that ships


def test_the_shipped_tokenizer_is_the_language_s_own_in_roberta_s_form(
    script: ModuleType, tokenizer: PreTrainedTokenizerBase, model: RobertaForMaskedLM
):
    assert tokenizer.get_vocab() == script.make_tokenizer(256).get_vocab()
    assert set(vocabulary()) <= set(tokenizer.get_vocab())
    assert len(tokenizer) == model.config.vocab_size
    pair = tokenizer("The plot is fresh.", "we loved <mask> qwerty")
    assert tokenizer.decode(pair["input_ids"]) == "<s> the plot is fresh . </s> </s> we loved <mask> <unk> </s>"


def test_the_shipped_model_has_learned_the_label_as_its_log_says(
    script: ModuleType, log: dict[str, Any], model: RobertaForMaskedLM, tokenizer: PreTrainedTokenizerBase
):
    samples = script.held_out(script.Pretraining(**log["config"]))
    bounds = script.bounds(samples)
    assert bounds == log["bounds"]
    figures = script.measure(model, tokenizer, samples)
    last = log["evaluations"][-1]
    for name, figure in figures.items():
        # Losses are float32 sums in an order that differs between processors; one document more or less is 1/300.
        assert figure == pytest.approx(last[name], abs=0.004 if "verdict" in name else 0.001)
    # The log has 80 % of the gain; a model that has grammar alone has none of it, or less than none.
    known = bounds["latent_blind"] - bounds["latent_informed"]
    for name in ("latent", "latent_far"):
        assert bounds["latent_blind"] - figures[name] > 0.75 * known
    assert min(figures["verdict_after"], figures["verdict_before"]) > 0.95


def test_the_shipped_folder_is_what_the_command_makes(script: ModuleType, log: dict[str, Any]):
    assert script.Pretraining(**log["config"]) == script.Pretraining()
    names = {path.name for path in MINIATURE.iterdir()}
    assert names == {
        "README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "training.json",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in MINIATURE.iterdir()) < 4_000_000
    assert (MINIATURE / "README.md").read_text(encoding="utf-8") == script.card(log)


# ---------------------------------------------------------------- the script


def test_a_few_steps_lower_the_loss_and_the_same_seed_gives_the_same_weights(script: ModuleType):
    config = script.Pretraining(
        steps=24, batch=16, warm_up=4, cool_down=4, width=32, heads=2, ffn=64, evaluate_every=8, held_out=6
    )
    told: list[dict[str, float]] = []
    first, _ = script.pretrain(config, told.append)
    second, _ = script.pretrain(config, lambda figures: None)
    assert [figures["step"] for figures in told] == [8, 16, 24]
    assert told[0]["training"] > told[1]["training"] > told[2]["training"]
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other, _ = script.pretrain(script.Pretraining(**config.model_dump() | {"seed": 1}), lambda figures: None)
    assert not torch.equal(first.lm_head.dense.weight, other.lm_head.dense.weight)


def test_hidden_words_are_words_and_come_in_the_shares_asked_for(script: ModuleType):
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 365, (400, 100), generator=draw)
    concealed, hidden = script.conceal(ids, 0.15, draw)
    special = len(script.SPECIAL)
    assert not hidden[ids < special].any()
    assert torch.equal(concealed[~hidden], ids[~hidden])
    assert hidden[ids >= special].float().mean().item() == pytest.approx(0.15, abs=0.01)
    masked = concealed[hidden] == script.SPECIAL.index("<mask>")
    assert masked.float().mean().item() == pytest.approx(0.8, abs=0.02)
    assert (concealed[hidden] == ids[hidden]).float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert concealed[hidden][~masked].min() >= special
