"""Agreement of trials and of runs is what scipy and a plain count say, and chance what random orders give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from matplotlib import pyplot
from scipy.stats import spearmanr

import skillneurons as sn
from skillneurons.finding.agreement import OWN, Agreement, Pair, compare, shared, stability

from .families import tiny
from .makings import Form, easy, make

OPTIONS: dict[str, Any] = {"trials": 3, "positions": 3, "prompt": "random", "init_std": 0.5}


@cache
def backbone(name: str = "roberta") -> sn.Backbone:
    model, tokenizer = tiny(name)
    return sn.load_model(model, tokenizer=tokenizer)


@cache
def found(form: Form, seed: int = 0) -> sn.SkillNeurons:
    return sn.find(backbone(), make(form), seed=seed, **OPTIONS)


def ranked(run: sn.SkillNeurons, subtask: str) -> pd.DataFrame:
    """One ranking's rows, by layer and neuron."""
    table = run.table()
    return table[table["subtask"] == subtask].sort_values(["layer", "neuron"])


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    pyplot.close("all")


@pytest.mark.parametrize("form", ["single", "three"])
def test_trials_agree_as_a_plain_count_says(form: Form) -> None:
    skill = found(form)
    result = stability(skill, fraction=0.1)
    assert (result.of, result.top, result.neurons) == ("trials", 13, 132)
    table = result.table()
    assert len(table) == 3 * len(skill.about["subtasks"])
    for index, subtask in enumerate(skill.about["subtasks"]):
        values = []
        for scores in skill.scores:
            accuracy = np.concatenate([scores.exact_accuracy(layer)[index] for layer in range(3)], axis=1)
            values.append(np.maximum(accuracy, 1 - accuracy).max(0).round(9))
        for row in table[table["ranking"] == subtask["name"]].to_dict("records"):
            one, other = (int(row[name].removeprefix("trial ")) - 1 for name in ("one", "other"))
            assert row["correlation"] == pytest.approx(spearmanr(values[one], values[other]).statistic, abs=1e-12)
            least, most = [], []  # neurons that are in the top, however ties are broken, and that may be
            for own in (values[one], values[other]):
                last = np.sort(own)[-13]
                least.append(set(np.flatnonzero(own > last)))
                most.append(set(np.flatnonzero(own >= last)))
            assert len(least[0] & least[1]) <= round(13 * row["overlap"]) <= len(most[0] & most[1])
    means = result.mean().set_index("ranking")
    for name, rows in table.groupby("ranking"):
        assert means.loc[name, "overlap"] == pytest.approx(rows["overlap"].mean())  # type: ignore[index]
        assert means.loc[name, "correlation"] == pytest.approx(rows["correlation"].mean())  # type: ignore[index]


def test_chance_is_what_random_orders_give() -> None:
    """Of 4000 draws, 2.5 % more or less beyond a bound; the bounds are counts, so that few may lie beyond."""
    draw, top, neurons = np.random.default_rng(0), 30, 300
    chance = Agreement("trials", top, neurons, ()).chance
    orders = [(draw.permutation(neurons), draw.permutation(neurons)) for _ in range(4000)]
    overlap = np.array([shared(one, other, top) for one, other in orders])
    assert overlap.mean() == pytest.approx(chance["expected"], abs=4 * overlap.std() / 4000**0.5)
    assert (overlap < chance["low"]).mean() <= 0.032 and (overlap > chance["high"]).mean() <= 0.032
    assert (overlap <= chance["low"]).mean() >= 0.018 and (overlap >= chance["high"]).mean() >= 0.018
    correlation = np.array([np.corrcoef(one, other)[0, 1] for one, other in orders])
    assert 0.035 < (np.abs(correlation) > chance["correlation"]).mean() < 0.065


def test_runs_with_the_same_subtasks_are_compared_in_each() -> None:
    one, other = found("three"), found("three", seed=1)
    result = compare(one, other, fraction=0.2)
    assert [pair.ranking for pair in result.pairs] == [own["name"] for own in one.about["subtasks"]]
    assert {(pair.one, pair.other) for pair in result.pairs} == {("three (1)", "three (2)")}
    for pair in result.pairs:
        tables = [ranked(run, pair.ranking) for run in (one, other)]
        values = [own["predictivity"].round(9).to_numpy() for own in tables]
        assert pair.correlation == pytest.approx(spearmanr(values[0], values[1]).statistic, abs=1e-12)
        tops = [
            {*zip(own["layer"], own["neuron"], strict=True)} for own in (table[table["rank"] <= 26] for table in tables)
        ]
        assert pair.overlap == len(tops[0] & tops[1]) / 26
    itself = compare(one, one)
    assert all(pair.overlap == 1 and pair.correlation == pytest.approx(1) for pair in itself.pairs)


