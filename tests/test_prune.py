"""Pruning a run: which neurons stay, at which means the others are frozen, what it costs, and going on after a kill."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot

import skillneurons as sn
from skillneurons.config import Config
from skillneurons.evidence.claims import paired
from skillneurons.finding.measure import interval
from skillneurons.finding.portraits.shading import plain
from skillneurons.models import load_model
from skillneurons.pruning import prune as pruning
from skillneurons.pruning.config import PruneConfig
from skillneurons.pruning.costs import Costs
from skillneurons.pruning.cut import cut
from skillneurons.pruning.means import of_run, reestimated, staying
from skillneurons.pruning.prune import prune
from skillneurons.pruning.pruned import Pruned
from skillneurons.tuning.config import TuneConfig
from skillneurons.tuning.evaluate import evaluate_inputs
from skillneurons.tuning.inputs import Inputs
from skillneurons.tuning.prompt import initial
from skillneurons.tuning.train import Job, train

from .backbones import fresh, without_dropout
from .families import tiny
from .makings import easy, make

FOUND: dict[str, Any] = {
    "trials": 2, "positions": 3, "steps": 8, "evaluate_every": 4, "lr": 0.05, "init_std": 0.5, "batch": 4
}  # fmt: skip
KEEP = 0.25


def found(task: sn.Task, name: str = "roberta", **options: Any) -> tuple[sn.Backbone, sn.SkillNeurons]:
    model, tokenizer = tiny(name)
    backbone = sn.load_model(model, tokenizer=tokenizer)
    return backbone, sn.find(backbone, task, **{**FOUND, **options})


@pytest.fixture(scope="module")
def single() -> tuple[sn.Backbone, sn.SkillNeurons]:
    return found(make("single"))


@pytest.fixture(scope="module")
def three() -> tuple[sn.Backbone, sn.SkillNeurons]:
    return found(make("three"), trials=1)


def frozen(skill: sn.SkillNeurons, kept: sn.NeuronSet, layers: Any) -> sn.NeuronSet:
    """The neurons of `layers` that do not stay."""
    rest = {(layer, at) for layer in layers for at in range(skill.widths[layer])} - set(kept)
    return sn.NeuronSet(tuple(sorted(rest)), skill.widths)


# what stays


def ranked(skill: sn.SkillNeurons, name: str) -> list[tuple[int, int]]:
    table = skill.table()
    own = table[table["subtask"] == name].sort_values("rank")
    return list(zip(own["layer"].tolist(), own["neuron"].tolist(), strict=True))


def test_the_best_of_each_layer_stay(single: tuple[sn.Backbone, sn.SkillNeurons]) -> None:
    _, skill = single
    kept = staying(skill, PruneConfig(keep=KEEP), (1, 2))
    for layer in (1, 2):
        best = [at for own, at in ranked(skill, "single") if own == layer][: round(KEEP * skill.widths[layer])]
        assert sorted(best) == kept.by_layer()[layer].tolist()
    assert set(kept.by_layer()) == {1, 2}


def test_the_best_of_the_pruned_layers_together_stay(single: tuple[sn.Backbone, sn.SkillNeurons]) -> None:
    _, skill = single
    best = [pair for pair in ranked(skill, "single") if pair[0] in (0, 2)]
    kept = staying(skill, PruneConfig(keep=KEEP, scope="model"), (0, 2))
    assert list(kept) == best[: round(KEEP * len(best))]
    least = staying(skill, PruneConfig(keep=1e-6, scope="model"), (0, 2))  # of which one layer would have none
    assert sorted(least) == sorted(next(pair for pair in best if pair[0] == layer) for layer in (0, 2))


def test_several_labels_have_a_ranking_of_their_own(three: tuple[sn.Backbone, sn.SkillNeurons]) -> None:
    model, skill = three
    kept = staying(skill, PruneConfig(keep=KEEP, scope="model"), (1, 2))
    best = [pair for pair in ranked(skill, "three") if pair[0] in (1, 2)]
    assert list(kept) == best[: len(kept)]
    small = prune(model, skill, keep=KEEP, tune=False)
    assert len(small.table()) == 3 and small.prompts[0].trial == 0


@pytest.mark.parametrize(
    ("layers", "top"), [(12, range(3, 12)), (6, range(2, 6)), (4, range(1, 4)), (2, [1]), (1, [0])]
)
def test_the_top_three_quarters_are_pruned(layers: int, top: Any) -> None:
    assert PruneConfig().chosen(layers) == tuple(top)


# what it comes to


@pytest.mark.parametrize("reestimate", [False, True])
def test_figures_are_those_of_the_frozen_model(single: tuple[sn.Backbone, sn.SkillNeurons], reestimate: bool) -> None:
    model, skill = single
    small = prune(model, skill, keep=KEEP, tune=False, reestimate=reestimate)
    assert small.layers == (1, 2) and len(small.table()) == 2 * 3
    rest = frozen(skill, small.kept, small.layers)
    for row in small.table().to_dict("records"):
        trial, prompt = row["trial"], skill.prompts[row["trial"]]
        if row["baseline"] == "dense":
            assert row["dev"] == prompt.accuracy and row["test"] == skill.results["prompt_accuracy"][trial]
            assert row["share"] == 1.0
            continue
        one = row["baseline"] == "one"
        means = of_run(skill, trial)
        if reestimate:
            means = reestimated(model, skill, trial, small.kept, small.layers, one)
        with model.edit(rest, sn.Baseline(means, one)):
            assert row["dev"] == sn.evaluate(model, skill.task, prompt, "dev").accuracy
            assert row["test"] == sn.evaluate(model, skill.task, prompt, "test").accuracy
        shipped = cut(model, small.kept, small.layers, means, one)
        assert row["parameters"] == sum(own.numel() for own in shipped.model.parameters())
    shown = {name: own["dev"].mean() for name, own in small.table().groupby("baseline") if name != "dense"}
    assert shown[small.baseline] == max(shown.values())
    for trial, prompt in enumerate(small.prompts):
        assert torch.equal(prompt.embedding, skill.prompts[trial].embedding)
        dev = sn.evaluate(small.model(trial), skill.task, prompt, "dev").accuracy
        own = small.table().query("trial == @trial and baseline == @small.baseline")
        assert dev == prompt.accuracy == own["dev"].item()
    assert small.prompts[small.best].accuracy == max(prompt.accuracy for prompt in small.prompts)


def test_figures_over_trials(single: tuple[sn.Backbone, sn.SkillNeurons]) -> None:
    model, skill = single
    small = prune(model, skill, keep=KEEP, tune=False)
    labels = skill.tested.labels
    dense = (skill.tested.predicted == labels).mean(0)
    right = np.mean(
        [sn.evaluate(small.model(trial), skill.task, small.prompts[trial]).correct for trial in range(2)], axis=0
    )
    own = small.costs.means().query("baseline == @small.baseline").to_dict("records")[0]
    assert own["test"] == pytest.approx(right.mean())
    assert {key: own[key] for key in ("low", "high")} == interval([right], skill.config.seed)
    loss = paired(dense - right, skill.config.seed)
    assert (own["loss"], own["loss_low"], own["loss_high"], own["p"]) == (loss.difference, loss.low, loss.high, loss.p)


def test_means_estimated_anew_are_those_of_the_pruned_model(single: tuple[sn.Backbone, sn.SkillNeurons]) -> None:
    model, skill = single
    kept, layers = staying(skill, PruneConfig(keep=KEEP), (0, 1, 2)), (0, 1, 2)
    for one in (False, True):
        means = reestimated(model, skill, 0, kept, layers, one)
        assert torch.allclose(means[0], skill.scores[0].mean(0), atol=1e-6)  # nothing is pruned below
        for layer in (1, 2):
            below = cut(model, kept, range(layer), means, one)
            [scores] = sn.score(below, skill.task, [skill.prompts[0]])
            assert torch.allclose(means[layer], scores.mean(layer), atol=1e-6)
            assert not torch.allclose(means[layer], skill.scores[0].mean(layer), atol=1e-3)


# the prompt, tuned further


def test_a_start_that_is_the_beginning_changes_nothing() -> None:
    model, tokenizer = tiny("bert")
    backbone = sn.load_model(model, tokenizer=tokenizer)
    config = TuneConfig.make(**FOUND)
    inputs = Inputs(backbone, make("single"), config.positions)
    start = initial(backbone, config, 1)
    [as_ever], [from_there] = (train([Job(inputs, 1, 0.05, start=own)], config) for own in (None, start))
    assert torch.equal(as_ever.embedding, from_there.embedding) and as_ever.history == from_there.history
    assert torch.equal(start, initial(backbone, config, 1))


def test_tuning_goes_on_as_under_the_edit() -> None:
    """The same loop on the whole model with the same neurons frozen: the same prompt."""
    loaded, tokenizer = fresh("bert")
    without_dropout(loaded)
    model = load_model(loaded.double(), tokenizer=tokenizer)
    skill = sn.find(model, make("single"), **{**FOUND, "trials": 1})
    small = prune(model, skill, keep=KEEP, baseline="positions", steps=6, lr=0.02, layers=(0, 1))
    start, inputs = skill.prompts[0], Inputs.beside(model, skill.task, skill.prompts[0])
    config = TuneConfig.make(**skill.config.model_dump() | {"steps": 6})
    with model.edit(frozen(skill, small.kept, (0, 1)), sn.Baseline(of_run(skill, 0))):
        before = evaluate_inputs(inputs, start.embedding, "dev").accuracy
        [expected] = train([Job(inputs, 0, 0.02, start=start.embedding)], config)
    if expected.accuracy < before:
        assert torch.equal(small.prompts[0].embedding, start.embedding)
    else:
        assert torch.allclose(small.prompts[0].embedding, expected.embedding, atol=1e-5)
        assert not torch.equal(small.prompts[0].embedding, start.embedding)
    assert small.prompts[0].accuracy == max(before, expected.accuracy)


@pytest.mark.parametrize("lr", [0.05, 1e3])
def test_the_prompt_is_no_worse_on_dev_than_it_was(lr: float) -> None:
    model, skill = found(easy(), "bert", steps=20, evaluate_every=10)
    small = prune(model, skill, keep=KEEP, layers=(0, 1), lr=lr, steps=10)
    table = small.table().query("baseline == @small.baseline").set_index(["retuned", "trial"])["dev"]
    assert (table[True] >= table[False]).all()
    for trial, prompt in enumerate(small.prompts):
        own = evaluate_inputs(Inputs.beside(small.model(trial), skill.task, prompt), prompt.embedding, "dev")
        assert own.accuracy == prompt.accuracy == table[True][trial]


def test_untuned_prompts_are_tuned_at_a_rate_that_is_given_or_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model, skill = found(make("single"), "bert", prompt="random", lr="auto", trials=1)
    assert skill.prompts[0].lr is None
    tried = []
    monkeypatch.setattr(pruning, "choose_rate", lambda inputs, config: tried.append(config.lr) or 0.03)  # type: ignore[func-returns-value]
    options: dict[str, Any] = {"keep": KEEP, "layers": (1,), "steps": 1, "baseline": "one"}
    rates = [prune(model, skill, **options | more).prompts[0].lr for more in ({"lr": 0.05}, {})]
    assert set(rates) <= {None, 0.05, 0.03} and tried == ["auto"]


# kept, and gone on with


OPTIONS: dict[str, Any] = {"keep": KEEP, "steps": 8, "reestimate": True}


def test_the_same_call_runs_nothing_again(
    single: tuple[sn.Backbone, sn.SkillNeurons], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, skill = single
    first = prune(model, skill, out=tmp_path, **OPTIONS)
    kinds = ("one", "positions", f"{first.baseline}-tuned")
    trials = {f"trial-{trial}-{kind}.safetensors" for trial in (0, 1) for kind in kinds}
    assert {path.name for path in tmp_path.iterdir()} == trials | {"costs.json", "costs.safetensors"}
    with monkeypatch.context() as patched:
        patched.setattr(sn.Backbone, "answer", lambda *_: pytest.fail("the model ran"))
        patched.setattr(sn.Backbone, "read", lambda *_: pytest.fail("the model ran"))
        again = prune(model, skill, out=tmp_path, **OPTIONS)
    assert same(first, again)
    assert Costs.load(tmp_path).table().equals(first.table()) and Costs.load(tmp_path).verdict == first.verdict
    path = tmp_path / f"trial-1-{first.baseline}-tuned.safetensors"
    path.write_bytes(path.read_bytes()[:100])  # cut short: that one is made anew
    assert same(first, prune(model, skill, out=tmp_path, **OPTIONS))
    other = prune(model, skill, out=tmp_path, keep=2 * KEEP, tune=False)
    assert len(other.kept) > len(first.kept)  # nothing of another pruning is taken for this one's
    parameters = [own.table().groupby("baseline")["parameters"].first() for own in (first, other)]
    assert all(parameters[1][baseline] > parameters[0][baseline] for baseline in ("one", "positions"))


def same(one: Pruned, other: Pruned) -> bool:
    prompts = zip(one.prompts, other.prompts, strict=True)
    batch = [np.array([5, 6, 7])]
    answers = []
    for own in (one, other):
        small = own.model(1)
        with torch.no_grad():
            answers.append(small.answer(small.place(own.prompts[1].embedding, batch)))
    return (
        one.table().equals(other.table())
        and all(torch.equal(own.embedding, its.embedding) for own, its in prompts)
        and torch.equal(*answers)
    )


@pytest.fixture(scope="module")
def undisturbed(single: tuple[sn.Backbone, sn.SkillNeurons]) -> tuple[Pruned, int]:
    """What comes of it, and how often the model answers on the way."""
    with pytest.MonkeyPatch.context() as patched:
        counted = answering(patched)
        return prune(*single, **OPTIONS), len(counted)


def answering(patched: pytest.MonkeyPatch, most: float = np.inf) -> list[None]:
    """A list as long as the model has answered; beyond `most` answers it is stopped."""
    answer, counted = sn.Backbone.answer, []  # type: ignore[var-annotated]

    def count(self: sn.Backbone, batch: Any) -> Any:
        if len(counted) >= most:
            raise KeyboardInterrupt
        counted.append(None)
        return answer(self, batch)

    patched.setattr(sn.Backbone, "answer", count)
    return counted


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_stopped_on_the_way_it_ends_as_undisturbed(
    single: tuple[sn.Backbone, sn.SkillNeurons], undisturbed: tuple[Pruned, int], share: float, tmp_path: Path
) -> None:
    whole, answers = undisturbed
    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        answering(patched, share * answers)
        prune(*single, out=tmp_path, **OPTIONS)
    with pytest.MonkeyPatch.context() as patched:
        counted = answering(patched)
        assert same(whole, prune(*single, out=tmp_path, **OPTIONS))
        assert share <= 0.1 or len(counted) < answers
    assert not [*tmp_path.glob("*unfinished*")]


# said and refused


@pytest.mark.parametrize(
    ("right", "dense", "said"),
    [
        (0.900, 0.9, "Holds: the pruned model answers as well as the dense one, to within a point; 90.0 % against"),
        (0.700, 0.9, "Does not hold: pruning costs more than a point; 70.0 % against 90.0 % on test, -20.0"),
        (0.889, 0.9, "Cannot be told with this much data: whether the pruned model answers as well as"),
        (0.400, 0.4, "Cannot be told: the dense model does not beat the commonest label"),
    ],
)
def test_its_verdict(right: float, dense: float, said: str) -> None:
    samples = np.arange(1000) / 1000
    arrays = {"right": torch.from_numpy(np.stack([samples < dense, samples < right]).astype(np.uint8))}
    rows = [
        {
            "trial": 0,
            "baseline": name,
            "retuned": name == "one",
            "dev": 0.5,
            "test": value,
            "parameters": 9,
            "share": 0.5,
        }
        for name, value in (("dense", dense), ("one", right))
    ]
    about = {
        "baseline": "one", "retuned": True, "seed": 0, "majority": 0.5, "task": "any", "layers": [1],
        "config": {"keep": 0.1},
    }  # fmt: skip
    costs = Costs(about, rows, arrays)
    assert costs.verdict.startswith(said)
    shown = " ".join(plain(costs.screen()).split())
    assert costs.verdict in shown and "one mean tuned further 50.0 %" in shown
    pyplot.close(costs.plot().get_figure(root=True))


def test_what_is_printed_has_the_verdict(single: tuple[sn.Backbone, sn.SkillNeurons]) -> None:
    small = prune(*single, keep=KEEP, tune=False, baseline="one")
    assert small.verdict in repr(small) and small.verdict in " ".join(plain(small.screen()).split())
    pyplot.close(small.plot().get_figure(root=True))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keep": 0.0}, r"keep: .*greater than 0 \(given: 0\.0\)"),
        ({"keep": 1.5}, "keep: .*less than or equal to 1"),
        ({"baseline": "zero"}, "baseline: "),
        ({"layers": (1, 7)}, r"pruned layers are some of 0 to 2, each named once; given: 1, 7\."),
        ({"layers": (1, 1)}, "each named once; given: 1, 1"),
        ({"layers": ()}, "given: none"),
        ({"layers": (-1,)}, "layers"),
        ({"steps": 0}, "steps: "),
    ],
)
def test_bad_options_are_told(single: tuple[sn.Backbone, sn.SkillNeurons], options: dict[str, Any], said: str) -> None:
    with pytest.raises(sn.SkillNeuronsError, match=said):
        prune(*single, **options)


def test_layers_may_be_a_range() -> None:
    assert PruneConfig.make(layers=range(3, 12)).layers == tuple(range(3, 12))
    assert isinstance(PruneConfig(), Config)


def test_another_model_is_refused(single: tuple[sn.Backbone, sn.SkillNeurons]) -> None:
    model, skill = single
    other, tokenizer = tiny("roberta", seed=1)
    with pytest.raises(sn.SkillNeuronsError, match="a run is read with the model it was found in"):
        prune(sn.load_model(other, tokenizer=tokenizer), skill)
    small = prune(model, skill, keep=KEEP, tune=False, baseline="one")
    with pytest.raises(sn.SkillNeuronsError, match="trials are counted from 0"):
        small.model(2)


def test_a_run_that_was_saved_is_pruned_alike(single: tuple[sn.Backbone, sn.SkillNeurons], tmp_path: Path) -> None:
    model, skill = single
    skill.save(tmp_path)
    whole = prune(model, skill, keep=KEEP, tune=False)
    again = prune(model, sn.SkillNeurons.load(tmp_path), keep=KEEP, tune=False, out=tmp_path / "pruned")
    assert same(whole, again)
    shutil.rmtree(tmp_path / "pruned")
