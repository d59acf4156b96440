"""A finding beside its nulls: each figure worked out by hand, the verdict by its rule, and kept with the run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from safetensors.torch import load_file
from scipy.stats import fisher_exact

import skillneurons as sn
from skillneurons.finding.nulls import nulls as making
from skillneurons.finding.nulls.config import NullConfig
from skillneurons.finding.nulls.least import least_p, too_small
from skillneurons.finding.nulls.nulls import nulls, redrawn
from skillneurons.finding.nulls.permutation import EDGES
from skillneurons.finding.nulls.result import Nulls
from skillneurons.finding.nulls.surface import length_rule
from skillneurons.finding.nulls.verdict import Against, NullName, verdict
from skillneurons.finding.ranked import ranked
from skillneurons.models.sites import find_sites
from skillneurons.tuning.inputs import Inputs

from .families import FAMILIES, save_tiny, tiny
from .makings import TELLING, Form, make

OPTIONS: dict[str, Any] = {"trials": 2, "positions": 3, "prompt": "random", "init_std": 0.5}
SHUFFLED: NullName = "shuffled labels"
RANDOM: NullName = "random-weight model"
LENGTH: NullName = "input length"


def backbone(name: str = "bert") -> sn.Backbone:
    model, tokenizer = tiny(name)
    return sn.load_model(model, tokenizer=tokenizer)


@cache
def planted() -> sn.Backbone:
    """A tiny model that tells labels apart: in its embeddings, the words that tell them point two ways, far out."""
    model, tokenizer = tiny("bert")
    table: Any = model.get_input_embeddings()
    along = torch.randn(table.weight.shape[1], generator=torch.Generator().manual_seed(1)) * 4
    with torch.no_grad():
        for label, side in (("positive", 1), ("negative", -1)):
            for word in TELLING[label]:
                table.weight[tokenizer.convert_tokens_to_ids(word)] = side * along
    return sn.load_model(model, tokenizer=tokenizer)


@cache
def task(form: Form) -> sn.Task:
    return make(form, train=120, dev=80, test=200)


@cache
def held(form: Form = "single") -> tuple[sn.SkillNeurons, Nulls]:
    """A finding in the planted model, and all its nulls."""
    skill = sn.find(planted(), task(form), **OPTIONS)
    return skill, nulls(planted(), skill, permutations=39, null="random-model")


@pytest.fixture
def closed() -> Iterator[None]:
    yield
    pyplot.close("all")


def test_a_model_with_the_skill_is_better_than_its_nulls() -> None:
    skill, found = held()
    assert found.verdict.startswith("These neurons are more predictive than anything the nulls produce: shuffled lab")
    assert [row.null for row in found.rows] == [SHUFFLED, RANDOM, LENGTH]
    shuffles, random, length = found.rows
    assert shuffles.p_value == 1 / 40 and shuffles.above is not None and shuffles.above > 5
    assert all(row.top == skill.results["top_neuron"]["predictivity"] > 0.8 for row in found.rows)
    assert random.low is not None and random.low > 0.1 and length.low is not None and length.low > 0.1


def test_a_random_model_is_as_good_as_a_random_model() -> None:
    model = redrawn(planted())
    skill = sn.find(model, task("single"), **OPTIONS)
    found = nulls(model, skill, permutations=39, null="random-model")
    assert found.verdict.startswith("These neurons are not more predictive than everything the nulls produce: ")
    assert "the random-weight model does as well (" in found.verdict
    other = next(row for row in found.rows if row.null == RANDOM)
    assert other.low is not None and other.high is not None and other.low <= 0 < other.high - other.low


@pytest.mark.parametrize("form", ["single", "three"])
def test_advantages_are_paired_sample_by_sample(form: Form) -> None:
    """Bounds within 0.3 standard errors, as for the neurons' own intervals, of a plain bootstrap's."""
    skill, found = held(form)
    other = sn.find(redrawn(planted()), task(form), **OPTIONS)
    draw = np.random.default_rng(5)
    labels = np.array([own["label"] for own in task(form).test.rows])
    for index, subtask in enumerate(task(form).subtasks):
        right = [
            np.mean([
                (trial[:, spot] == np.isin(labels, [task(form).labels.index(own) for own in subtask.positive]))
                for trial in run.tested.told
            ], axis=0)
            for run in (skill, other)
            for spot in [10 * index]
        ]  # fmt: skip
        sides = [[task(form).labels.index(own) for own in side] for side in (subtask.negative, subtask.positive)]
        groups = [np.isin(labels, side) for side in sides] if form == "three" else [np.full(len(labels), True)]
        difference = [(right[0] - right[1])[members] for members in groups]
        row = next(own for own in found.rows if (own.subtask, own.null) == (subtask.name, RANDOM))
        assert row.advantage == pytest.approx(np.mean([own.mean() for own in difference]), abs=1e-12)
        means = [np.mean([own[draw.integers(0, len(own), len(own))].mean() for own in difference]) for _ in range(2000)]
        assert (row.low, row.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.3 * np.std(means))
        records = [own for own in other.results["top_neurons"] if own["subtask"] == subtask.name]
        assert row.predictivity == records[0]["predictivity"]
        tops = [own.results["top_neurons"][10 * index]["test_accuracy"] for own in (skill, other)]
        assert row.advantage == pytest.approx(tops[0] - tops[1], abs=1e-12)


@pytest.mark.parametrize(("name", "form"), [("bert", "single"), ("gpt2", "pair"), ("t5", "three")])
def test_input_length_is_read_like_a_neuron(name: str, form: Form) -> None:
    model, own = backbone(name), make(form)
    limit = 9 if form != "pair" else 20
    skill = sn.find(model, own, input_limit=limit, **OPTIONS)
    found = nulls(model, skill)
    rule = length_rule(Inputs.beside(model, own, skill.prompts[0]))
    lengths: dict[str, np.ndarray] = {}
    for split in ("train", "dev", "test"):
        texts = [[row[column] for column in own.text] for row in getattr(own, split).rows]
        if name == "gpt2":  # its pair form puts nothing between the two
            texts = [["\n".join(text)] for text in texts]
        encoded = [model.tokenizer(*text, truncation=True, max_length=limit)["input_ids"] for text in texts]
        lengths[split] = np.array([len(ids) for ids in encoded])
    assert len(np.unique(lengths["dev"])) > 3
    for index, subtask in enumerate(own.subtasks):
        names = {split: np.array(own.labels)[getattr(own, split).labels] for split in lengths}
        positive = {split: np.isin(labels, subtask.positive) for split, labels in names.items()}
        negative = {split: np.isin(labels, subtask.negative) for split, labels in names.items()}
        sides = [lengths["train"][side["train"]] for side in (negative, positive)]
        base = np.concatenate(sides).mean() if form != "three" else (sides[0].mean() + sides[1].mean()) / 2
        above = lengths["dev"] > base
        told, silent = above[positive["dev"]], ~above[negative["dev"]]
        accuracy = (told.mean() + silent.mean()) / 2 if form == "three" else np.concatenate([told, silent]).mean()
        row = next(own for own in found.rows if (own.subtask, own.null) == (subtask.name, LENGTH))
        assert row.predictivity == pytest.approx(max(accuracy, 1 - accuracy), abs=1e-12)
        says = (lengths["test"] > base) == (accuracy >= 0.5)
        members = positive["test"] | negative["test"]
        assert np.array_equal((says == positive["test"])[members], rule.right[index][members])


def row(null: NullName, value: float, subtask: str = "one") -> Against:
    """A subtask and null, with a p or the lower bound of an advantage."""
    if null == SHUFFLED:
        return Against(subtask, null, 0.6, 0.8, p_value=value, above=3)
    return Against(subtask, null, 0.6, 0.8, advantage=value + 0.1, low=value, high=value + 0.2)


def test_the_verdict_follows_its_rule() -> None:
    """Shuffled p at most 0.05, both intervals above 0, in every subtask; what was not tried leaves no claim."""
    for p, random, length, other in product((0.05, 0.051, None), (0.001, 0.0, None), (0.001, 0.0), (0.5, 0.0, None)):
        rows = [] if p is None else [row(SHUFFLED, p)]
        rows += [] if random is None else [row(RANDOM, random)]
        rows += [row(LENGTH, length)]
        rows += [] if other is None else [row(LENGTH, other, "other")]
        said = verdict(rows)
        if p == 0.051 or random == 0.0 or length == 0.0 or other == 0.0:
            assert said.startswith("These neurons are not more predictive than everything the nulls produce: "), rows
            assert ("shuffled labels do as well" in said) == (p == 0.051)
            assert ("the random-weight model does as well" in said) == (random == 0.0)
            assert ("input length does as well" in said) == (length == 0.0 or other == 0.0)
        elif p is None or random is None:
            assert said.startswith("No claim yet: these neurons are more predictive than ")
            assert ("--permutations" in said, "--null random-model" in said) == (p is None, random is None)
        else:
            assert said.startswith("These neurons are more predictive than anything the nulls produce: shuffled lab")
        assert said.endswith(".") and "nan" not in said and "None" not in said


def test_the_verdict_names_the_subtask_that_decides() -> None:
    rows = [row(RANDOM, -0.3, "first"), row(RANDOM, 0.2, "second"), row(RANDOM, -0.1, "third"), row(LENGTH, 0.2)]
    assert (
        "the random-weight model does better (-20.0 points on test, 95 % interval -30.0 to -10.0 in first, and so in 1 "
        "more)."
    ) in verdict(rows)
    assert "closest of the subtasks, +20.0 points on test" in verdict([row(LENGTH, 0.1, "a"), row(LENGTH, 0.3, "b")])


@pytest.mark.parametrize("form", ["single", "three"])
def test_what_is_shown_is_what_was_found(form: Form) -> None:
    skill, found = held(form)
    table = found.table()
    assert list(table["subtask"].unique()) == [own.name for own in task(form).subtasks]
    names = [own.name for own in task(form).subtasks]
    assert len(table) == sum(len(found.lines(name)) for name in names) == 3 * len(names)
    null = found.shuffled
    assert null is not None
    frame = skill.table()
    for index, own in enumerate(task(form).subtasks):
        rows = table[table["subtask"] == own.name].set_index("null")
        values = frame[frame["subtask"] == own.name]["predictivity"]
        shuffles = rows.loc[SHUFFLED]
        assert shuffles["predictivity"] == np.sort(null.maxima[index])[-2]  # of 39
        assert shuffles["p_value"] == (1 + (null.maxima[index] >= values.max() - 1e-9).sum()) / 40
        assert shuffles["above"] == (values > shuffles["predictivity"] + 1e-9).sum()
        assert (rows["top"] == values.max()).all()
        assert sorted(found.predictivity["found"][index]) == sorted(values)
        assert rows["p_value"].notna().tolist() == [True, False, False] == rows["low"].isna().tolist()
        of_all = {(row["layer"], row["neuron"]): row["predictivity"] for row in frame.to_dict("records")
                  if row["subtask"] == own.name}  # fmt: skip
        assert ranked(skill).predictivity[index].tolist() == [of_all[pair] for pair in sorted(of_all)]
    text = [" ".join(line) for line in found.lines()]
    assert f"p {table['p_value'][0]:.2g}, {table['above'][0]} neurons above" in text[0]
    assert f"{100 * table['advantage'][1]:+.1f} points on test" in text[1]
    assert found.verdict in repr(found) and found.verdict in found._repr_html_()
    assert [line[0] for line in found.lines()] == [row.null for row in found.rows[:3]]


@pytest.mark.usefixtures("closed")
def test_the_picture_shows_all_neurons_beside_the_nulls() -> None:
    _, found = held("three")
    ax = found.plot(subtask="good-bad")
    names = [text.get_text() for text in ax.get_legend().get_texts()]  # type: ignore[union-attr]
    assert names[:3] == ["neurons found", "random-weight model", "shuffled labels"]
    assert names[3:] == ["top neuron", "95 % of shuffles below", "input length"]
    rows = {row.null: row for row in found.rows if row.subtask == "good-bad"}
    places = [float(np.asarray(line.get_xdata())[0]) for line in ax.get_lines()]
    assert places == [rows[LENGTH].top, rows[SHUFFLED].predictivity, rows[LENGTH].predictivity]
    values = found.predictivity["found"][1]
    for patch in ax.patches[:1]:
        heights, edges, _ = patch.get_data()  # type: ignore[attr-defined]
        assert heights.sum() == pytest.approx(1)
        assert heights @ ((edges[1:] + edges[:-1]) / 2) == pytest.approx(values.mean(), abs=0.005)
        assert set(edges.round(6)) <= set(EDGES.round(6))
    assert "good-bad" in ax.get_title(loc="left")
    given = pyplot.subplots()[1]
    assert nulls(planted(), held()[0]).plot(given) is given  # with no more than input length
    with pytest.raises(sn.SkillNeuronsError, match=r"a subtask is one of good-rest, .*; given: 'bad'"):
        found.plot(subtask="bad")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_random_model_is_of_the_same_shape(name: str) -> None:
    model = backbone(name)
    drawn = redrawn(model)
    assert drawn.random and drawn.name == model.name and drawn.sites == model.sites
    assert drawn.fingerprint != model.fingerprint
    assert drawn.model.state_dict().keys() == model.model.state_dict().keys()


def test_a_random_model_is_drawn_as_loading_draws_it(tmp_path: Path) -> None:
    folder = save_tiny("gpt2", tmp_path)
    loaded = sn.load_model(folder)
    drawn = sn.load_model(folder, random_weights=True)
    assert redrawn(loaded).fingerprint == drawn.fingerprint
    assert redrawn(drawn).fingerprint not in (drawn.fingerprint, loaded.fingerprint)  # no null of itself


def test_a_model_whose_sites_were_named_is_redrawn_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = tiny("opt")
    named = sn.load_model(model, tokenizer=tokenizer, sites="model.decoder.layers.{layer}.fc2")

    def only_named(*given: Any) -> Any:
        assert given[-1] == "model.decoder.layers.{layer}.fc2"
        return find_sites(*given)

    monkeypatch.setattr("skillneurons.models.loading.find_sites", only_named)
    assert redrawn(named).sites == named.sites


def test_what_was_tried_is_kept_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = planted()
    skill = sn.find(model, task("single"), out=tmp_path / "run", **OPTIONS)
    first = nulls(model, skill, permutations=39)
    assert (tmp_path / "run" / "nulls.json").exists() and not (tmp_path / "run" / "random-model").exists()
    monkeypatch.setattr(making, "shuffled", lambda *_, **__: pytest.fail("shuffled again"))
    found = nulls(model, skill, null="random-model")  # the shuffles stay
    assert [row.null for row in found.rows] == [SHUFFLED, RANDOM, LENGTH]
    assert found.rows[0] == first.rows[0]
    other = sn.SkillNeurons.load(tmp_path / "run" / "random-model")
    assert other.about["source"]["random_weights"] and other.about["model"] == skill.about["model"]
    monkeypatch.setattr(Inputs, "batch", lambda *_: pytest.fail("a split ran through the model"))
    (tmp_path / "run" / "nulls.json").unlink()  # as a kill between the two writes leaves it
    monkeypatch.setattr(making, "shuffled", lambda *_, **__: first.shuffled)
    again = nulls(model, sn.SkillNeurons.load(tmp_path / "run"), permutations=39, null="random-model")
    for same in (again, nulls(model, skill), Nulls.load(tmp_path / "run")):
        assert same.rows == found.rows and same.about == found.about
        assert all(np.array_equal(same.predictivity[key], own) for key, own in found.predictivity.items())
        assert same.shuffled is not None and first.shuffled is not None
        assert np.array_equal(same.shuffled.maxima, first.shuffled.maxima)
        assert np.array_equal(same.shuffled.counts, first.shuffled.counts)
    assert found.rows == held()[1].rows  # with a folder or without


def test_nulls_are_saved_and_read_anywhere(tmp_path: Path) -> None:
    _, found = held("three")
    found.save(tmp_path)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(written) == {"nulls.json", "nulls.safetensors"}
    assert set(load_file(tmp_path / "nulls.safetensors")) == {"found", "random-model", "maxima", "counts"}
    assert json.loads(written["nulls.json"])["verdict"] == found.verdict
    same = Nulls.load(tmp_path)
    assert same.rows == found.rows and same.table().equals(found.table())
    same.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == written


def test_files_that_do_not_belong_are_refused(tmp_path: Path) -> None:
    skill, found = held()
    for name in ("nulls.json", "nulls.safetensors"):
        found.save(tmp_path / name)
        path = tmp_path / name / name
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(sn.SkillNeuronsError, match=rf"{name}.*Remove nulls.json and nulls.safetensors"):
            Nulls.load(tmp_path / name)
    with pytest.raises(sn.SkillNeuronsError, match=r"there is no .*nulls\.json"):
        Nulls.load(tmp_path / "nowhere")
    nulls(planted(), skill).save(tmp_path / "mixed")
    (tmp_path / "mixed" / "nulls.json").write_bytes((tmp_path / "nulls.safetensors" / "nulls.json").read_bytes())
    with pytest.raises(sn.SkillNeuronsError, match="not what this run wrote there"):
        Nulls.load(tmp_path / "mixed")
    content = json.loads((tmp_path / "nulls.safetensors" / "nulls.json").read_text())
    found.save(tmp_path / "rows")
    (tmp_path / "rows" / "nulls.json").write_text(json.dumps({**content, "rows": [{"subtask": "one"}]}))
    with pytest.raises(sn.SkillNeuronsError, match="not what this run wrote there"):
        Nulls.load(tmp_path / "rows")
    other = sn.find(planted(), task("single"), out=tmp_path / "other", **OPTIONS | {"seed": 1})
    with pytest.raises(sn.SkillNeuronsError, match=r"nulls belong to the run that they were worked out for; .*other"):
        found.save(tmp_path / "other")
    found.save(tmp_path / "copied")
    for name in ("nulls.json", "nulls.safetensors"):
        (tmp_path / "other" / name).write_bytes((tmp_path / "copied" / name).read_bytes())
    with pytest.raises(sn.SkillNeuronsError, match=r"nulls.json is of another run than that in .*other. Remove"):
        nulls(planted(), other)


def test_a_small_dev_split_is_told_with_the_least_p() -> None:
    small = task("single").limited(dev=9)
    skill = sn.find(planted(), small, **OPTIONS | {"positions": 20})
    negative, positive = np.bincount(small.dev.labels).tolist()
    p = fisher_exact(np.array([[0, positive], [negative, 0]])).pvalue
    sentence = (
        f"The dev split is too small for any significance in single: with {negative} negative and {positive} positive "
        f"samples and 20 positions the least p is {2 * 20 * p:.2g}."
    )
    assert 2 * 20 * p > 0.05 and too_small(skill.about) == [sentence]
    with pytest.raises(sn.SkillNeuronsError, match=rf"{sentence} Raise --dev-limit, give more data, or find again"):
        nulls(planted(), skill, permutations=19)
    assert nulls(planted(), skill).verdict  # the others can still be tried
    assert too_small(held()[0].about) == []


@pytest.mark.parametrize("totals", [(1, 1), (1, 30), (4, 4), (3, 7), (12, 5)])
def test_the_least_p_is_that_of_the_best_table(totals: tuple[int, int]) -> None:
    tables = product(range(totals[0] + 1), range(totals[1] + 1))
    least = min(float(fisher_exact(np.array([[a, b], [totals[0] - a, totals[1] - b]])).pvalue) for a, b in tables)
    for positions, trials in ((1, 1), (3, 1), (3, 2), (127, 5)):
        expected = min(1.0, least * positions * (1 if trials == 1 else 2))
        assert least_p(totals, positions, trials) == pytest.approx(expected, rel=1e-9)


def test_options_are_checked_together() -> None:
    with pytest.raises(
        sn.SkillNeuronsError, match=r"(?s)3 problems.*permutations: .*take 19 at least.*null: .*memory: "
    ):
        NullConfig.make(permutations=18, null="shuffled", memory=0)
    assert NullConfig.make(permutations=19).null == "none"


def test_nulls_of_another_model_are_refused() -> None:
    with pytest.raises(sn.SkillNeuronsError, match="a run is read with the model it was found in"):
        nulls(redrawn(planted()), held()[0])
    with pytest.raises(sn.SkillNeuronsError, match=r"1000 permutations take .* At most \d+ would fit"):
        nulls(planted(), held()[0], permutations=1000, memory=0.003)


def test_a_finding_of_other_data_is_not_held_against_these() -> None:
    skill, _ = held()
    with pytest.raises(sn.SkillNeuronsError, match="another dev split"):
        nulls(planted(), replace(skill, _task=task("single").limited(dev=60)), permutations=19)