def test_runs_of_other_tasks_are_compared_by_their_own_rankings(tmp_path: Path) -> None:
    one, other = found("three"), sn.find(backbone(), easy(), out=tmp_path / "words", **OPTIONS)
    [pair] = compare(one, other).pairs
    assert (pair.ranking, pair.one, pair.other) == (OWN, "three", "words")
    assert round(10 * pair.overlap) == len({*one.top(10)} & {*other.top(10)})
    mixed, plain = ranked(one, "three"), ranked(other, "easy")
    assert pair.correlation == pytest.approx(spearmanr(-mixed["rank"], plain["predictivity"].round(9)).statistic)


def test_neurons_that_are_all_equal_have_no_correlation() -> None:
    plain = found("single")
    column = plain.neurons.column_names.index("predictivity")
    equal = plain.neurons.set_column(column, "predictivity", pa.array(np.full(132, 0.5)))
    result = compare(plain, replace(plain, neurons=equal))
    assert result.pairs[0].correlation is None
    assert result.mean()["correlation"].isna().all() and result.plot() is not None


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(
        sn.SkillNeuronsError, match=r"two trials at least; the run of single has 1. Find again with --tri"
    ):
        stability(sn.find(backbone(), make("single"), **OPTIONS | {"trials": 1}))
    with pytest.raises(sn.SkillNeuronsError, match=r"at least two runs are compared; given: 1"):
        compare(found("single"))
    other = sn.find(backbone("bert"), make("pair"), **OPTIONS | {"trials": 1})
    with pytest.raises(
        sn.SkillNeuronsError,
        match=r"single is of RobertaForMaskedLM \(float32, \w{8}\), pair of BertForMaskedLM .*Choose runs of the same",
    ):
        compare(found("single"), other)
    random = sn.find(
        sn.load_model(backbone().model, tokenizer=backbone().tokenizer, random_weights=True), make("pair"), **OPTIONS
    )
    with pytest.raises(sn.SkillNeuronsError, match=r"pair of RobertaForMaskedLM \(float32, random weights, \w{8}\)"):
        compare(found("single"), random)


@pytest.mark.parametrize("many", [False, True])
def test_the_picture_shows_every_pair_beside_chance(many: bool) -> None:
    result = stability(found("three")) if many else compare(found("single"), found("pair"))
    ax = result.plot()
    overlap, correlation = ax.get_lines()
    assert np.asarray(overlap.get_xdata()).tolist() == [pair.overlap for pair in result.pairs]
    assert np.asarray(correlation.get_xdata()).tolist() == [pair.correlation for pair in result.pairs]
    spans = [np.asarray(own.get_segments())[:, :, 0] for own in ax.collections if len(own.get_segments())]  # type: ignore[attr-defined]
    chance = result.chance
    assert (spans[0] == [chance["low"], chance["high"]]).all()
    assert (spans[1] == [-chance["correlation"], chance["correlation"]]).all()
    rows = [text.get_text() for text in ax.get_yticklabels()]
    assert rows == (["good-rest", "good-bad", "neutral-rest", "bad-neutral"] if many else ["single, pair"])
    given = pyplot.subplots()[1]
    assert result.plot(given) is given
    assert f"top {result.top} in common" in result.lines()[0][0] and "chance" in result.lines()[0][1]
    assert repr(result).splitlines()[0].split()[:3] == ["ranking", "overlap", "correlation"]
    assert result._repr_html_().count("<tr") == 1 + len(rows)


def test_a_mean_is_shown_beside_chance() -> None:
    pairs = tuple(Pair("one", "a", name, overlap, 0.5) for name, overlap in (("b", 0.25), ("c", 0.75)))
    result = Agreement("runs", 20, 2000, pairs)
    assert result.lines() == [
        ("top 20 in common", "50.0 %, chance 0.0 to 5.0 %"), ("rank correlation", "0.50, chance -0.04 to 0.04"),
    ]  # fmt: skip
