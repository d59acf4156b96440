"""Table 3: each figure is that of a finding made by hand; what it says of them, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot

import skillneurons as sn
from skillneurons.evidence.origins import DRAWN, GUESS, HARD, MAJORITY, RANDOM, TUNED, Origins, origins
from skillneurons.finding.nulls.nulls import redrawn
from skillneurons.finding.portraits.shading import plain

from .backbones import fresh
from .makings import SUBTASKS, Form, make

OPTIONS: dict[str, Any] = {"trials": 2, "positions": 3, "steps": 4, "init_std": 0.5}
HARD_PROMPTS = ("it is", "the film was", "we say")


@cache
def backbone(name: str = "bert") -> sn.Backbone:
    model, tokenizer = fresh(name)
    return sn.load_model(model, tokenizer=tokenizer)


@cache
def task(form: Form) -> sn.Task:
    return make(form, prompts=HARD_PROMPTS)


@cache
def found(form: Form) -> Origins:
    return origins(backbone(), task(form), **OPTIONS)


@cache
def by_hand(form: Form) -> dict[str, sn.SkillNeurons]:
    own, drawn = backbone(), redrawn(backbone())
    return {
        TUNED: sn.find(own, task(form), **OPTIONS),
        RANDOM: sn.find(own, task(form), prompt="random", **OPTIONS),
        HARD: sn.find(own, task(form), prompt="hard", **OPTIONS),
        DRAWN: sn.find(drawn, task(form), prompt="random", **OPTIONS),
    }


def rows(own: Origins) -> dict[tuple[str, str], dict[str, Any]]:
    """The table's rows by origin and subtask."""
    return {(row["origin"], row["subtask"]): dict(row) for row in own.rows}


def right(skill: sn.SkillNeurons, subtask: str) -> np.ndarray:
    """[trial, sample], of the subtask's samples alone, one at a time."""
    names = [own.name for own in skill.task.subtasks]
    spots = skill.results["top_neurons"]
    spot = next(place for place, own in enumerate(spots) if own["subtask"] == subtask and own["rank"] == 1)
    own = skill.task.subtasks[names.index(subtask)]
    tested = skill.tested
    rows = []
    for trial in range(len(skill.prompts)):
        row = []
        for sample, label in enumerate(tested.labels):
            if skill.task.labels[label] not in (*own.positive, *own.negative):
                row.append(np.nan)
                continue
            above = tested.activations[trial, sample, spot] > tested.baseline[trial, spot]
            says = above == (tested.sign[trial, spot] > 0)
            row.append(float(says == (skill.task.labels[label] in own.positive)))
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("form", ["single", "three"])
def test_each_row_is_a_finding_of_its_own(form: Form) -> None:
    table = rows(found(form))
    subtasks = [own.name for own in task(form).subtasks]
    assert list(dict.fromkeys(origin for origin, _ in table)) == [TUNED, RANDOM, HARD, DRAWN, GUESS, MAJORITY]
    labels = np.array(task(form).test.labels)
    for origin, skill in by_hand(form).items():
        best = {own["subtask"]: own for own in skill.results["top_neurons"] if own["rank"] == 1}
        for name in subtasks:
            row = table[(origin, name)]
            assert (row["accuracy"], row["low"], row["high"]) == tuple(
                best[name][key] for key in ("test_accuracy", "low", "high")
            )
            assert (row["layer"], row["neuron"]) == (best[name]["layer"], best[name]["neuron"])
            assert row["prompt_accuracy"] == np.mean(skill.results["prompt_accuracy"])
            values = right(skill, name)
            if form == "single":
                trials = values.mean(1)
            else:
                own = next(own for own in SUBTASKS if own["name"] == name)
                sides = [np.isin(np.array(task(form).labels)[labels], own[side]) for side in ("negative", "positive")]
                trials = np.mean([values[:, side].mean(1) for side in sides], axis=0)
            assert row["accuracy"] == pytest.approx(trials.mean()) and row["std"] == pytest.approx(trials.std(ddof=1))
            assert row["trials"] == len(trials) == 2
            if origin == DRAWN:
                assert row["more"] is row["more_low"] is row["more_high"] is None
            else:
                assert row["more"] == pytest.approx(row["accuracy"] - table[(DRAWN, name)]["accuracy"])
                assert row["more_low"] <= row["more"] <= row["more_high"]
    assert table[(TUNED, subtasks[0])]["layer"] >= 0


def test_the_neurons_together_and_what_needs_no_model() -> None:
    table = rows(found("three"))
    samples = len(task("three").test)
    for origin, skill in by_hand("three").items():
        row, own = table[(origin, "three")], np.array(skill.results["neurons_accuracy"])
        assert row["accuracy"] == pytest.approx(own.mean()) and row["std"] == pytest.approx(own.std(ddof=1))
        share, z = round(own.mean() * samples) / samples, 1.959963984540054
        middle = (share + z**2 / (2 * samples)) / (1 + z**2 / samples)
        reach = z * (share * (1 - share) / samples + z**2 / (4 * samples**2)) ** 0.5 / (1 + z**2 / samples)
        assert (row["low"], row["high"]) == pytest.approx((middle - reach, middle + reach))
    counts = np.bincount(task("three").test.labels)
    assert table[(GUESS, "three")]["accuracy"] == 1 / 3
    assert table[(MAJORITY, "three")]["accuracy"] == pytest.approx(counts.max() / counts.sum())
    assert table[(MAJORITY, "good-bad")]["accuracy"] == table[(GUESS, "good-bad")]["accuracy"] == 0.5
    single = rows(found("single"))
    counts = np.bincount(task("single").test.labels)
    assert single[(MAJORITY, "single")]["accuracy"] == pytest.approx(counts.max() / counts.sum())
    assert single[(GUESS, "single")]["accuracy"] == 0.5


