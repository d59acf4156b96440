"""Steering: the push is along each neuron's sign, its response that of a plain evaluation, its controls beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot

import skillneurons as sn
from skillneurons.evidence.spread import spread
from skillneurons.evidence.steering import RANDOM, SIGNS, SKILL, Steering, steer
from skillneurons.finding.portraits.shading import plain
from skillneurons.finding.ranked import ranked

from .families import tiny
from .makings import make

FOUND: dict[str, Any] = {"trials": 2, "positions": 3, "steps": 4, "lr": 0.05, "init_std": 0.5}
OPTIONS: dict[str, Any] = {"doses": (-3.0, 0.0, 3.0), "draws": 2, "fraction": 0.25}


@pytest.fixture(scope="module")
def finding() -> tuple[sn.Backbone, sn.SkillNeurons]:
    model, tokenizer = tiny("bert")
    backbone = sn.load_model(model, tokenizer=tokenizer)
    return backbone, sn.find(backbone, make("three"), **FOUND)


@pytest.mark.parametrize("subtask", ["good-bad", None])
def test_the_response_is_that_of_the_edit(finding: tuple[sn.Backbone, sn.SkillNeurons], subtask: str | None) -> None:
    model, skill = finding
    found = steer(model, skill, subtask=subtask, **OPTIONS)
    name = subtask or "good-rest"
    index = [own["name"] for own in skill.about["subtasks"]].index(name)
    value = {"good-bad": {"positive": 1, "negative": -1, "neutral": 0},
             "good-rest": {"positive": 1, "negative": -1, "neutral": -1}}[name]  # fmt: skip
    values = np.array([value[label] for label in skill.task.labels])
    table = found.table()
    assert len(table) == (1 + 2 + 2) * 2 * 3
    for trial, prompt in enumerate(skill.prompts):
        spreads = spread(model, skill.task, prompt)
        signs = torch.from_numpy(ranked(skill).sign[index, :, trial]).split(list(model.widths))
        for dose in (-3.0, 3.0):
            push = sn.Push([dose * sign * own for sign, own in zip(signs, spreads, strict=True)])
            with model.edit(skill.top(fraction=0.25, scope="layer", subtask=name), push):
                predicted = sn.evaluate(model, skill.task, prompt).predicted
            row = table.query("pushed == 'skill' and trial == @trial and dose == @dose")
            assert row["response"].item() == pytest.approx(values[predicted].mean())
        plain = sn.evaluate(model, skill.task, prompt).predicted
        rows = table.query("trial == @trial and dose == 0.0")
        assert rows["response"].to_numpy() == pytest.approx(values[plain].mean())


def test_a_label_neuron_steers(finding: tuple[sn.Backbone, sn.SkillNeurons], tmp_path: Path) -> None:
    """Answers made by hand: all follow the dose where skill neurons are pushed, none where others are."""
    rows: list[dict[str, Any]] = []
    answers = []
    draw = np.random.default_rng(0)
    for pushed in (SKILL, RANDOM, SIGNS):
        for dose in (-1.0, 1.0):
            rows.append({"pushed": pushed, "draw": 0, "trial": 0, "dose": dose})
            noise = draw.choice([-1, 1], 300)
            answers.append(np.where(draw.random(300) < 0.4, dose, noise) if pushed == SKILL else noise)
    config = {"doses": [-1.0, 1.0], "seed": 0, "fraction": 0.05}
    about = {"format": 1, "identity": "x", "config": config, "task": "t", "model": "m", "subtask": "t"}
    found = Steering(about, rows, {"answers": torch.from_numpy(np.stack(answers).astype(np.int8))})
    assert found.effect().difference == pytest.approx(answers[1].mean() - answers[0].mean())
    assert found.verdict.startswith("Holds: pushing skill neurons")
    swapped = [row | {"pushed": {SKILL: RANDOM, RANDOM: SKILL, SIGNS: SIGNS}[row["pushed"]]} for row in rows]
    assert Steering(about, swapped, found.arrays).verdict.startswith("Does not hold")
    weak = torch.zeros(6, 20, dtype=torch.int8)  # pushed, dose; two samples follow the dose, one goes the other way
    weak[1, :3] = torch.tensor([1, 1, -1])
    few = Steering(about, rows, {"answers": weak})
    assert few.verdict.startswith("Cannot be told with this much data: whether pushing skill neurons")
    assert few.verdict in " ".join(plain(few.screen()).split())
    found.save(tmp_path)
    assert Steering.load(tmp_path).means().equals(found.means())
    pyplot.close(found.plot().get_figure(root=True))


def test_bad_input_is_told(finding: tuple[sn.Backbone, sn.SkillNeurons]) -> None:
    model, skill = finding
    with pytest.raises(sn.SkillNeuronsError, match="one of good-rest, good-bad, neutral-rest, bad-neutral; given: 'x'"):
        steer(model, skill, subtask="x")
    with pytest.raises(sn.SkillNeuronsError, match=r"fraction.*given: 0"):
        steer(model, skill, fraction=0)
