"""Perturbation curves: every point is a plain evaluation under the edit, kept once, told with its control."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot

import skillneurons as sn
from skillneurons.evidence import points as module
from skillneurons.evidence.claims import paired
from skillneurons.evidence.config import PerturbConfig
from skillneurons.evidence.curves import BOTTOM, RANDOM, SKILL, Curves, perturb
from skillneurons.evidence.orders import drawn, of_run, of_scores
from skillneurons.evidence.spread import spread
from skillneurons.finding.portraits.shading import plain as plain_text
from skillneurons.tuning.config import AdapterConfig, BitFitConfig
from skillneurons.tuning.evaluate import evaluate_inputs
from skillneurons.tuning.prompt import seed_of
from skillneurons.tuning.tuned import tune_weights

from .families import tiny
from .makings import make

FOUND: dict[str, Any] = {"trials": 2, "positions": 3, "steps": 4, "lr": 0.05, "init_std": 0.5}
OPTIONS: dict[str, Any] = {"most": 0.5, "step": 0.25, "draws": 2, "std": 3.0}


@pytest.fixture(scope="module")
def finding() -> tuple[sn.Backbone, sn.SkillNeurons]:
    model, tokenizer = tiny("bert")
    backbone = sn.load_model(model, tokenizer=tokenizer)
    return backbone, sn.find(backbone, make("three"), **FOUND)


def test_every_point_is_an_evaluation_under_the_edit(finding: tuple[sn.Backbone, sn.SkillNeurons]) -> None:
    model, skill = finding
    found = perturb(model, skill, **OPTIONS)
    table = found.table()
    assert len(table) == (2 + 2) * 2 * 3 and found.shares.tolist() == [0.0, 0.25, 0.5]
    sets = {
        (SKILL, 0): lambda share: skill.top(fraction=share, scope="layer"),
        (BOTTOM, 0): lambda share: skill.bottom(fraction=share, scope="layer"),
        **{
            (RANDOM, draw): drawn(of_run(SKILL, skill), 0, draw).first for draw in range(2)
        },
    }  # fmt: skip
    for row in table.to_dict("records"):
        trial, share = row["trial"], row["share"]
        prompt = skill.prompts[trial]
        if share == 0:
            expected = sn.evaluate(model, skill.task, prompt)
        else:
            noise = sn.Noise(3.0, seed=seed_of(0, trial, row["draw"], round(1e6 * share)))
            chosen = sets[row["order"], row["draw"]](share)
            assert row["neurons"] == len(chosen)
            with model.edit(chosen, noise):
                expected = sn.evaluate(model, skill.task, prompt)
        assert row["accuracy"] == expected.accuracy
    assert table["accuracy"].nunique() > 3


@pytest.mark.parametrize("edit", ["zero", "scale", "baseline", "noise"])
def test_each_edit_is_the_one_that_is_named(finding: tuple[sn.Backbone, sn.SkillNeurons], edit: Any) -> None:
    model, skill = finding
    options: dict[str, Any] = {"edit": edit, "factor": -4.0, "tokens": "prompt", "most": 0.5, "step": 0.5, "draws": 1}
    found = perturb(model, skill, relative=edit == "noise", bottom=False, split="dev", **options)
    chosen = skill.top(fraction=0.5, scope="layer")
    prompt = skill.prompts[0]
    means = [skill.scores[0].mean(layer) for layer in range(model.layers)]
    spreads = spread(model, skill.task, prompt)
    edits: dict[str, Any] = {
        "zero": sn.Zero(), "scale": sn.Scale(-4.0), "baseline": sn.Baseline(means),
        "noise": sn.Noise(0.1, relative=spreads, seed=seed_of(0, 0, 0, 500_000)),
    }  # fmt: skip
    with model.edit(chosen, edits[edit], "prompt"):
        expected = sn.evaluate(model, skill.task, prompt, "dev").accuracy
    rows = found.table().query("order == 'skill' and trial == 0 and share == 0.5")
    assert rows["accuracy"].item() == expected


@pytest.mark.parametrize("method", [AdapterConfig(lr=0.01), BitFitConfig(lr=0.01)], ids=["adapter", "bitfit"])
def test_what_was_tuned_otherwise_is_perturbed_in_the_prompts_order(
    finding: tuple[sn.Backbone, sn.SkillNeurons], method: Any
) -> None:
    model, skill = finding
    loop: dict[str, Any] = {"trials": 2, "steps": 4, "evaluate_every": 2}
    tuned = tune_weights(model, skill.task, method, **loop)
    found = perturb(model, skill, tuned=tuned, **OPTIONS | {"draws": 1})
    for row in found.table().query("order == 'skill'").to_dict("records"):
        own = tuned[row["trial"]]
        noise = sn.Noise(3.0, seed=seed_of(0, row["trial"], 0, round(1e6 * row["share"])))
        chosen = skill.top(fraction=row["share"] or 0.25, scope="layer")
        with own.applied(model):
            if row["share"]:
                with model.edit(chosen, noise):
                    expected = sn.evaluate(model, skill.task, own.prompt)
            else:
                expected = sn.evaluate(model, skill.task, own.prompt)
        assert row["accuracy"] == expected.accuracy
    assert found.table()["accuracy"].nunique() > 2
    assert not found.table().equals(perturb(model, skill, **OPTIONS | {"draws": 1}).table())
    with pytest.raises(sn.SkillNeuronsError, match="baselines are means beside a prompt"):
        perturb(model, skill, tuned=tuned, edit="baseline")


def made(right: dict[str, Any], shares: list[float]) -> Curves:
    """Curves of one trial with these [draw, share, sample] answers."""
    rows: list[dict[str, Any]] = []
    stacked = []
    for order, draws in right.items():
        for draw, curve in enumerate(draws):
            for share, point in zip(shares, curve, strict=True):
                rows.append({"order": order, "draw": draw, "trial": 0, "share": share})
                stacked.append(np.array(point, dtype=np.uint8))
    about = {
        "format": 1, "identity": "x", "trials": 1,
        "config": {"seed": 0, "scope": "layer", "split": "test", "edit": "noise", "relative": False},
        "shares": shares, "orders": list(right), "task": "t", "edit": "noise", "majority": 0.5, "by": "prompts",
    }  # fmt: skip
    return Curves(about, rows, {"right": torch.from_numpy(np.stack(stacked))})


def test_areas_are_the_trapezoid_by_hand() -> None:
    found = made(
        {SKILL: [[[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]],
         RANDOM: [[[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 0, 0]], [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]]},
        [0.0, 0.1, 0.3],
    )  # fmt: skip
    # sample 0 under skill: (1 + 1) / 2 * 0.1 + (1 + 0) / 2 * 0.2 = 0.2, over 0.3
    assert found.area(SKILL) == pytest.approx([2 / 3, 0.05 / 0.3, 0.05 / 0.3, 0.0])
    random = [
        np.trapezoid(np.mean([a, b], 0), [0, 0.1, 0.3]) / 0.3
        for a, b in [([1, 1, 1], [1, 1, 1]), ([1, 1, 1], [1, 1, 0]), ([1, 1, 0], [1, 0, 0]), ([0, 0, 0], [0, 0, 0])]
    ]
    assert found.area(RANDOM) == pytest.approx(random)
    claim = found.advantage()
    assert claim.difference == pytest.approx(np.mean(random) - np.mean(found.area(SKILL)))
    assert claim.low <= claim.difference <= claim.high
    both = found.advantage([SKILL, RANDOM], against=[RANDOM])
    assert both.difference == pytest.approx(claim.difference / 2)


def test_a_limit_takes_fewer_samples(finding: tuple[sn.Backbone, sn.SkillNeurons]) -> None:
    model, skill = finding
    found = perturb(model, skill, limit=9, most=0.5, step=0.5, draws=1, bottom=False, edit="zero")
    assert found.arrays["right"].shape[-1] == 9
    few = skill.task.limited(test=9)
    assert found.about["majority"] == few.majority("test")
    with model.edit(skill.top(fraction=0.5, scope="layer"), sn.Zero()):
        expected = sn.evaluate(model, few, skill.prompts[1])
    row = found.table().query("order == 'skill' and trial == 1 and share == 0.5")
    assert row["accuracy"].tolist() == [expected.accuracy]


@pytest.mark.parametrize(
    ("skill", "random", "samples", "more", "said"),
    [
        (0.3, 0.05, 400, {}, "Holds: perturbing skill neurons costs more accuracy than perturbing random ones; +"),
        (0.05, 0.3, 400, {}, "Does not hold: perturbing random neurons costs as much"),
        (0.0, 0.0, 400, {}, "neither order moves the accuracy by more than a point: the noise is too small for this "
                            "model, try --relative."),
        (0.0, 0.0, 400, {"relative": True}, "try a larger --std."),
        (0.0, 0.0, 400, {"edit": "zero"}, "a point: try more neurons (--most)."),
        (0.3, 0.2, 20, {}, "Cannot be told with this much data: whether perturbing skill neurons costs more"),
        (0.3, 0.05, 400, {"majority": 0.95}, "Cannot be told: before anything is perturbed, the answers do not beat"),
    ],
)  # fmt: skip
def test_its_verdict(skill: float, random: float, samples: int, more: dict[str, Any], said: str) -> None:
    draw = np.random.default_rng(0)
    plain = draw.random(samples) < 0.9
    fallen = {SKILL: skill, RANDOM: random}
    found = made(
        {order: [[plain, plain & (draw.random(samples) >= share)]] for order, share in fallen.items()}, [0.0, 0.2]
    )
    about = {**found.about, "majority": more.pop("majority", 0.5), "config": {**found.about["config"], **more}}
    found = replace(found, about=about)
    assert said in found.verdict
    assert ("neither order moves" in found.verdict) == (skill == random == 0)
    assert found.verdict in " ".join(plain_text(found.screen()).split())


def test_a_difference_is_told_from_chance() -> None:
    draw = np.random.default_rng(0)
    ps = [paired(draw.normal(0, 1, 60), seed).p for seed in range(100)]
    # under the null p is uniform: 5 % of 100 lie below 0.05, at most 13 with a chance of 1 in 1000
    assert sum(p < 0.05 for p in ps) <= 13 and 0.3 < np.median(ps) < 0.7
    clear = paired(draw.normal(0.5, 1, 200), 0)
    assert clear.p < 0.001 and clear.low > 0 and clear.low < clear.difference < clear.high
    nothing = paired(np.zeros(20), 0)
    assert (nothing.difference, nothing.low, nothing.high, nothing.p) == (0.0, 0.0, 0.0, 1.0)


class Killed(BaseException):
    """Not an error that anything would catch."""


def test_a_curve_goes_on_at_the_next_point(
    finding: tuple[sn.Backbone, sn.SkillNeurons], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, skill = finding
    expected = perturb(model, skill, out=tmp_path / "whole", **OPTIONS)
    evaluate = evaluate_inputs
    calls = made = 0

    def counted(*given: Any, **options: Any) -> Any:
        nonlocal calls, made
        calls += 1
        if calls > 4:
            raise Killed
        made += 1
        return evaluate(*given, **options)

    monkeypatch.setattr(module, "evaluate_inputs", counted)
    while True:
        calls = 0
        try:
            found = perturb(model, skill, out=tmp_path / "broken", **OPTIONS)
            break
        except Killed:
            continue
    assert made == 2 + 4 * 2 * 2  # each point once: the unperturbed one of each trial, four orders' two shares
    assert found.table().equals(expected.table())
    for name in ("curves.json", "curves.safetensors"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "broken").iterdir()) == ["curves.json", "curves.safetensors"]
    loaded = Curves.load(tmp_path / "broken")
    assert loaded.means().equals(expected.means()) and loaded.advantage() == expected.advantage()
    calls = 4
    assert perturb(model, skill, out=tmp_path / "broken", **OPTIONS).table().equals(expected.table())  # at once
    calls = -100
    other = perturb(model, skill, out=tmp_path / "broken", **OPTIONS | {"std": 1.0})  # other options, other points
    assert not other.table().equals(expected.table())


def test_random_draws_stop_where_their_mean_is_known(finding: tuple[sn.Backbone, sn.SkillNeurons]) -> None:
    model, skill = finding
    options = OPTIONS | {"draws": 6, "std": 0.0, "bottom": False}
    assert perturb(model, skill, narrow=0.5, **options).table()["draw"].max() == 1  # without noise all are alike
    assert perturb(model, skill, **options).table()["draw"].max() == 5


@pytest.mark.parametrize("scope", ["layer", "model"])
def test_random_orders_take_as_many_of_each_layer(finding: tuple[sn.Backbone, sn.SkillNeurons], scope: Any) -> None:
    _, skill = finding
    own = of_run(SKILL, skill, scope)
    others = [drawn(own, 3, draw) for draw in range(3)]
    for share in (0.0, 0.01, 0.2, 0.5, 1.0):
        chosen = own.first(share)
        if share:
            assert set(chosen.neurons) == set(skill.top(fraction=share, scope=scope).neurons)
        counts = [len(part) for part in chosen.by_layer().values()]
        for other in others:
            assert [len(part) for part in other.first(share).by_layer().values()] == counts
        assert set(own.first(share / 2).neurons) <= set(chosen.neurons)
    assert others[0].first(0.5).neurons != others[1].first(0.5).neurons
    assert others[0].fingerprint != others[1].fingerprint == drawn(own, 3, 1).fingerprint


def test_an_order_by_scores_begins_with_the_largest() -> None:
    scores = np.array([0.1, 0.9, 0.5, 0.7, 0.2, 0.8, 0.8])
    order = of_scores("mine", scores, (3, 4), seed=0)
    assert order.layers[0].tolist() == [1, 2, 0]
    assert order.layers[1].tolist() in ([2, 3, 0, 1], [3, 2, 0, 1])
    ties = {tuple(of_scores("mine", np.zeros(7), (3, 4), seed=seed).layers[1]) for seed in range(20)}
    assert len(ties) > 5
    overall = of_scores("mine", scores, (3, 4), seed=0, scope="model")
    assert set(overall.first(3 / 7).neurons) == {(0, 1), (1, 2), (1, 3)}
    with pytest.raises(sn.SkillNeuronsError, match="one for every neuron, 7 here; mine has"):
        of_scores("mine", scores[:3], (3, 4), seed=0)


def test_bad_input_is_told(finding: tuple[sn.Backbone, sn.SkillNeurons]) -> None:
    model, skill = finding
    other, tokenizer = tiny("bert", seed=1)
    with pytest.raises(sn.SkillNeuronsError, match="a run is read with the model it was found in"):
        perturb(sn.load_model(other, tokenizer=tokenizer), skill)
    with pytest.raises(sn.SkillNeuronsError, match="order belongs to the model it was made in"):
        perturb(model, skill, orders=[of_scores("small", np.zeros(4), (2, 2), 0)])
    with pytest.raises(sn.SkillNeuronsError, match="given twice: skill"):
        perturb(model, skill, orders=[of_run(SKILL, skill)])
    with pytest.raises(sn.SkillNeuronsError, match=r"most.*less than or equal to 1.*given: 1\.5"):
        PerturbConfig.make(most=1.5)
    with pytest.raises(sn.SkillNeuronsError, match=r"share of the neurons lies between 0 and 1; given: 1\.2"):
        of_run(SKILL, skill).first(1.2)
    found = perturb(model, skill, **OPTIONS | {"draws": 1})
    with pytest.raises(sn.SkillNeuronsError, match="one of skill, bottom, random; given: 'imdb'"):
        found.advantage("imdb")
    pyplot.close(found.plot().get_figure(root=True))