@pytest.mark.parametrize("form", ["single", "three"])
def test_what_it_rests_on_is_kept(form: Form, tmp_path: Path) -> None:
    for origin, skill in by_hand(form).items():
        kept = found(form).arrays[f"right.{origin}"].numpy()
        assert kept.shape == (2, len(task(form).test), len(task(form).subtasks))
        for index, subtask in enumerate(task(form).subtasks):
            expected = right(skill, subtask.name)
            among = ~np.isnan(expected)
            assert np.array_equal(kept[:, :, index][among], expected[among])
    found(form).save(tmp_path)
    again = Origins.load(tmp_path)
    assert again.table().equals(found(form).table()) and again.about == found(form).about
    assert again.verdict == found(form).verdict


def test_a_run_that_is_there_stands_for_the_tuned_prompts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    skill = by_hand("single")[TUNED]
    own = origins(backbone(), task("single"), skill=skill, out=tmp_path)
    assert own.table().equals(found("single").table()) and own.about == found("single").about
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "hard-prompts", "origins.json", "origins.safetensors", "random-model", "random-prompts",
    ]  # fmt: skip
    drawn = redrawn(backbone())
    with monkeypatch.context() as patch:
        patch.setattr("skillneurons.evidence.origins.redrawn", lambda _: drawn)
        patch.setattr(type(backbone().model), "forward", lambda *_, **__: pytest.fail("the model ran"))
        again = origins(backbone(), task("single"), skill=skill, out=tmp_path)
    assert again.table().equals(own.table())


def test_a_task_without_prompts_has_one_of_its_label_words() -> None:
    own = origins(backbone(), make("single"), **OPTIONS | {"trials": 1})
    row = rows(own)[(HARD, "single")]
    assert row["trials"] == 1 and row["std"] is None
    assert own.about["trials"] == {TUNED: 1, RANDOM: 1, HARD: 1, DRAWN: 1}
    assert own.table()["std"].isna().all() and len(own.rows) == 6
    assert own.verdict in " ".join(plain(own.screen()).split())


def test_its_verdict() -> None:
    def verdict(*more: tuple[float, float, float]) -> str:
        rows = [
            {**row, **dict(zip(("more", "more_low", "more_high"), values, strict=True))}
            for row, values in zip(found("single").rows[1:3], more, strict=True)
        ]
        return replace(found("single"), rows=[found("single").rows[0], *rows]).verdict

    assert verdict((0.2, 0.1, 0.3), (0.3, 0.2, 0.4)) == (
        "Holds: without tuning, prompts find neurons that a random model has not; the least advantage on test is +20.0 "
        "(+10.0 to +30.0) points (random prompts)."
    )
    assert verdict((0.2, 0.1, 0.3), (0.1, -0.1, 0.3)).startswith("Cannot be told with this much data")
    assert verdict((0.2, 0.1, 0.3), (0.0, -0.01, 0.01)).startswith("Does not hold")
    told = verdict((0.1, -0.1, 0.3), (-0.2, -0.3, 0.0))
    assert told.startswith("Does not hold") and "-20.0 (-30.0 to +0.0) points (hard prompts)" in told


@pytest.mark.parametrize("form", ["single", "three"])
def test_its_picture(form: Form) -> None:
    ax = found(form).plot()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]  # type: ignore[union-attr]
    points = len(task(form).subtasks) + (form == "three")
    assert len(labels) == points + 3 and {MAJORITY, GUESS, "the prompts' own answers"} <= set(labels)
    assert [text.get_text() for text in ax.get_yticklabels()] == [TUNED, RANDOM, HARD, DRAWN]
    crosses = next(own for own in ax.lines if own.get_marker() == "x")
    expected = [100 * np.mean(skill.results["prompt_accuracy"]) for skill in by_hand(form).values()]
    assert np.asarray(crosses.get_xdata(), dtype=float) == pytest.approx(expected)
    pyplot.close(ax.figure)  # type: ignore[arg-type]


def test_what_is_wrong_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    own = task("single")
    by_hand("single")
    with pytest.raises(sn.SkillNeuronsError, match=r"of all kinds of prompts.*prompt"):
        origins(backbone(), own, prompt="hard")
    with pytest.raises(sn.SkillNeuronsError, match="given: trials"):
        origins(backbone(), own, skill=by_hand("single")[TUNED], trials=2)
    with pytest.raises(sn.SkillNeuronsError, match="begin with tuned prompts; the run of single is by hard ones"):
        origins(backbone(), own, skill=by_hand("single")[HARD])
    with pytest.raises(sn.SkillNeuronsError, match="with the model it was found in"):
        origins(backbone("roberta"), own, skill=by_hand("single")[TUNED])
    with pytest.raises(sn.SkillNeuronsError, match="no longer those of this run"):
        origins(backbone(), make("single", seed=9), skill=by_hand("single")[TUNED])
    monkeypatch.setattr("skillneurons.evidence.origins.find", lambda *_, **__: pytest.fail("it is told at once"))
    with pytest.raises(sn.SkillNeuronsError, match="must fit into the"):
        origins(backbone(), make("single", prompts=("the film " * 200,)), **OPTIONS)
