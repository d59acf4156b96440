"""The search within a budget: exact predictions, each candidate once, a choice that obeys, going on after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot

import skillneurons as sn
from skillneurons.cli.pruning import Prune
from skillneurons.evidence.claims import paired
from skillneurons.finding.portraits.shading import plain
from skillneurons.pruning import budget as searching
from skillneurons.pruning import search as built
from skillneurons.pruning.about import About
from skillneurons.pruning.artifact import load_pruned
from skillneurons.pruning.budget import Within, within
from skillneurons.pruning.candidates import Candidate, candidates
from skillneurons.pruning.config import PruneConfig, allowed
from skillneurons.pruning.means import of_run
from skillneurons.pruning.multiplications import multiplications
from skillneurons.pruning.search import Search
from skillneurons.pruning.walk import Walk

from .families import save_tiny, tiny
from .makings import easy, make
from .test_prune import answering

FOUND: dict[str, Any] = {
    "trials": 2, "positions": 6, "steps": 80, "evaluate_every": 20, "lr": 0.05, "init_std": "auto", "batch": 16,
    "epochs": 20,
}  # fmt: skip
OPTIONS: dict[str, Any] = {"keep": 0.1, "steps": 4}


def found(name: str, task: sn.Task, **options: Any) -> tuple[sn.Backbone, sn.SkillNeurons]:
    model, tokenizer = tiny(name)
    backbone = sn.load_model(model, tokenizer=tokenizer)
    return backbone, sn.find(backbone, task, **{**FOUND, **options})


@pytest.fixture(scope="module")
def learned() -> tuple[sn.Backbone, sn.SkillNeurons]:
    """A run whose prompts have learned their task."""
    return found("roberta", easy())


# the budget


@pytest.mark.parametrize(("written", "points"), [("accuracy -1.0", 1.0), ("accuracy -0", 0.0), (" accuracy  -12 ", 12)])
def test_a_budget_is_so_many_points(written: str, points: float) -> None:
    assert allowed(written) == points


@pytest.mark.parametrize(
    "written",
    ["", "accuracy", "accuracy 1.0", "accuracy +1", "accuracy -1 %", "f1 -1", "accuracy -101", "-1", "accuracy --1"],
)
def test_anything_else_is_none(learned: tuple[sn.Backbone, sn.SkillNeurons], written: str) -> None:
    with pytest.raises(sn.SkillNeuronsError, match=r'a budget is written "accuracy -1\.0"') as told:
        within(*learned, budget=written)
    assert f"given: {written!r}. Write it so" in str(told.value)


# the candidates


def test_every_combination_stands_there_once() -> None:
    ways = candidates(PruneConfig(), layers=12, positions=127)
    assert len(ways) == len(set(ways)) == 5 * 4 - 1 and Candidate() not in ways
    assert {own.layers for own in ways} == {(), tuple(range(3, 12)), tuple(range(6, 12)), tuple(range(9, 12))}
    assert {own.keep for own in ways} == {1.0, 0.02, 0.1} and {own.prompt for own in ways} == {
        "whole",
        "frozen",
        63,
        31,
    }
    assert {own.layers for own in candidates(PruneConfig(layers=(2,)), 6, 1)} == {(), (2,)}
    assert {own.prompt for own in candidates(PruneConfig(), 6, 1)} == {"whole", "frozen"}
    assert {own.layers for own in candidates(PruneConfig(keep=1), 6, 8)} == {()}


@pytest.mark.parametrize("name", ["roberta", "modernbert", "gpt2", "t5-gated", "albert", "deberta-v2"])
def test_what_is_predicted_is_what_the_shipped_model_takes(name: str, tmp_path: Path) -> None:
    model, skill = found(name, make("single"), prompt="random", trials=1)
    search = Search(model, skill, PruneConfig.make(keep=0.1, tune=False), 0, None)
    whole = search.cost(Candidate())
    ways = search.ways(whole)
    assert [cost for cost, _ in ways] == sorted(cost for cost, _ in ways) and ways[-1][0] < whole
    frozen = name in ("roberta", "modernbert", "albert")
    assert any(own.prompt == "frozen" for _, own in ways) == frozen
    assert any(own.layers for _, own in ways) == (name != "albert")
    lengths = sorted(len(model.tokenizer(row["text"])["input_ids"]) for row in skill.task.dev.rows)
    text = next(
        row["text"]
        for row in skill.task.dev.rows
        if len(model.tokenizer(row["text"])["input_ids"]) == lengths[len(lengths) // 2] == search.tokens
    )
    for cost, candidate in [(whole, Candidate()), ways[0], *(own for own in ways if isinstance(own[1].prompt, int))]:
        tried = replace(search.tried(candidate), baseline="positions" if candidate.layers else None)
        folder = search.small(candidate, tried).save(tmp_path / str(cost))
        shipped = load_pruned(folder, device="cpu")
        assert multiplications(lambda shipped=shipped: shipped.predict([text])) == cost  # type: ignore[misc]


def test_a_shorter_prompt_has_the_rows_of_its_positions() -> None:
    """A cut model beside it is the whole one with the same neurons frozen at those rows."""
    model, skill = found("bert", make("single"), prompt="random", trials=1)
    search = Search(model, skill, PruneConfig.make(keep=0.1, tune=False, baseline="positions"), 0, None)
    candidate = Candidate((0, 1), 0.1, 3)
    tried = search.tried(candidate)
    assert tried.positions is not None and len(tried.positions) == 3 == tried.prompt.positions
    small = search.small(candidate, tried)
    assert small.kept is not None
    rest = {(layer, at) for layer in (0, 1) for at in range(model.widths[layer])} - set(small.kept)
    means = [own[[*tried.positions, -2, -1]] for own in of_run(skill, 0)]
    with model.edit(sn.NeuronSet(tuple(sorted(rest)), model.widths), sn.Baseline(means)):
        expected = sn.evaluate(model, skill.task, tried.prompt, "dev")
        logits = model.answer(model.place(tried.prompt.embedding, [np.array([5, 6, 7])]))
    assert torch.allclose(
        small.model.answer(small.model.place(tried.prompt.embedding, [np.array([5, 6, 7])])), logits, atol=1e-4
    )
    assert (
        sn.evaluate(small.model, skill.task, small.prompt, "dev").accuracy == expected.accuracy == tried.prompt.accuracy
    )


# the walk


def test_the_first_within_the_budget_is_chosen(learned: tuple[sn.Backbone, sn.SkillNeurons], tmp_path: Path) -> None:
    model, skill = learned
    budgets = [100.0, 40.0, 1.0]
    times = []
    for points in budgets:
        own = within(model, skill, budget=f"accuracy -{points}", out=tmp_path, **OPTIONS)
        dense, *rows = own.table().to_dict("records")
        best = max(prompt.accuracy for prompt in skill.prompts)
        assert dense["dev"] == best == skill.prompts[own.small.prompt.trial].accuracy and dense["times"] == 1
        assert [row["multiplications"] for row in rows] == sorted(row["multiplications"] for row in rows)
        assert all(100 * row["difference"] < -points - 1e-9 for row in rows if not row["chosen"])
        assert sum(row["chosen"] for row in [dense, *rows]) == 1 and (rows[-1]["chosen"] or dense["chosen"])
        dev = sn.evaluate(own.small.model, skill.task, own.small.prompt, "dev").accuracy
        assert dev == own.walk.chosen["dev"] and 100 * (best - dev) <= points + 1e-9
        times.append(own.walk.chosen["times"])
        assert own.walk.about["left"] == len(candidates(PruneConfig.make(**OPTIONS), 3, 6)) - len(rows)
    assert times == sorted(times, reverse=True) and times[0] > times[-1] >= 1


def test_test_tells_the_loss(learned: tuple[sn.Backbone, sn.SkillNeurons]) -> None:
    model, skill = learned
    own = within(model, skill, budget="accuracy -100", trial=1, **OPTIONS)
    assert own.small.prompt.trial == 1
    dense = sn.evaluate(model, skill.task, skill.prompts[1]).correct.astype(float)
    small = sn.evaluate(own.small.model, skill.task, own.small.prompt).correct.astype(float)
    assert own.walk.loss == paired(dense - small, skill.config.seed)
    shown = own.walk.figures()
    assert [row.test for row in shown] == [dense.mean(), small.mean()]
    assert own.verdict in repr(own) and own.verdict in " ".join(plain(own.screen()).split())
    pyplot.close(own.plot().get_figure(root=True))


def test_where_none_obeys_the_model_stays_as_it_is(
    learned: tuple[sn.Backbone, sn.SkillNeurons], tmp_path: Path
) -> None:
    """Untuned, beside a tenth of the neurons, nothing is as good."""
    model, skill = learned
    own = within(model, skill, budget="accuracy -0", keep=0.03, tune=False, layers=(0, 1, 2))
    assert own.walk.rows[0]["chosen"] and own.walk.about["left"] == 0 and len(own.walk.rows) > 10
    assert own.small.model is model and own.small.prompt is skill.prompts[own.small.prompt.trial]
    assert own.verdict.startswith("Does not hold: no faster model is within the budget on dev, so that the model stays")
    assert "the nearest at -" in own.verdict
    about = About.read(own.save(tmp_path / "model"))
    assert about.kept == {} and about.baseline is None and about.prompt == "whole" and not about.retuned
    assert len(about.figures) == 1 and about.parameters < about.dense  # the label words' rows of the head alone
    answers = load_pruned(tmp_path / "model", device="cpu").predict([row["text"] for row in skill.task.test.rows])
    expected = skill.tested.predicted[own.small.prompt.trial]
    assert [answer.label for answer in answers] == [skill.task.labels[at] for at in expected]


# kept, and gone on with


def same(one: Within, other: Within) -> bool:
    batch = [np.array([5, 6, 7])]
    answers = [own.small.model.answer(own.small.model.place(own.small.prompt.embedding, batch)) for own in (one, other)]
    return (
        one.table().equals(other.table())
        and dict(one.walk.about) == dict(other.walk.about)
        and torch.equal(one.walk.arrays["right"], other.walk.arrays["right"])
        and torch.equal(*answers)
    )


WALKED: dict[str, Any] = {"budget": "accuracy -0", "keep": 0.03, "steps": 2, "reestimate": True, "layers": (0, 1, 2)}


@pytest.fixture(scope="module")
def undisturbed(learned: tuple[sn.Backbone, sn.SkillNeurons]) -> tuple[Within, int]:
    """What comes of it, and how often the model answers on the way."""
    with pytest.MonkeyPatch.context() as patched:
        counted = answering(patched)
        own = within(*learned, **WALKED)
        assert len(own.walk.rows) > 4
        return own, len(counted)


@pytest.mark.parametrize("share", [0.6, 0.9])
def test_stopped_on_the_way_it_ends_as_undisturbed(
    learned: tuple[sn.Backbone, sn.SkillNeurons], undisturbed: tuple[Within, int], share: float, tmp_path: Path
) -> None:
    whole, answers = undisturbed
    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        answering(patched, share * answers)
        within(*learned, out=tmp_path, **WALKED)
    with pytest.MonkeyPatch.context() as patched:
        counted = answering(patched)
        assert same(whole, within(*learned, out=tmp_path, **WALKED))
        assert len(counted) < answers
    assert not [*tmp_path.glob("*unfinished*")]


def test_what_is_known_is_not_tried_again(
    learned: tuple[sn.Backbone, sn.SkillNeurons], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**OPTIONS, "budget": "accuracy -5"}
    first = within(*learned, out=tmp_path, **options)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(files) > {"walk.json", "walk.safetensors"} and len(files) == 2 + len(first.walk.rows[1:]) > 3
    with monkeypatch.context() as patched:
        for name in ("evaluate", "tuned", "tuned_further"):
            patched.setattr(built, name, lambda *_, **__: pytest.fail("it was tried again"))
        with monkeypatch.context() as again:
            again.setattr(searching, "evaluate", lambda *_, **__: pytest.fail("test was asked again"))
            assert same(first, within(*learned, out=tmp_path, **options))
        loaded = Walk.load(tmp_path)
        assert loaded.verdict == first.verdict and loaded.table().equals(first.table())
        looser = within(*learned, out=tmp_path, **options | {"budget": "accuracy -100"})
    assert len(looser.walk.rows) == 2 and looser.walk.chosen == dict(first.walk.rows[1]) | {"chosen": True}
    path = min(tmp_path.glob("candidate-*"))
    path.write_bytes(path.read_bytes()[:100])  # cut short: that one is tried anew
    assert same(first, within(*learned, out=tmp_path, **options))
    assert path.read_bytes() == files[path.name]
    search = Search(*learned, PruneConfig.make(**OPTIONS), 0, tmp_path)
    changed = [
        Search(*learned, PruneConfig.make(**OPTIONS | more), trial, None).identity(Candidate((1,), 0.1, "frozen"))
        for more, trial in (({}, 1), ({"steps": 5}, 0), ({"baseline": "one"}, 0), ({"reestimate": True}, 0))
    ]
    others = [
        search.identity(Candidate(*own)) for own in (((1,), 0.1, "frozen"), ((1,), 0.1, 2), ((2,), 0.1, "frozen"))
    ]
    assert len({*changed, *others}) == 7


# said and refused


@pytest.mark.parametrize(
    ("right", "dense", "said"),
    [
        (0.898, 0.9, "Holds: on test too the chosen model is within the budget; 89.8 % against 90.0 %, -0.2"),
        (0.700, 0.9, "Does not hold: on test the chosen model loses more than the budget allows; 70.0 % against"),
        (0.889, 0.9, "Cannot be told with this much data: whether on test too"),
        (0.400, 0.4, "Cannot be told: the dense model does not beat the commonest label"),
    ],
)
def test_its_verdict(right: float, dense: float, said: str) -> None:
    samples = np.arange(1000) / 1000
    arrays = {"right": torch.from_numpy(np.stack([samples < dense, samples < right]).astype(np.uint8))}
    rows = [
        {
            "ffns": "whole", "prompt": prompt, "multiplications": 10**6, "times": times, "baseline": None, "dev": 0.8,
            "difference": 0.0, "chosen": prompt == "frozen",
        }
        for prompt, times in (("whole", 1.0), ("frozen", 4.0))
    ]  # fmt: skip
    about = {
        "seed": 0, "majority": 0.5, "task": "any", "budget": "accuracy -1.0", "points": 1.0, "tokens": 9, "left": 3,
        "samples": 50,
    }  # fmt: skip
    walk = Walk(about, rows, arrays)
    assert walk.verdict.startswith(said)
    if "against" in said:
        assert "with 4.0 times fewer multiplications" in walk.verdict


def test_bad_options_are_told(learned: tuple[sn.Backbone, sn.SkillNeurons]) -> None:
    model, skill = learned
    with pytest.raises(sn.SkillNeuronsError, match="trials are counted from 0"):
        within(model, skill, trial=2)
    with pytest.raises(sn.SkillNeuronsError, match="pruned layers are some of 0 to 2"):
        within(model, skill, layers=(7,))
    other, tokenizer = tiny("roberta", seed=1)
    with pytest.raises(sn.SkillNeuronsError, match="a run is read with the model it was found in"):
        within(sn.load_model(other, tokenizer=tokenizer), skill)
    with pytest.raises(sn.SkillNeuronsError, match="--int8 goes with --budget"):
        Prune(Path("anywhere"), int8=True).run()


@pytest.mark.parametrize("int8", [False, True])
def test_the_command_searches_shows_and_ships(int8: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if int8:
        pytest.importorskip("onnxruntime")
    backbone = sn.load_model(save_tiny("bert", tmp_path / "model"), device="cpu")
    run = tmp_path / "run"
    skill = sn.find(backbone, make("single", train=30, dev=20, test=20), out=run, **FOUND | {"steps": 4, "trials": 1})
    Prune(run, device="cpu", budget="accuracy -100", int8=int8, config=PruneConfig.make(**OPTIONS)).run()
    said = " ".join(capsys.readouterr().out.split())
    out = run / "budget"
    walk = Walk.load(out)
    assert walk.verdict in said and "skillneurons predict" in said and (out / "figures" / "walk.svg").exists()
    shipped = load_pruned(out / "model", device="cpu", runtime="onnx-int8" if int8 else "torch")
    answers = shipped.predict([row["text"] for row in skill.task.test.rows])
    right = [
        own.label == skill.task.labels[row["label"]] for own, row in zip(answers, skill.task.test.rows, strict=True)
    ]
    if int8:
        assert "int8 is within the budget: dev" in said and f"test {100 * np.mean(right):.1f} %" in said
    else:
        assert right == walk.arrays["right"][1].bool().tolist()
