"""Other orders beside predictivity: each as worked out by hand from activations read one sample at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot
from scipy.stats import spearmanr

import skillneurons as sn
from skillneurons.finding.agreement import rank_correlation, shared
from skillneurons.finding.peers.peers import ORDERS, peers
from skillneurons.finding.peers.result import Peers, by_score, settled
from skillneurons.models import Backbone
from skillneurons.tuning.inputs import Inputs

from .backbones import fresh, hooks
from .families import sentences, tiny
from .makings import Form, make
from .reading import Seen, read, read_one

OPTIONS: dict[str, Any] = {"trials": 2, "positions": 3, "prompt": "random", "init_std": 0.5}
CASES: list[tuple[str, Form]] = [("bert", "pair"), ("gpt2", "three"), ("t5", "single")]


def found(name: str, form: Form, **options: Any) -> tuple[Backbone, sn.SkillNeurons]:
    model, tokenizer = fresh(name)
    backbone = sn.load_model(model.double(), tokenizer=tokenizer)
    return backbone, sn.find(backbone, make(form, test=50), **OPTIONS | options)


@pytest.fixture(scope="module")
def three() -> tuple[Backbone, sn.SkillNeurons, Peers]:
    backbone, skill = found("bert", "three")
    return backbone, skill, peers(backbone, skill)


def by_hand(skill: sn.SkillNeurons, seen: Seen, index: int) -> dict[str, np.ndarray]:
    """AUROC and mean difference of every neuron for one subtask and trial, from definitions."""
    subtask = skill.task.subtasks[index]
    low, high = (
        np.concatenate([layer[np.isin(seen.labels, side)] for layer in seen.prompt], axis=2)
        for side in (subtask.negative, subtask.positive)
    )
    above, same = (compare(high[:, None], low[None]).mean((0, 1)) for compare in (np.greater, np.equal))
    area = above + same / 2
    squares = sum(((own - own.mean(0)) ** 2).sum(0) for own in (low, high))
    spread = np.sqrt(squares / (len(low) + len(high) - 2))
    difference = np.abs(high.mean(0) - low.mean(0)) / np.where(spread > 0, spread, 1)
    return {"auroc": np.maximum(area, 1 - area).max(0), "mean_difference": difference.max(0)}


@pytest.mark.parametrize(("name", "form"), CASES)
def test_orders_are_those_of_a_plain_loop_averaged_over_trials(name: str, form: Form) -> None:
    backbone, skill = found(name, form)
    other = peers(backbone, skill)
    model, tokenizer = backbone.model, backbone.tokenizer
    read_by_hand = [read(name, model, tokenizer, skill.task, "dev", own.embedding.double()) for own in skill.prompts]
    for index in range(len(skill.task.subtasks)):
        trials = [by_hand(skill, seen, index) for seen in read_by_hand]
        for order in ("auroc", "mean_difference"):
            expected = np.mean([trial[order] for trial in trials], axis=0)
            assert np.abs(other.scores[order][index] - expected).max() < 1e-9, order
    assert set(other.scores) == {"predictivity", *ORDERS}
    assert all(own.shape == (len(skill.task.subtasks), backbone.neurons) for own in other.scores.values())
    assert all(np.isfinite(own).all() for own in other.scores.values())


@pytest.mark.parametrize(("name", "form"), CASES)
def test_memory_decides_nothing(name: str, form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of a layer at a time for AUROC, a layer for the probes; other batches too."""
    backbone, skill = found(name, form, trials=1)
    whole = peers(backbone, skill)
    monkeypatch.setattr("skillneurons.tuning.inputs.TOKENS_IN_A_BATCH", 60)
    parts = peers(backbone, skill, memory=60 * 44 * 4 / 1e9)
    for order, scores in whole.scores.items():
        assert np.abs(parts.scores[order] - scores).max() < 1e-6 * scores.max(), order
    one, other = (own.table().drop(columns=["layer", "neuron"]) for own in (parts, whole))
    numbers = ["correlation", "overlap", "chance", "test_accuracy"]
    assert one["order"].equals(other["order"])
    assert (one[numbers] - other[numbers]).abs().max().max() < 0.1  # neurons that tie may change places


