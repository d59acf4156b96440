"""The embedded miniature: its language, its tasks, the model that ships and the script that makes it."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import os
import re
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

from skillneurons.models.loading import MINIATURE, load_model
from skillneurons.tasks import Task, load_task
from skillneurons.tasks.catalogue import CATALOGUE
from skillneurons.tasks.document import BREAK, Document
from skillneurons.tasks.grammar import Genre
from skillneurons.tasks.miniature import (
    GENRES,
    KINDS,
    MINIATURE_TASKS,
    AnyGenre,
    documents,
    miniature_task,
    vocabulary,
)
from skillneurons.tasks.pairs import Pairs
from skillneurons.tasks.scenes import QUESTIONS, STATEMENTS

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
SINGLE = {name: genre for name, genre in GENRES.items() if isinstance(genre, Genre)}
PAIRED = {name: genre for name, genre in GENRES.items() if not isinstance(genre, Genre)}


def imported(name: str) -> ModuleType:
    sys.path.insert(0, str(SCRIPTS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return imported("pretrain_miniature")


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


def sample(genre: AnyGenre, count: int, **options: Any) -> list[Document]:
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
            assert math.isclose(TINY.posterior(document)[label], expected)
        for index, clause in enumerate(telling):
            if clause.latent is not None:
                assert math.isclose(TINY.informed(document, clause), loss(sentences, index, clause.latent))
                assert math.isclose(TINY.blind(clause), loss([sentences[index]], 0, clause.latent))
                checked += 1
    assert checked > 60


def moods(genre: Genre) -> dict[str, re.Pattern[str]]:
    """A pattern for all that a genre says under each label, its sayings left out, made from its words and frames."""
    patterns = {}
    for label in genre.labels:
        turned = genre.opposite[label]
        said = []
        for frame in (*genre.frames, *genre.turned):
            parts = []
            for part in frame.split():
                name = part.strip("{!}")
                own = genre.words.get(name) or genre.telling.get(name, {}).get(turned if "!" in part else label)
                parts.append(f"(?:{'|'.join(own)})" if own and "{" in part else re.escape(part))
            said.append(" ".join(parts))
        patterns[label] = re.compile("|".join(said))
    return patterns


def test_a_hypothesis_agrees_with_its_premise_contradicts_it_or_is_about_another_thing():
    readers = {(name, label): own for name in ("films", "products") for label, own in moods(SINGLE[name]).items()}

    def read(text: str) -> tuple[str, str]:
        """The genre and the label that all sentences of a text speak for."""
        found = {
            key for clause in text.split(" .")[:-1] for key, own in readers.items() if own.fullmatch(clause.strip())
        }
        assert len(found) == 1
        return found.pop()

    for document in sample(STATEMENTS, 600):
        (first, mood), (second, other) = map(read, document.columns())
        relation = "neutral" if first != second else "entailment" if mood == other else "contradiction"
        assert relation == document.label


def test_a_sentence_tells_what_the_question_asks_for_or_does_not():
    for document in sample(QUESTIONS, 300):
        question, sentence = (set(text.split()) for text in document.columns())
        asked = [kind for kind, frames in QUESTIONS.asked.items() if " ".join(document.clauses[0].words) in frames]
        assert len(asked) == 1
        assert bool(sentence & set(QUESTIONS.words[asked[0]])) == (document.label == "entailment")
        assert not question & {word for words in QUESTIONS.words.values() for word in words}


@pytest.mark.parametrize("genre", PAIRED.values(), ids=PAIRED)
def test_neither_text_of_a_pair_alone_says_anything_of_its_label(genre: AnyGenre):
    told = sample(genre, 6000)
    share = 1 / len(genre.labels)
    for text in (0, 1):
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for document in told:
            column = document.columns()[text]
            counts[f"{len(column.split())} words"][document.label] += 1
            for word in set(column.split()):
                counts[word][document.label] += 1
        for count in counts.values():
            total = sum(count.values())
            # 5 standard errors: a hundred counts are looked at, of 3 labels each
            slack = 5 * math.sqrt(share * (1 - share) / total)
            assert all(abs(count[label] / total - share) < slack for label in genre.labels)


@pytest.mark.parametrize("genre", GENRES.values(), ids=GENRES)
def test_a_verdict_names_the_label_first_or_last_and_settles_it(genre: AnyGenre):
    for document in sample(genre, 90, verdict=1.0):
        assert document.verdict is not None
        assert document.sentences[0 if document.verdict_first else -1] is document.verdict
        named = [label for label, word in genre.named.items() if word in document.words]
        assert named == [document.label]
        assert (document.verdict.latent, document.verdict) in [
            (clause.latent, clause)
            for place, clause in document.latent()
            if document.words[place] in genre.named.values()
        ]
        assert genre.blind(document.verdict) == pytest.approx(math.log(len(genre.labels)))
        settled = genre.posterior(document)[document.label]
        assert genre.informed(document, document.verdict) == pytest.approx(-math.log(settled))
        for place, clause in document.latent():
            assert document.words[place] == clause.words[clause.latent or 0]
    assert {document.verdict_first for document in sample(genre, 60, verdict=1.0)} == {True, False}


def test_a_pair_is_written_as_the_tokenizer_writes_it(tokenizer: PreTrainedTokenizerBase):
    for genre in PAIRED.values():
        for document in sample(genre, 20, verdict=0.5):
            assert tuple(document.words[len(document.columns()[0].split()) :][:2]) == BREAK
            assert tokenizer(str(document))["input_ids"] == tokenizer(*document.columns())["input_ids"]


@pytest.mark.parametrize("genre", SINGLE.values(), ids=SINGLE)
def test_a_sentence_speaks_for_one_label_and_a_word_of_a_slot_for_one(genre: Genre):
    spoken = defaultdict(set)
    for document in sample(genre, 4000):
        for clause in document.clauses:
            spoken[clause.words].add(clause.label)
    assert all(len(labels) == 1 for labels in spoken.values())
    for by_label in genre.telling.values():
        words = [word for each in by_label.values() for word in each]
        assert len(words) == len(set(words))


def test_no_pretraining_document_has_as_many_telling_clauses_as_a_text_of_its_genre_s_task():
    def telling(genre: AnyGenre, document: Document) -> int:
        if isinstance(genre, Pairs):
            return len(document.texts[1] if genre is QUESTIONS else document.texts[0])
        return sum(clause.label is not None for clause in document.clauses)

    seen: defaultdict[int, set[int]] = defaultdict(set)
    for genre, document in itertools.islice(documents("some", verdict=0.0), 2000):
        seen[id(genre)].add(telling(genre, document))
    for genre in GENRES.values():
        assert seen[id(genre)] == set(genre.in_text)
        assert {telling(genre, document) for document in sample(genre, 300)} == set(genre.in_task)
        assert not set(genre.in_text) & set(genre.in_task)
    texts = {tuple(row[column] for column in task.text) for task in map(miniature_task, GENRES) for row in rows(task)}
    stream = [document for _, document in itertools.islice(documents("some", verdict=0.0), 2000)]
    assert not any(document.columns() in texts for document in stream)
    named = [document.verdict is not None for _, document in itertools.islice(documents("some", verdict=0.5), 600)]
    assert 0.4 < sum(named) / len(named) < 0.6


# ---------------------------------------------------------------- the tasks


@pytest.mark.parametrize("name", MINIATURE_TASKS)
def test_a_task_has_disjoint_splits_of_equally_frequent_labels(name: str):
    task = load_task(f"miniature/{name}")
    assert (task.name, task.source) == (name, f"miniature/{name}")
    assert name in KINDS[str(task.kind)]
    assert task.sizes == SIZES
    for split in (task.train, task.dev, task.test):
        counts = Counter(row["label"] for row in split.rows)
        assert set(counts) == set(range(len(task.labels)))
        assert max(counts.values()) - min(counts.values()) <= 1
    texts = [tuple(row[column] for column in task.text) for row in rows(task)]
    assert len(texts) == len(set(texts))


def test_the_tasks_are_of_the_kinds_and_forms_of_the_paper_s_seven():
    entries = [entry.file for entry in CATALOGUE.values()]
    tasks = [miniature_task(name) for name in MINIATURE_TASKS]
    expected = Counter((file.kind, len(file.text), len(file.labels)) for file in entries)
    assert Counter((task.kind, len(task.text), len(task.labels)) for task in tasks) == expected
    assert sorted(itertools.chain(*KINDS.values())) == sorted(MINIATURE_TASKS)


def test_statements_are_three_way_with_the_labels_and_subtasks_of_mnli():
    task, mnli = miniature_task("statements"), CATALOGUE["mnli"].file
    assert (task.labels, task.text) == (mnli.labels, mnli.text)
    assert task.subtasks == mnli.subtasks
    questions, qnli = miniature_task("questions"), CATALOGUE["qnli"].file
    assert (questions.labels, questions.text) == (qnli.labels, qnli.text)


def test_messages_is_three_way_with_the_subtasks_of_tweet():
    task = miniature_task("messages")
    assert task.labels == ("negative", "neutral", "positive")
    assert [(part.name, part.positive, part.negative) for part in task.subtasks] == [
        ("positive-negative", ("positive",), ("negative",)),
        ("neutral-rest", ("neutral",), ("negative", "positive")),
    ]


@pytest.mark.parametrize("genre", SINGLE.values(), ids=SINGLE)
def test_bayes_rule_reaches_about_95_percent_and_no_single_word_comes_near(genre: Genre):
    told = sample(genre, 3000)
    right = 0.0
    for document in told:
        chances = genre.posterior(document)
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
        "print(vocabulary(), [list(miniature_task(name).dev.rows) for name in ('messages', 'statements', 'questions')])"
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
    texts = [[row[column] for row in rows(task)] for column in task.text]
    named = {*task.labels, *task.words.values()}
    assert not any(set(text.split()) & named for column in texts for text in column)
    ids = tokenizer(*texts)["input_ids"]
    assert not any(tokenizer.unk_token_id in each for each in ids)
    sizes = [sum(len(text.split()) for text in row) for row in zip(*texts, strict=True)]
    assert [len(each) for each in ids] == [size + 2 * len(task.text) for size in sizes]
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
    last = log["evaluations"][-1]["genres"]
    for genre, figures in script.measure(model, tokenizer, samples).items():
        for name, figure in figures.items():
            # Losses are float32 sums in an order that differs between processors; one document more or less is 1/100.
            assert figure == pytest.approx(last[genre][name], abs=0.011 if "verdict" in name else 0.001)
        # A model that has grammar alone has none of the gain, or less than none.
        if "latent" in figures:
            known = bounds[genre]["latent_blind"] - bounds[genre]["latent_informed"]
            for name in ("latent", "latent_far"):
                assert bounds[genre]["latent_blind"] - figures[name] > 0.5 * known
        least = 0.7 if genre == "statements" else 0.95  # the one genre that the model has learned in part
        assert min(figures["verdict_after"], figures["verdict_before"]) > least


def test_the_shipped_folder_is_what_the_command_makes(script: ModuleType, log: dict[str, Any]):
    assert script.Pretraining(**log["config"]) == script.Pretraining()
    names = {path.name for path in MINIATURE.iterdir()}
    assert names == {
        "README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "training.json",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in MINIATURE.iterdir()) < 4_000_000
    assert (MINIATURE / "README.md").read_text(encoding="utf-8") == script.card(log)


def test_the_page_says_what_the_account_and_the_log_say(log: dict[str, Any]):
    account = imported("miniature_account")
    docs = SCRIPTS.parent / "docs"
    figures = json.loads((docs / "miniature.json").read_text(encoding="utf-8"))
    assert (docs / "miniature.md").read_text(encoding="utf-8") == account.page(figures, log)
    assert tuple(figures["tasks"]) == MINIATURE_TASKS
    assert figures["config"] == account.CONFIG.model_dump(mode="json")
    assert figures["model"] == load_model("miniature").fingerprint


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
