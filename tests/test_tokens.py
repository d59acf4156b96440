"""Tokenised texts: each row as the tokenizer itself gives it, kept in whole files, made again when damaged."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerBase

from skillneurons.errors import SkillNeuronsError
from skillneurons.tasks import Split, Task, Tokens, load_task, tokenize
from skillneurons.tasks import tokens as module
from skillneurons.tasks.tokens import definition, separates

from . import vocabulary

FAMILIES: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "bert": vocabulary.bert,
    "modernbert": lambda: vocabulary.bert(types=False),
    "roberta": vocabulary.roberta,
    "gpt2": vocabulary.gpt2,
    "qwen": vocabulary.qwen,
    "opt": vocabulary.opt,
    "llama": vocabulary.llama,
    "t5": vocabulary.t5,
    "byt5": ByT5Tokenizer,  # written in Python: no serialised form, no sequence ids
}
NOTHING_BETWEEN = ("gpt2", "qwen")
WORDS = {"0": "negative", "1": "positive"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SKILLNEURONS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


def split_of(n: int = 24, pair: bool = False, seed: int = 0) -> Split:
    names = ("text", "other")[: 1 + pair]
    columns = [vocabulary.sentences(n, seed=seed + k) for k in range(len(names))]
    texts = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    rows = [{**row, "label": i % 2} for i, row in enumerate(texts)]
    return Task.from_rows("t", train=rows, dev=rows, test=rows, text=names, words=WORDS).train


def assert_same(left: Tokens, right: Tokens) -> None:
    for name in ("ids", "offsets", "labels", "types"):
        a, b = getattr(left, name), getattr(right, name)
        assert (a is None) == (b is None)
        assert a is None or np.array_equal(a, b)
    assert (left.cut, left.limit) == (right.cut, right.limit)


@pytest.mark.parametrize("limit", [None, 9])
@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_what_the_tokenizer_gives(family: str, pair: bool, limit: int | None) -> None:
    tokenizer, split = FAMILIES[family](), split_of(pair=pair)
    tokens = tokenize(split, split.text, tokenizer, limit)
    assert len(tokens) == len(split) == 24
    assert np.array_equal(tokens.labels, split.labels)
    long = 0
    for i, row in enumerate(split.rows):
        texts = [row[name] for name in split.text]
        if pair and family in NOTHING_BETWEEN:
            texts = ["\n".join(texts)]
        whole = tokenizer(*texts)["input_ids"]
        long += limit is not None and len(whole) > limit
        expected = tokenizer(*texts, truncation=limit is not None, max_length=limit)
        assert tokens.row(i).tolist() == expected["input_ids"]
        assert tokens.lengths[i] == len(expected["input_ids"])
        types = tokens.types_row(i)
        assert (types is None) == (family != "bert")
        assert types is None or types.tolist() == expected["token_type_ids"]
    assert tokens.cut == long
    assert (long > 0) == (limit is not None)
    assert tokens.limit == limit


@pytest.mark.parametrize("family", FAMILIES)
def test_what_stands_between_a_pair(family: str) -> None:
    tokenizer = FAMILIES[family]()
    mask = tokenizer("film", "plot", return_special_tokens_mask=True)["special_tokens_mask"]
    words = [i for i, special in enumerate(mask) if not special]
    between = any(mask[words[0] : words[-1]])
    assert separates(tokenizer) == between == (family not in NOTHING_BETWEEN)


def test_the_arrays_are_memory_mapped_files() -> None:
    tokens = tokenize(split_of(), ("text",), vocabulary.bert())
    assert isinstance(tokens.ids, np.memmap)
    assert isinstance(tokens.types, np.memmap)
    assert [a.dtype for a in (tokens.ids, tokens.offsets, tokens.labels, tokens.types)] == ["i4", "i8", "i8", "u1"]
    assert repr(tokens) == f"Tokens(24 samples, {len(tokens.ids)} tokens, 0 cut)"
    with pytest.raises(ValueError, match="read-only"):
        tokens.ids[0] = 1


def test_more_than_a_batch_is_the_same_as_by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    split, tokenizer = split_of(2500), vocabulary.bert()
    whole = tokenize(split, split.text, tokenizer, limit=7)
    monkeypatch.setattr(module, "_BATCH", 7)
    monkeypatch.setattr(module, "_VERSION", "other")
    assert_same(tokenize(split, split.text, tokenizer, limit=7), whole)
    assert whole.cut == sum(len(ids) > 7 for ids in tokenizer(split.rows["text"][:])["input_ids"])


def test_a_second_time_nothing_is_tokenised(cache: Path) -> None:
    split, tokenizer = split_of(), vocabulary.bert()
    first = tokenize(split, split.text, tokenizer, limit=9)

    class Refusing(type(tokenizer)):  # type: ignore[misc]
        def __call__(self, *args: Any, **options: Any) -> Any:
            raise AssertionError("tokenised again")

    kind = type(tokenizer)
    tokenizer.__class__ = Refusing
    Refusing.__name__ = kind.__name__
    assert_same(tokenize(split_of(), split.text, tokenizer, limit=9), first)
    with pytest.raises(AssertionError, match="tokenised again"):
        tokenize(split, split.text, tokenizer, limit=8)
    assert len(list(cache.iterdir())) == 1


def test_the_key_is_all_that_decides_the_ids(cache: Path) -> None:
    split, tokenizer = split_of(pair=True), vocabulary.roberta()

    def folders(*calls: Callable[[], Tokens]) -> int:
        for call in calls:
            call()
        return len(list(cache.iterdir()))

    assert folders(lambda: tokenize(split, ("text", "other"), tokenizer)) == 1
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=30)
    assert folders(lambda: tokenize(split, ("text", "other"), tokenizer)) == 1
    assert folders(lambda: tokenize(split, ("other", "text"), tokenizer)) == 2
    assert folders(lambda: tokenize(split, ("text",), tokenizer)) == 3
    assert folders(lambda: tokenize(split, ("text", "other"), tokenizer, 50)) == 4
    assert folders(lambda: tokenize(split.take([1, 0]), ("text", "other"), tokenizer)) == 5
    assert folders(lambda: tokenize(split, ("text", "other"), vocabulary.gpt2())) == 6
    tokenizer.add_tokens(["film plot"])
    assert folders(lambda: tokenize(split, ("text", "other"), tokenizer)) == 7


def test_a_padding_tokenizer_pads_nothing() -> None:
    tokenizer = vocabulary.bert()
    expected = tokenize(split_of(), ("text",), tokenizer)
    again = vocabulary.bert()
    again.backend_tokenizer.enable_padding(length=30)
    again.backend_tokenizer.enable_truncation(3)
    again.add_tokens(["unheard"])  # another key, so that it is tokenised again
    assert np.array_equal(tokenize(split_of(), ("text",), again).ids, expected.ids)


def test_cut_from_the_right_whatever_the_tokenizers_side() -> None:
    split = split_of()
    tokenizer, left = vocabulary.bert(), vocabulary.bert()
    left.truncation_side = "left"
    left.add_tokens(["unheard"])
    expected = tokenize(split, split.text, tokenizer, limit=6)
    assert np.array_equal(tokenize(split, split.text, left, limit=6).ids, expected.ids)
    assert left.truncation_side == "left"


@pytest.mark.parametrize(("family", "pair", "least"), [("bert", False, 3), ("bert", True, 4), ("gpt2", True, 1)])
def test_a_limit_leaves_room(family: str, pair: bool, least: int) -> None:
    split, tokenizer = split_of(pair=pair), FAMILIES[family]()
    assert tokenize(split, split.text, tokenizer, least).lengths.max() == least
    with pytest.raises(SkillNeuronsError, match=f"limit of {least - 1} tokens leaves no room.* adds {least - 1} of"):
        tokenize(split, split.text, tokenizer, least - 1)


def test_texts_without_a_token() -> None:
    rows = [{"text": "", "label": i % 2} for i in range(4)]
    split = Task.from_rows("t", train=rows, dev=rows, test=rows, words=WORDS).train
    tokens = tokenize(split, ("text",), vocabulary.gpt2(), limit=5)
    assert tokens.lengths.tolist() == [0, 0, 0, 0]
    assert tokens.row(2).tolist() == []


def test_nothing_is_said_of_long_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(logging.Logger, "_log", lambda self, level, message, args, **rest: said.append(str(message)))
    for tokenizer in (vocabulary.t5(), ByT5Tokenizer()):
        tokenizer.model_max_length = 3
        split = split_of(pair=True)
        for limit in (None, 8):
            tokenize(split, split.text, tokenizer, limit)
    assert said == []
    tokenizer.deprecation_warnings = {}
    tokenizer("a film", "a plot", verbose=True)
    assert len(said) == 1, "the test would not have heard the warning"


@pytest.mark.parametrize("name", ["ids.npy", "offsets.npy", "labels.npy", "types.npy", "meta.json"])
@pytest.mark.parametrize("harm", ["cut", "emptied", "gone", "foreign"])
def test_a_damaged_folder_is_made_again(name: str, harm: str, cache: Path) -> None:
    split, tokenizer = split_of(), vocabulary.bert()
    before = tokenize(split, split.text, tokenizer)
    assert before.types is not None
    arrays = np.array(before.ids), np.array(before.offsets), np.array(before.types), np.array(before.labels)
    expected = Tokens(*arrays, before.cut, before.limit)
    del before
    (folder,) = cache.iterdir()
    content = (folder / name).read_bytes()
    if harm == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes({"cut": content[:-5], "emptied": b"", "foreign": b"[3]"}[harm])
    assert_same(tokenize(split, split.text, tokenizer), expected)
    assert (folder / name).read_bytes() == content


def test_a_stopped_writer_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split, tokenizer = split_of(), vocabulary.bert()
    encode, calls = module.encode, iter(range(99))

    def stopping(*args: Any) -> Any:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return encode(*args)

    monkeypatch.setattr(module, "_BATCH", 10)
    monkeypatch.setattr(module, "encode", stopping)
    with pytest.raises(KeyboardInterrupt):
        tokenize(split, split.text, tokenizer)
    assert list(cache.iterdir()) == []
    assert len(tokenize(split, split.text, tokenizer)) == 24


def test_what_killed_writers_left_goes_after_a_day(cache: Path) -> None:
    for name, age in {"old": 100_000, "new": 10}.items():
        left = cache / f".key.{name}"
        left.mkdir(parents=True)
        (left / "ids.npy").write_bytes(b"half")
        os.utime(left, (time.time() - age,) * 2)
    tokenize(split_of(), ("text",), vocabulary.bert())
    assert sorted(path.name for path in cache.iterdir() if path.name.startswith(".")) == [".key.new"]


def test_many_writers_agree(cache: Path) -> None:
    split, results = split_of(300), []
    begin = threading.Barrier(4)

    def work() -> None:
        tokenizer = vocabulary.bert()
        begin.wait()
        results.append(tokenize(split, split.text, tokenizer, limit=6))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for tokens in results:
        assert_same(tokens, results[0])
    assert [path.name.startswith(".") for path in cache.iterdir()] == [False]


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SKILLNEURONS_CACHE", str(tmp_path / "file"))
    with pytest.raises(SkillNeuronsError, match=r"cannot be kept in .*Not a directory.*set SKILLNEURONS_CACHE"):
        tokenize(split_of(), ("text",), vocabulary.bert())


def test_a_definition_is_complete_and_steady() -> None:
    told = {family: definition(make()) for family, make in FAMILIES.items()}
    assert told == {family: definition(make()) for family, make in FAMILIES.items()}
    assert len(set(told.values())) == len(told)


SIZES = {  # of the real tasks: train, dev (None: a fifth of train), test
    "sst2": (67_349, None, 872),
    "imdb": (8_000, None, 4_000),
    "tweet": (47_366, 2_000, 12_284),
    "mnli": (10_000, None, 3_000),
    "qnli": (4_253, None, 1_210),
    "ag_news": (8_454, None, 3_800),
    "dbpedia": (2_667, None, 742),
}


@pytest.mark.assets
@pytest.mark.parametrize("name", SIZES)
def test_the_real_tasks(name: str, assets: Path) -> None:
    task = load_task(assets / "tasks" / name)
    train, dev, test = SIZES[name]
    held = -(-train // 5) if dev is None else dev
    assert task.sizes == {"train": train - (held if dev is None else 0), "dev": held, "test": test}
    assert task.majority() < 0.6
    tokenizer = AutoTokenizer.from_pretrained(assets / "models" / "minilm-l6-mlm")
    tokens = tokenize(task.test, task.text, tokenizer, limit=64)
    assert len(tokens) == test
    assert tokens.lengths.max() <= 64
    lines = (assets / "tasks" / name / "test.jsonl").read_text(encoding="utf-8").split("\n")
    for i in (0, test // 2, test - 1):
        row = json.loads(lines[i])
        expected = tokenizer(*(row[column] for column in task.text), truncation=True, max_length=64)
        assert tokens.row(i).tolist() == expected["input_ids"]
        assert task.labels[tokens.labels[i]] == row["label"]