@pytest.mark.parametrize("name", ["roberta", "albert", "opt", "t5-gated", "bart", "llama"])
def test_families_of_every_kind_have_peers(name: str) -> None:
    model, tokenizer = fresh(name)
    backbone = sn.load_model(model.to(torch.bfloat16), tokenizer=tokenizer)
    skill = sn.find(backbone, make("single"), **OPTIONS | {"trials": 1})
    attached = hooks(backbone.model)
    other = peers(backbone, skill)
    table = other.table()
    assert table["order"].tolist() == ["predictivity", *ORDERS]
    assert table["test_accuracy"].between(0, 1).all() and (table["low"] <= table["high"]).all()
    assert all(np.isfinite(own).all() and own.max() > 0 for own in other.scores.values())
    assert len(other.layers()) == backbone.layers and hooks(backbone.model) == attached


def test_ours_is_what_the_run_says(three: tuple[Backbone, sn.SkillNeurons, Peers]) -> None:
    _, skill, other = three
    table, ranking = other.table(), skill.table()
    for index, subtask in enumerate(skill.task.subtasks):
        row = table[(table["subtask"] == subtask.name) & (table["order"] == "predictivity")].iloc[0]
        best = next(own for own in skill.results["top_neurons"] if own["subtask"] == subtask.name and own["rank"] == 1)
        assert {key: row[key] for key in ("layer", "neuron", "test_accuracy", "low", "high")} == {
            key: best[key] for key in ("layer", "neuron", "test_accuracy", "low", "high")
        }
        assert row["overlap"] == 1 and row["correlation"] == pytest.approx(1)
        own = ranking[ranking["subtask"] == subtask.name].sort_values(["layer", "neuron"])
        assert other.scores["predictivity"][index].tolist() == own["predictivity"].tolist()


