"""What is reported on test: neurons, their intervals, the prompt and the regression, each worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import skillneurons as sn
from skillneurons.finding.measure import read_spots, top_spots
from skillneurons.tuning.inputs import Inputs

from .families import tiny
from .makings import Form, make
from .reading import read

OPTIONS: dict[str, Any] = {"trials": 2, "positions": 3, "prompt": "random", "init_std": 0.5}
CASES: list[tuple[str, Form]] = [("bert", "single"), ("gpt2", "three"), ("t5", "pair"), ("roberta", "three")]


def found(name: str, form: Form) -> tuple[sn.SkillNeurons, Any, Any, sn.Task]:
    model, tokenizer = tiny(name)
    task = make(form, train=80, dev=40, test=90)
    return sn.find(sn.load_model(model, tokenizer=tokenizer), task, **OPTIONS), model, tokenizer, task


def correctness(skill: sn.SkillNeurons, model: Any, tokenizer: Any, task: sn.Task, record: Any, name: str) -> Any:
    """Of one neuron: [sample] how often right over the trials, from activations read by hand; which side each is on."""
    index = [subtask.name for subtask in task.subtasks].index(record["subtask"])
    table = skill.table()
    rows = table[(table["subtask"] == record["subtask"]) & (table["rank"] == record["rank"])]
    row = rows.iloc[0]
    assert (row["layer"], row["neuron"], row["predictivity"]) == (
        record["layer"], record["neuron"], record["predictivity"],
    )  # fmt: skip
    right, unsure = [], []
    for trial, prompt in enumerate(skill.prompts):
        seen = read(name, model, tokenizer, task, "test", prompt.embedding)
        place = (row["position"][trial], row["neuron"])
        activation = seen.prompt[row["layer"]][:, place[0], place[1]]
        baseline = float(skill.scores[trial].baseline(int(row["layer"]))[index][place])
        says = (activation > baseline) == (row["sign"][trial] > 0)
        positive = np.isin(seen.labels, task.subtasks[index].positive)
        right.append(says == positive)
        unsure.append((np.abs(activation - baseline) <= 1e-5) & (activation != baseline))
    negative = np.isin(seen.labels, task.subtasks[index].negative)
    return np.mean(right, axis=0), np.mean(unsure), [positive, negative]


@pytest.mark.parametrize(("name", "form"), CASES)
def test_a_neurons_accuracy_on_test_is_that_of_a_plain_count(name: str, form: Form) -> None:
    skill, model, tokenizer, task = found(name, form)
    records = skill.results["top_neurons"]
    assert len(records) == 10 * len(task.subtasks)
    best = [record for record in records if record["rank"] == 1]
    assert skill.results["top_neuron"] == max(best, key=lambda record: record["predictivity"])
    for record in [*best, records[7], records[-1]]:
        right, unsure, sides = correctness(skill, model, tokenizer, task, record, name)
        expected = np.mean([right[side].mean() for side in sides]) if form == "three" else right.mean()
        assert record["test_accuracy"] == pytest.approx(expected, abs=1e-12 + unsure)
        assert record["low"] <= record["test_accuracy"] <= record["high"]


@pytest.mark.parametrize(("name", "form"), CASES[:2])
def test_intervals_are_those_of_a_plain_bootstrap(name: str, form: Form) -> None:
    """Percentiles of 2000 resamples are themselves off by 0.06 standard errors; 0.3 is more than four of both."""
    skill, model, tokenizer, task = found(name, form)
    draw = np.random.default_rng(9)
    for record in skill.results["top_neurons"][:: 10 * len(task.subtasks) // 2]:
        right, _, sides = correctness(skill, model, tokenizer, task, record, name)
        groups = [right[side] for side in sides] if form == "three" else [right]
        means = []
        for _ in range(2000):
            means.append(np.mean([own[draw.integers(0, len(own), len(own))].mean() for own in groups]))
        low, high = np.quantile(means, [0.025, 0.975])
        assert record["low"] == pytest.approx(low, abs=0.3 * np.std(means))
        assert record["high"] == pytest.approx(high, abs=0.3 * np.std(means))


def test_prompts_are_measured_on_test_too() -> None:
    skill, model, tokenizer, task = found("bert", "single")
    backbone = sn.load_model(model, tokenizer=tokenizer)
    each = [sn.evaluate(backbone, task, prompt) for prompt in skill.prompts]
    assert skill.results["prompt_accuracy"] == [own.accuracy for own in each]
    right = np.mean([own.correct for own in each], axis=0)
    draw = np.random.default_rng(1)
    means = [right[draw.integers(0, len(right), len(right))].mean() for _ in range(2000)]
    low, high = np.quantile(means, [0.025, 0.975])
    interval = skill.results["prompt_interval"]
    assert interval["low"] == pytest.approx(low, abs=0.3 * np.std(means))
    assert interval["high"] == pytest.approx(high, abs=0.3 * np.std(means))
    assert skill.results["prompt_worth_ranking"] == [prompt.worth_ranking for prompt in skill.prompts]
    assert "neurons_accuracy" not in skill.results


@pytest.mark.parametrize("name", ["gpt2", "roberta"])
def test_top_neurons_together_are_a_logistic_regression(name: str) -> None:
    skill, model, tokenizer, task = found(name, "three")
    table = skill.table()
    for trial, prompt in enumerate(skill.prompts):
        seen = {split: read(name, model, tokenizer, task, split, prompt.embedding) for split in ("train", "test")}
        columns: dict[str, list[np.ndarray]] = {"train": [], "test": []}
        for subtask in task.subtasks:
            row = table[(table["subtask"] == subtask.name) & (table["rank"] == 1)].iloc[0]
            for split, own in columns.items():
                own.append(seen[split].prompt[row["layer"]][:, row["position"][trial], row["neuron"]])
        train, test = (np.stack(own, axis=1) for own in columns.values())
        scaler = StandardScaler().fit(train)
        fitted = LogisticRegression(max_iter=1000).fit(scaler.transform(train), seen["train"].labels)
        right = fitted.predict(scaler.transform(test)) == np.array(seen["test"].labels)
        assert len(skill.results["neurons_accuracy"]) == 2
        # a sample on the border of two labels may fall to either side for its last digits
        assert skill.results["neurons_accuracy"][trial] == pytest.approx(right.mean(), abs=1.5 / len(right))


def test_only_chosen_neurons_are_kept() -> None:
    skill, model, tokenizer, task = found("bert", "single")
    inputs = Inputs(sn.load_model(model, tokenizer=tokenizer), task, 3)
    spots = top_spots(skill.table(), ["single"], 1, count=4)
    assert [(spot.layer, spot.neuron) for spot in spots] == list(skill.top(4))
    reading = read_spots(inputs, "dev", skill.prompts[1], spots, "dev", answer=False)
    seen = read("bert", model, tokenizer, task, "dev", skill.prompts[1].embedding)
    assert reading.activations.shape == (40, 4) and reading.activations.dtype == np.float32
    for spot, column in zip(spots, reading.activations.T, strict=True):
        assert np.abs(column - seen.prompt[spot.layer][:, spot.position, spot.neuron]).max() < 1e-5
    assert reading.predicted.size == 0


@pytest.mark.parametrize(("name", "form"), CASES)
def test_what_is_kept_of_the_test_split_is_what_was_read(name: str, form: Form) -> None:
    skill, model, tokenizer, task = found(name, form)
    tested, records = skill.tested, skill.results["top_neurons"]
    assert tested.activations.shape == (2, 90, len(records)) and tested.labels.tolist() == task.test.labels.tolist()
    right = tested.right(task)
    for spot in (0, 7, len(records) - 1):
        expected, unsure, sides = correctness(skill, model, tokenizer, task, records[spot], name)
        own = np.any(sides, axis=0)
        assert np.abs(right[:, own, spot].mean(0) - expected[own]).mean() <= unsure
    assert np.allclose((tested.predicted == tested.labels).mean(1), skill.results["prompt_accuracy"])


@pytest.mark.parametrize("label", [0, 1])
def test_a_test_split_of_one_label_will_do_for_two(label: int) -> None:
    model, tokenizer = tiny("bert")
    task = make("single")
    task = replace(task, test=task.test.take(np.flatnonzero(task.test.labels == label)))
    skill = sn.find(sn.load_model(model, tokenizer=tokenizer), task, **OPTIONS)
    measured = skill.results["top_neuron"]
    assert 0 <= measured["low"] <= measured["test_accuracy"] <= measured["high"] <= 1
    assert skill.about["majority"] == 1


def test_a_subtask_without_test_samples_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = tiny("bert")
    task = make("three")
    task = replace(task, test=task.test.take(np.flatnonzero(task.test.labels != 1)))
    backbone = sn.load_model(model, tokenizer=tokenizer)
    monkeypatch.setattr(type(model), "forward", lambda *_: pytest.fail("the model ran"))
    with pytest.raises(sn.SkillNeuronsError, match=r"test of three has none labelled neutral .*--test-limit"):
        sn.find(backbone, task, **OPTIONS)


def test_what_is_always_right_has_no_width() -> None:
    model, tokenizer = tiny("bert")
    task = make("single")
    task = replace(task, test=task.test.take([0]))
    measured = sn.find(sn.load_model(model, tokenizer=tokenizer), task, **OPTIONS | {"trials": 1}).results
    one = measured["top_neuron"]
    assert one["low"] == one["test_accuracy"] == one["high"] and one["low"] in (0, 1)
