"""Neuronal importance is the area between curves, standardised over sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from scipy.stats import zscore

import skillneurons as sn
from skillneurons.evidence.curves import Curves
from skillneurons.evidence.importance import Importance, importance, mean_importance, standard
from skillneurons.finding.portraits.shading import plain

from .families import tiny
from .makings import make

FOUND: dict[str, Any] = {"trials": 1, "positions": 3, "steps": 4, "lr": 0.05, "init_std": 0.5}
OPTIONS: dict[str, Any] = {"most": 0.5, "step": 0.25, "draws": 2, "edit": "zero", "bottom": False}
KINDS = ["a", "a", "a", "b", "b", "c", "c"]


@pytest.fixture(scope="module")
def findings() -> tuple[sn.Backbone, list[sn.SkillNeurons]]:
    model, tokenizer = tiny("bert")
    backbone = sn.load_model(model, tokenizer=tokenizer)
    tasks = [make("single", kind="one"), make("pair", kind="one"), make("three", kind="other")]
    return backbone, [sn.find(backbone, task, **FOUND) for task in tasks]


def test_areas_lie_between_the_curves(findings: tuple[sn.Backbone, list[sn.SkillNeurons]], tmp_path: Path) -> None:
    model, skills = findings
    found = importance(model, *skills, out=tmp_path, **OPTIONS)
    assert found.tasks == ["single", "pair", "three"] and found.kinds == ["one", "one", "other"]
    for row, evaluation in enumerate(found.tasks):
        curves = Curves.load(tmp_path / evaluation)
        means = curves.means()
        for column, source in enumerate(found.tasks):
            order = "skill" if source == evaluation else source
            heights = [
                means[means["order"] == name].sort_values("share")["accuracy"].to_numpy() for name in ("random", order)
            ]
            gap = heights[0] - heights[1]
            by_hand = ((gap[0] + gap[1]) / 2 * 0.25 + (gap[1] + gap[2]) / 2 * 0.25) / 0.5
            assert found.areas[row, column] == pytest.approx(by_hand, abs=1e-12)
    varied = found.areas.std(1) > 0
    assert varied.any()
    assert np.allclose(found.scores[varied], zscore(found.areas[varied], axis=1))
    table = found.table()
    assert len(table) == 9 and (table["low"] <= table["area"]).all() and (table["area"] <= table["high"]).all()
    found.save(tmp_path)
    again = Importance.load(tmp_path)
    assert again.table().equals(table) and np.array_equal(again.areas, found.areas)
    pyplot.close(found.plot().get_figure(root=True))


def test_curves_that_are_there_are_not_made_again(
    findings: tuple[sn.Backbone, list[sn.SkillNeurons]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, skills = findings
    first = importance(model, *skills[:2], out=tmp_path, **OPTIONS)
    monkeypatch.setattr(sn.Backbone, "answer", lambda *_: pytest.fail("the model ran"))
    assert importance(model, *skills[:2], out=tmp_path, **OPTIONS).table().equals(first.table())


def test_the_test_over_kinds_uses_the_scores(findings: tuple[sn.Backbone, list[sn.SkillNeurons]]) -> None:
    model, skills = findings
    found = importance(model, *skills, **OPTIONS)
    scores = found.scores
    test = found.same_kind_test()
    assert test.same == pytest.approx((scores[0, 1] + scores[1, 0]) / 2)
    assert test.other == pytest.approx(np.mean([scores[0, 2], scores[2, 0], scores[1, 2], scores[2, 1]]))
    assert test.groupings == 3 and test.p in (pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0)


@pytest.mark.parametrize(
    ("gain", "kinds", "said"),
    [
        (1.0, KINDS, "Holds: neurons of tasks of the same kind matter more to a task than those of other kinds; same"),
        (-1.0, KINDS, "Does not hold: neurons of tasks of other kinds matter as much"),
        (1.0, KINDS[2:6], "Cannot be told with this much data: whether neurons of tasks of the same kind matter more"),
        (1.0, [*KINDS[:6], None], "Cannot be told: there is no test over kinds, for every task of this test has a"),
    ],
)
def test_its_verdict(gain: float, kinds: list[str | None], said: str) -> None:
    same = np.array([[one == other for other in kinds] for one in kinds])
    areas = np.random.default_rng(0).normal(size=same.shape) * 0.1 + gain * same
    about = {
        "config": {"seed": 0},
        "tasks": [f"t{place}" for place in range(len(kinds))],
        "kinds": kinds,
        "by": "prompts",
    }
    found = Importance(about, [], {"score": torch.from_numpy(standard(areas))})
    assert found.verdict.startswith(said)
    assert found.verdict in " ".join(plain(found.screen()).split())


def test_under_other_ways_of_tuning(findings: tuple[sn.Backbone, list[sn.SkillNeurons]]) -> None:
    model, skills = findings
    found = []
    for method in (sn.AdapterConfig(), sn.BitFitConfig()):
        tuned = [sn.tune_weights(model, skill.task, method, config=skill.config) for skill in skills]
        found.append(importance(model, *skills, tuned=tuned, **OPTIONS))
        for at, own in enumerate(tuned):
            other = "pair" if at != 1 else "three"
            orders = [sn.of_run(other, skills[1 if at != 1 else 2])]
            alone = sn.perturb(model, skills[at], orders=orders, tuned=own, **OPTIONS)
            column = found[-1].tasks.index(other)
            assert found[-1].areas[at, column] == alone.advantage(other).difference
    both = mean_importance(*found)
    assert np.array_equal(both.scores, (found[0].scores + found[1].scores) / 2)
    assert np.array_equal(both.areas, (found[0].areas + found[1].areas) / 2)
    assert both.table()["importance"].tolist() == both.scores.ravel().tolist()
    assert both.about["by"] == "adapter and bitfit" and "adapter and bitfit" in plain(both.screen())
    pyplot.close(both.plot().get_figure(root=True))
    with pytest.raises(sn.SkillNeuronsError, match="the runs are the same, in one order, and so is the edit"):
        mean_importance(found[0], importance(model, *skills[::-1], **OPTIONS))
    with pytest.raises(sn.SkillNeuronsError, match="for each run; 3 runs, 1 given"):
        importance(model, *skills, tuned=tuned[:1], **OPTIONS)


def test_equal_sources_have_no_importance() -> None:
    assert (standard(np.array([[0.1, 0.1, 0.1], [0.0, 0.1, 0.2]]))[0] == 0).all()


def test_one_run_is_too_few(findings: tuple[sn.Backbone, list[sn.SkillNeurons]]) -> None:
    model, skills = findings
    with pytest.raises(sn.SkillNeuronsError, match="at least two runs are compared"):
        importance(model, skills[0])