def test_the_table_compares_orders(three: tuple[Backbone, sn.SkillNeurons, Peers]) -> None:
    _, skill, other = three
    table = other.table()
    assert len(table) == 4 * (1 + len(ORDERS))
    for index, subtask in enumerate(skill.task.subtasks):
        first = skill.table()
        first = first[(first["subtask"] == subtask.name) & (first["rank"] <= 10)]
        ours = set(zip(first["layer"], first["neuron"], strict=True))
        for order in ORDERS:
            row = table[(table["subtask"] == subtask.name) & (table["order"] == order)].iloc[0]
            ranked = other.neurons(order, subtask.name)
            assert ranked["score"].is_monotonic_decreasing and ranked["rank"].tolist() == list(
                range(1, len(ranked) + 1)
            )
            assert (row["layer"], row["neuron"]) == (ranked["layer"][0], ranked["neuron"][0])
            theirs = set(zip(ranked["layer"][:10], ranked["neuron"][:10], strict=True))
            assert row["top"] == 10 and row["overlap"] == len(ours & theirs) / 10
            assert row["chance"] == 10 / len(ranked)
            one, two = (settled(other.scores[own][index]) for own in ("predictivity", order))
            expected = spearmanr(one, two).statistic
            assert row["correlation"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("order", ["auroc", "gradient", "probe"])
def test_a_peers_best_neuron_is_read_as_predictivity_reads_it(
    three: tuple[Backbone, sn.SkillNeurons, Peers], order: str
) -> None:
    backbone, skill, other = three
    model, tokenizer = backbone.model, backbone.tokenizer
    seen = [read("bert", model, tokenizer, skill.task, "test", own.embedding.double()) for own in skill.prompts]
    for index, subtask in enumerate(skill.task.subtasks):
        row: Any = other.table().set_index(["subtask", "order"]).loc[(subtask.name, order)]
        layer, neuron = int(row["layer"]), int(row["neuron"])
        right = []
        for scores, own in zip(skill.scores, seen, strict=True):
            accuracy = scores.exact_accuracy(layer)[index, :, neuron]
            at = int(np.maximum(accuracy, 1 - accuracy).argmax())
            above = own.prompt[layer][:, at, neuron] > float(scores.baseline(layer)[index, at, neuron])
            right.append((above == (accuracy[at] >= 0.5)) == np.isin(own.labels, subtask.positive))
        sides = (np.isin(seen[0].labels, side) for side in (subtask.negative, subtask.positive))
        expected = np.mean([np.mean(right, axis=0)[side].mean() for side in sides])
        assert row["test_accuracy"] == pytest.approx(expected, abs=1e-12)
        assert row["low"] <= row["test_accuracy"] <= row["high"]


def test_layers_stand_beside_their_best_neuron(three: tuple[Backbone, sn.SkillNeurons, Peers]) -> None:
    _, skill, other = three
    layers, ranking = other.layers(), skill.table()
    assert len(layers) == 4 * len(skill.widths)
    for row in layers.to_dict("records"):
        own = ranking[(ranking["subtask"] == row["subtask"]) & (ranking["layer"] == row["layer"])].sort_values("rank")
        assert (row["neuron"], row["predictivity"]) == (own["neuron"].iloc[0], own["predictivity"].iloc[0])
        assert 0 <= row["probe_low"] <= row["probe"] <= row["probe_high"] <= 1
    top = skill.results["top_neuron"]
    same = layers[(layers["subtask"] == top["subtask"]) & (layers["layer"] == top["layer"])].iloc[0]
    assert (same["neuron"], same["test_accuracy"]) == (top["neuron"], top["test_accuracy"])


@pytest.mark.parametrize("where", ["position", "mean", "maximum"])
def test_a_neuron_that_decides_the_label_is_found(where: str) -> None:
    """Texts are labelled by what one neuron of a random model makes of them; those in the middle are left out."""
    model, tokenizer = tiny("bert")
    backbone = sn.load_model(model, tokenizer=tokenizer)
    options = OPTIONS | {"trials": 1}
    prompt = sn.find(backbone, make("single"), **options).prompts[0].embedding  # the same in every task
    values = {}
    for text in sentences(600, seed=5):
        activations, places = read_one("bert", model, tokenizer, [text], prompt)
        own = activations[1][places["prompt" if where == "position" else "inputs"], 9]
        values[text] = {"position": own[2], "mean": own.mean(), "maximum": own.max()}[where]
    texts = sorted(values, key=lambda text: values[text])
    rows = [{"text": text, "label": "low"} for text in texts[:150]] + [
        {"text": text, "label": "high"} for text in texts[-150:]
    ]
    np.random.default_rng(0).shuffle(rows)
    words = {"low": "negative", "high": "positive"}
    task = sn.Task.from_rows("planted", train=rows[:120], dev=rows[120:200], test=rows[200:], words=words)
    skill = sn.find(backbone, task, **options)
    assert torch.equal(skill.prompts[0].embedding, prompt)
    other = peers(backbone, skill)
    table: Any = other.table().set_index("order")
    telling = ["predictivity", "auroc"] if where == "position" else [f"pooled_{where}"]
    for order in telling:
        assert (table.loc[order, "layer"], table.loc[order, "neuron"]) == (1, 9), order
        assert table.loc[order, "test_accuracy"] > 0.97
    if where == "position":
        assert other.scores["auroc"].max() == 1


def test_orders_can_be_left_out(
    three: tuple[Backbone, sn.SkillNeurons, Peers], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, skill, whole = three
    for orders in (["mean_difference"], ["pooled_maximum"], ["gradient"], ["probe"], ["auroc"]):
        some = peers(backbone, skill, orders=orders)
        assert list(some.scores) == ["predictivity", *orders] == some.table()["order"].unique().tolist()
        assert np.allclose(some.scores[orders[0]], whole.scores[orders[0]], rtol=1e-9)
        if orders != ["probe"]:
            with pytest.raises(sn.SkillNeuronsError, match=r"compared by their probes.* are \w+\. Ask .* order probe"):
                some.layers()
        if orders != ["pooled_maximum"]:
            with pytest.raises(sn.SkillNeuronsError, match="pooled_mean or pooled_maximum"):
                some.plot_pooled()


def test_as_few_passes_as_there_can_be(
    three: tuple[Backbone, sn.SkillNeurons, Peers], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, skill, _ = three
    seen: list[str] = []
    batches = Inputs.by_length

    def counted(self: Any, split: Any) -> Any:
        seen.append(split)
        return batches(self, split)

    monkeypatch.setattr(Inputs, "by_length", counted)
    peers(backbone, skill)
    assert sorted(seen) == sorted(["train", "dev", "dev", "test"] * 2)  # dev once more for the gradients
    seen.clear()
    peers(backbone, skill, memory=(backbone.neurons // 4 + 1) * 40 * 3 * 8 / 1e9, orders=["auroc", "pooled_mean"])
    assert sorted(seen) == sorted(["train", *["dev"] * 4, "test"] * 2)


@pytest.mark.parametrize("order", ["auroc", "probe"])
def test_memory_that_cannot_do_is_refused_before_any_work(
    three: tuple[Backbone, sn.SkillNeurons, Peers], order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, skill, _ = three
    monkeypatch.setattr(type(backbone.model), "forward", lambda *_, **__: pytest.fail("the model ran"))
    least = {"auroc": "960 B", "probe": "10.6 kB"}[order]
    with pytest.raises(sn.SkillNeuronsError, match=rf"{least}; the memory may be .*Raise memory, or leave {order} out"):
        peers(backbone, skill, orders=[order], memory=9e-7)


def test_the_bytes_and_passes_are_said(
    three: tuple[Backbone, sn.SkillNeurons, Peers], capsys: pytest.CaptureFixture[str]
) -> None:
    backbone, skill, _ = three
    peers(backbone, skill, orders=["auroc", "probe"], memory=5e-5)
    said = capsys.readouterr().err
    assert "auroc holds 42.2 kB of activations, 2 passes over dev a trial" in said
    assert "probes hold 21.1 kB, 1 pass over train a trial (at most 50 kB at once)" in said


def test_nothing_stays_hooked_after_an_error(
    three: tuple[Backbone, sn.SkillNeurons, Peers], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, skill, _ = three
    attached = hooks(backbone.model)
    for target in ("probe.Averages", "auroc.Buffer", "difference.Differences", "places.Columns", "probe.Told"):
        with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="in the middle"):

            def fail(*_: Any) -> None:
                raise RuntimeError("in the middle")

            patched.setattr(f"skillneurons.finding.peers.{target}.__call__", fail)
            peers(backbone, skill)
        assert hooks(backbone.model) == attached, target


def test_another_model_is_refused(three: tuple[Backbone, sn.SkillNeurons, Peers]) -> None:
    _, skill, _ = three
    model, tokenizer = tiny("bert", seed=1)
    with pytest.raises(sn.SkillNeuronsError, match=r"read with the model it was found in: .* in float64"):
        peers(sn.load_model(model, tokenizer=tokenizer), skill)


@pytest.mark.parametrize(
    "options",
    [{"orders": ["roc"]}, {"orders": []}, {"memory": 0}, {"order": ["auroc"]}],
    ids=["roc", "none", "0", "order"],
)
def test_options_are_checked(three: tuple[Backbone, sn.SkillNeurons, Peers], options: dict[str, Any]) -> None:
    with pytest.raises(sn.SkillNeuronsError, match=f"{next(iter(options))}"):
        peers(three[0], three[1], **options)


def test_a_result_is_read_as_it_was_written(three: tuple[Backbone, sn.SkillNeurons, Peers], tmp_path: Path) -> None:
    _, skill, other = three
    skill.save(tmp_path)
    other.save(tmp_path)
    again = Peers.load(tmp_path)
    assert again.about == other.about and repr(again) == repr(other) and again._repr_html_() == other._repr_html_()
    pd.testing.assert_frame_equal(again.table(), other.table())
    pd.testing.assert_frame_equal(again.layers(), other.layers())
    for order, scores in other.scores.items():
        assert np.array_equal(again.scores[order], scores)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("peers.*")}
    again.save(tmp_path)
    assert before == {path.name: path.read_bytes() for path in tmp_path.glob("peers.*")}
    assert len(before) == 2


def test_what_is_broken_or_of_another_run_is_refused(
    three: tuple[Backbone, sn.SkillNeurons, Peers], tmp_path: Path
) -> None:
    backbone, _, other = three
    with pytest.raises(sn.SkillNeuronsError, match=r"there is no .*peers\.json.* ask for the peers"):
        Peers.load(tmp_path)
    other.save(tmp_path)
    for name, change in {
        "peers.json": lambda data: data[:300],
        "peers.safetensors": lambda data: data[:-100],
    }.items():
        kept = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(change(kept))
        with pytest.raises(sn.SkillNeuronsError, match=f"{name}.*ask for the peers again"):
            Peers.load(tmp_path)
        (tmp_path / name).write_bytes(kept)
    content = json.loads((tmp_path / "peers.json").read_text())
    foreign: Any
    for foreign in ([], {}, content | {"identity": "0"}, content | {"orders": ["auroc"]}):
        (tmp_path / "peers.json").write_text(json.dumps(foreign))
        with pytest.raises(sn.SkillNeuronsError, match=r"peers\.json is truncated, or not"):
            Peers.load(tmp_path)
    one = sn.find(backbone, make("single"), **OPTIONS | {"trials": 1})
    other.save(tmp_path)
    one.save(tmp_path)
    with pytest.raises(sn.SkillNeuronsError, match=r"peers\.json is of another run.*again"):
        Peers.load(tmp_path)
    with pytest.raises(sn.SkillNeuronsError, match=r"holds another\. Choose that run's folder"):
        other.save(tmp_path)


def test_unknown_names_are_told_from_known_ones(three: tuple[Backbone, sn.SkillNeurons, Peers]) -> None:
    with pytest.raises(sn.SkillNeuronsError, match=r"auroc, mean_difference.*given: 'roc'"):
        three[2].neurons("roc")
    with pytest.raises(sn.SkillNeuronsError, match=r"good-rest, good-bad.*given: 'bad'"):
        three[2].plot_pooled(subtask="bad")


def test_pictures_draw_on_axes_that_are_given_and_on_new_ones(three: tuple[Backbone, sn.SkillNeurons, Peers]) -> None:
    other = three[2]
    _, (one, two) = pyplot.subplots(1, 2)
    assert other.plot(one) is one and other.plot_pooled(two, "good-bad") is two
    points = one.containers
    assert len(points) == 4
    for container, (_, own) in zip(points, other.table().groupby("subtask", sort=False), strict=True):
        assert np.allclose(container[0].get_xdata(), 100 * own["test_accuracy"])
    assert next(tick.get_text() for tick in one.get_yticklabels()) == "predictivity"
    histograms: Any = two.patches
    drawn = [patch.get_data().values.sum() for patch in histograms]
    assert drawn == [88] * 3
    new = [other.plot(), other.plot_pooled()]
    assert new[0].get_figure() is not new[1].get_figure()
    pyplot.close("all")


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e6])
def test_what_is_equal_but_for_rounding_is_equal(scale: float) -> None:
    scores = scale * np.array([0.2, np.nextafter(0.2, 0), np.nextafter(0.2, 1), 0.2 + 1e-8])
    assert len({*scores[:3]}) == 3
    assert {*settled(scores)[:3]} == {settled(scores)[0]} and settled(scores)[3] > settled(scores)[0]
    assert settled(scores) == pytest.approx(scores, rel=1e-12)
    assert {int(by_score(scores, seed)[1]) for seed in range(30)} == {0, 1, 2}
    assert all(by_score(scores, seed)[0] == 3 for seed in range(30))
    assert settled(np.zeros(3)).tolist() == [0, 0, 0]


def test_orders_break_ties_at_random_and_correlate_by_ranks() -> None:
    scores = np.array([0.0, 2, 2, 2, 2, 5])
    orders = {tuple(by_score(scores, seed).tolist()) for seed in range(50)}
    assert len(orders) > 10 and all(order[0] == 5 and order[-1] == 0 for order in orders)
    assert by_score(scores, 3).tolist() == by_score(scores, 3).tolist()
    draw = np.random.default_rng(0)
    one, other = draw.integers(0, 5, 200).astype(float), draw.normal(size=200)
    assert rank_correlation(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert rank_correlation(one, np.ones(200)) is None
    assert shared(np.array([3, 1, 2, 0]), np.array([1, 0, 3, 2]), 2) == 0.5
