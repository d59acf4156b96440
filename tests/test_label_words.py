"""Label words: what is drawn, that every run is a plain `find`, and that pairs are told apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from scipy.stats import spearmanr

import skillneurons as sn
from skillneurons.evidence.label_words import LabelWordSets, drawn_words, jackknife, label_words
from skillneurons.finding.portraits.shading import plain
from skillneurons.tuning.config import TuneConfig

from .families import FAMILIES, WORDS, tiny
from .makings import Form, make

TUNING: dict[str, Any] = {"trials": 1, "positions": 3, "steps": 3, "evaluate_every": 3, "init_std": 0.5, "lr": 0.1}


@cache
def backbone(name: str = "bert") -> sn.Backbone:
    model, tokenizer = tiny(name)
    return sn.load_model(model, tokenizer=tokenizer)


@cache
def result(form: Form = "single") -> LabelWordSets:
    return label_words(backbone(), make(form), sets=3, seeds=2, seed=4, **TUNING)


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    pyplot.close("all")


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("form", ["single", "three"])
def test_words_are_single_tokens_and_come_once(name: str, form: Form) -> None:
    model, task = backbone(name), make(form)
    sets = drawn_words(model, task, 5, seed=1)
    assert len(sets) == 5 and all(list(own) == list(task.labels) for own in sets)
    every = [word for own in sets for word in own.values()]
    assert len(set(every)) == len(every) == 5 * len(task.labels)
    assert all(word.isalpha() and len(word) > 1 and word not in task.words.values() for word in every)
    # a vocabulary by bytes has beginnings of words too
    by_bytes = len(model.tokenizer.encode(" dul", add_special_tokens=False)) == 1 and not _unknown(model, " dul")
    known = {word[:end] for word in WORDS for end in range(1, len(word) + 1)} if by_bytes else set(WORDS)
    assert set(every) <= known
    for own in sets:
        assert [word.word for word in model.label_words(own)] == list(own.values())  # or it would raise
    assert drawn_words(model, task, 5, seed=1) == sets != drawn_words(model, task, 5, seed=2)


def _unknown(model: sn.Backbone, text: str) -> bool:
    return model.tokenizer.unk_token_id in model.tokenizer.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("form", ["single", "three"])
def test_every_run_is_a_plain_find(form: Form) -> None:
    task = make(form)
    found = result(form)
    layers = []
    for run in found.about["runs"]:
        words = run["words"] if run["random"] else task.words
        own = sn.find(
            backbone(), replace(task, words=words, source=None), config=TuneConfig.make(**TUNING, seed=run["seed"])
        )
        assert run["accuracy"] == np.mean(own.results["prompt_accuracy"])
        table = own.table()
        rows = table[table["subtask"] == task.name].sort_values(["layer", "neuron"])
        value = "predictivity" if form == "single" else "rank"
        layers.append([part[value].to_numpy().round(9) for _, part in rows.groupby("layer")])
    assert [run["run"] for run in found.about["runs"]] == ["words-1", "words-2", "words-3", "seed-1", "seed-2"]
    assert [run["seed"] for run in found.about["runs"]] == [4, 5, 6, 4, 5]
    names = {run["run"]: place for place, run in enumerate(found.about["runs"])}
    for row in found.rows:
        one, other = (layers[names[row[end]]] for end in ("one", "other"))
        expected = [spearmanr(a, b).statistic for a, b in zip(one, other, strict=True)]
        assert row["correlation"] == pytest.approx(np.mean(expected), abs=1e-12)


def test_pairs_are_told_apart() -> None:
    table = result().table()
    pairs = {kind: {*zip(own["one"], own["other"], strict=True)} for kind, own in table.groupby("pairs")}
    assert pairs == {
        "random words": {("words-1", "words-2"), ("words-1", "words-3"), ("words-2", "words-3")},
        "own words": {("seed-1", "seed-2")},
        "own and random": {("words-1", "seed-2"), ("words-2", "seed-1"), ("words-3", "seed-1"), ("words-3", "seed-2")},
    }
    for kind, mean in result().means().items():
        assert mean == pytest.approx(table[table["pairs"] == kind]["correlation"].mean())


def correlations(count: int, own: float, random: float, noise: float) -> LabelWordSets:
    """Runs by random words, then as many by own words, with these correlations among themselves."""
    draw = np.random.default_rng(1).normal(size=(2 * count, 2 * count)) * noise
    values = np.full((2 * count, 2 * count), np.nan)
    values[:count, :count], values[count:, count:] = random, own
    values += (draw + draw.T) / 2
    runs = [{"random": place < count, "words": {}, "run": "x", "accuracy": 1.0} for place in range(2 * count)]
    rows = [
        {"pairs": pairs, "correlation": values[start + one, start + other]}
        for pairs, start in (("random words", 0), ("own words", count))
        for one in range(count)
        for other in range(one)
    ]
    return LabelWordSets({"runs": runs}, rows, {"correlation": torch.from_numpy(values[None])})


def test_the_jackknife_is_a_loops() -> None:
    values = np.random.default_rng(0).normal(size=(5, 5))
    values += values.T
    values[1, 3] = values[3, 1] = np.nan

    def mean(runs: list[int]) -> float:
        return float(np.nanmean([values[one, other] for one, other in combinations(runs, 2)]))

    without = np.array([mean([run for run in range(5) if run != left]) for left in range(5)])
    error = np.sqrt(4 / 5 * ((without - without.mean()) ** 2).sum())
    assert jackknife(values) == pytest.approx((mean([*range(5)]), error))
    assert np.isnan(jackknife(values[:2, :2])[1]) and jackknife(values[:2, :2])[0] == values[0, 1]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ((5, 0.9, 0.88, 0.02), "Holds: random label words order the neurons as the task's own words do; rank"),
        ((5, 0.9, 0.5, 0.02), "Does not hold: random label words order the neurons otherwise"),
        ((5, 0.9, 0.82, 0.2), "Cannot be told with this much data: whether random label words order"),
        ((5, 0.02, 0.02, 0.05), "Cannot be told"),  # where own words agree on nothing, a tenth of it is nothing
        ((2, 0.9, 0.9, 0.0), "Cannot be told"),
    ],
)
def test_its_verdict(found: tuple[int, float, float, float], said: str) -> None:
    made = correlations(*found)
    assert made.verdict.startswith(said)
    lost, low, high = made.lost()
    assert lost == pytest.approx(made.means()["own words"] - made.means()["random words"])
    assert np.isnan(low) if found[0] == 2 else low < lost < high


def test_words_may_be_given() -> None:
    given = [{"positive": "warm", "negative": "cold"}, {"negative": "river", "positive": "bank"}]
    found = label_words(backbone(), make("single"), words=given, seeds=2, **TUNING)
    assert found.sets == [{"negative": "cold", "positive": "warm"}, {"negative": "river", "positive": "bank"}]
    assert [list(own) for own in found.sets] == [["negative", "positive"]] * 2


def test_the_runs_are_kept_and_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = make("single")
    first = label_words(backbone(), task, out=tmp_path, sets=2, seeds=2, **TUNING)
    first.save(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/run.json")}
    assert sorted(path.parent.name for path in before) == ["seed-1", "seed-2", "words-1", "words-2"]
    (tmp_path / "words-2" / "run.json").unlink()
    capsys.readouterr()
    again = label_words(backbone(), task, out=tmp_path, sets=2, seeds=2, **TUNING)
    assert capsys.readouterr().err.count("holds this run already") == 3
    assert again.table().equals(first.table()) and LabelWordSets.load(tmp_path).table().equals(first.table())
    kept = sn.SkillNeurons.load(tmp_path / "words-1")
    assert kept.task.words == first.sets[0]  # the task goes with its run


def test_it_is_shown() -> None:
    screen, ax = plain(result().screen()), result().plot()
    for word in (word for own in result().sets for word in own.values()):
        assert word in screen
    assert f"{result().means()['random words']:.2f}" in screen
    assert result().verdict in " ".join(screen.split())
    drawn = [np.asarray(own.get_xdata()).tolist() for own in ax.get_lines()[::2]]
    assert drawn == [result().values(pairs) for pairs in ("random words", "own words", "own and random")]


def test_what_cannot_be_compared_is_refused() -> None:
    model, task = backbone(), make("single")
    with pytest.raises(sn.SkillNeuronsError, match=r"a random prompt is not tuned.* Use --prompt soft"):
        label_words(model, task, prompt="random")
    with pytest.raises(
        sn.SkillNeuronsError, match=r"99 sets of label words for 2 labels take 198 .* has \d+\. Ask for"
    ):
        label_words(model, task, sets=99)
    with pytest.raises(sn.SkillNeuronsError, match=r"for each label of single \(negative, positive\); given: positive"):
        label_words(model, task, words=[{"positive": "warm"}, {"positive": "cold"}])
    with pytest.raises(sn.SkillNeuronsError, match=r"'splendid' of label 'positive' is not one known token"):
        label_words(model, task, words=[{"positive": "splendid", "negative": "cold"}, task.words])
    with pytest.raises(sn.SkillNeuronsError, match=r"sets: .*greater than or equal to 2"):
        label_words(model, task, sets=1)
