"""Design choices and pooled activations: each definition by hand, the run's own first, in pictures and orders."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from rich.console import Console
from scipy.stats import spearmanr

import skillneurons as sn
from skillneurons.errors import SkillNeuronsError
from skillneurons.evidence.choices import Choices, by_choice, choices
from skillneurons.evidence.distributions import EDGES, panels, task_order
from skillneurons.evidence.pooled import Pooled, pooled
from skillneurons.finding.peers.peers import peers
from skillneurons.finding.score import TrialScores

from .backbones import fresh, hooks
from .makings import Form, make

OPTIONS: dict[str, Any] = {"trials": 2, "positions": 3, "prompt": "random", "init_std": 0.5}


@cache
def backbone(name: str) -> sn.Backbone:
    model, tokenizer = fresh(name)
    return sn.load_model(model, tokenizer=tokenizer)


@cache
def found(form: Form, name: str = "roberta", trials: int = 2) -> sn.SkillNeurons:
    return sn.find(backbone(name), make(form), **OPTIONS | {"trials": trials})


def test_the_choices_are_those_of_a_loop_over_positions() -> None:
    draw = np.random.default_rng(0)
    totals = np.array([[20, 30], [7, 9]])
    fired = [
        np.stack([draw.integers(0, own.reshape(2, 1, 1) + 1, (2, 4, width)) for own in totals]) for width in (5, 3)
    ]
    for weighted in (True, False):
        tensors = {f"fired.{layer}": torch.from_numpy(own) for layer, own in enumerate(fired)}
        own = by_choice(TrialScores(tensors, totals, weighted, 2))
        for subtask, (negatives, positives) in enumerate(totals):
            column = 0
            for layer in fired:
                for neuron in range(layer.shape[-1]):
                    right = []
                    for low, high in layer[subtask, :, :, neuron].T:
                        true_negative, true_positive = negatives - low, high
                        if weighted:
                            right.append((true_negative / negatives + true_positive / positives) / 2)
                        else:
                            right.append((true_negative + true_positive) / (negatives + positives))
                    either = [max(share, 1 - share) for share in right]
                    assert own["predictivity"][subtask, column] == pytest.approx(max(either), abs=1e-12)
                    assert own["mean_position"][subtask, column] == pytest.approx(sum(either) / 4, abs=1e-12)
                    assert own["positive_only"][subtask, column] == pytest.approx(max(right), abs=1e-12)
                    column += 1


@pytest.mark.parametrize("form", ["single", "three"])
def test_our_own_definition_is_the_runs_table(form: Form) -> None:
    skill = found(form)
    for own in (choices(skill), pooled(backbone("roberta"), skill)):
        table = skill.table()
        for index, subtask in enumerate(skill.task.subtasks):
            rows = table[table["subtask"] == subtask.name].sort_values(["layer", "neuron"])
            assert np.abs(own.scores("predictivity")[index] - rows["predictivity"]).max() < 1e-12
            first = own.table().query(f"subtask == '{subtask.name}' and definition == 'predictivity'").iloc[0]
            best = rows[rows["rank"] == 1].iloc[0]
            assert (first["layer"], first["neuron"]) == (best["layer"], best["neuron"])
            assert first["overlap"] == 1 and first["best"] == pytest.approx(best["predictivity"])


@pytest.mark.parametrize("name", ["roberta", "gpt2", "t5"])
def test_pooled_scores_are_those_of_the_peers(name: str) -> None:
    skill = found("three", name)
    attached = hooks(backbone(name).model)
    own = pooled(backbone(name), skill)
    other = peers(backbone(name), skill, orders=("pooled_mean", "pooled_maximum"))
    assert hooks(backbone(name).model) == attached
    for order, scores in other.scores.items():
        assert np.abs(own.scores(order) - scores).max() < 1e-12, order


def test_the_table_counts_and_correlates() -> None:
    skill = found("three")
    own = choices(skill)
    assert len(own.rows) == 4 * 3 and list(own.about["subtasks"]) == [subtask.name for subtask in skill.task.subtasks]
    for row in own.rows:
        index = own.about["subtasks"].index(row["subtask"])
        values, ours = own.scores(row["definition"])[index], own.scores("predictivity")[index]
        assert row["correlation"] == pytest.approx(spearmanr(values.round(12), ours.round(12)).statistic)
        assert row["median"] == np.median(values) and row["chance"] == row["top"] / len(values)
        counts = own.arrays[f"counts.{row['definition']}"][:, index].numpy()
        assert counts.shape == (2, len(EDGES) - 1) and (counts.sum(1) == len(values)).all()
        if row["definition"] != "predictivity":
            assert row["best"] == values.max() <= ours.max()


def test_orders_are_scores_and_several_subtasks_are_taken_in_turn() -> None:
    one, many = choices(found("single")), choices(found("three"))
    assert list(one.orders()) == ["mean_position", "positive_only"]
    assert np.abs(one.orders()["mean_position"] - one.scores("mean_position")[0]).max() < 1e-12
    by_subtask = [many.orders(name)["positive_only"] for name in many.about["subtasks"]]
    assert np.abs(np.stack(by_subtask) - many.scores("positive_only")).max() < 1e-12
    whole = many.orders()["positive_only"]
    assert sorted(whole) == list(range(1 - len(whole), 1))
    first = np.argsort(-whole)[:4]
    assert all(scores[at] >= np.sort(scores)[-4] for scores, at in zip(by_subtask, first, strict=True))


def test_a_tasks_order_takes_each_neuron_once() -> None:
    scores = np.array([[5.0, 4, 3, 2, 1], [5, 1, 2, 4, 3]])
    assert np.argsort(-task_order(scores, seed=0)).tolist() == [0, 3, 1, 4, 2]


def test_saved_and_read_again(tmp_path: Path) -> None:
    skill = found("three")
    for own, kind in ((choices(skill), Choices), (pooled(backbone("roberta"), skill), Pooled)):
        own.save(tmp_path)
        again = kind.load(tmp_path)
        assert again.table().equals(own.table()) and again.about == own.about
        assert all(torch.equal(again.arrays[name], values) for name, values in own.arrays.items())
        for (name, one), (other, two) in zip_longest(own.orders().items(), again.orders().items()):
            assert name == other and np.array_equal(one, two)


@pytest.mark.parametrize("trials", [1, 2])
def test_pictures_show_the_trials_mean(trials: int) -> None:
    own = choices(found("single", trials=trials))
    ax = own.plot()
    shown = [patch.get_data().values for patch in ax.patches]  # type: ignore[attr-defined]
    for values, name in zip(shown, own.titles, strict=True):
        assert np.array_equal(values, own.arrays[f"counts.{name}"][:, 0].numpy().mean(0))
    assert ax.get_yscale() == "log" and len(ax.containers) == (3 if trials > 1 else 0)
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()][:3] == list(own.titles.values())
    low, high = ax.get_xlim()
    assert all(low < 100 * scores.min() and 100 * scores.max() < high for scores in map(own.scores, own.titles))
    pyplot.close()


def test_panels_stand_side_by_side() -> None:
    ax = panels(choices(found("single")), choices(found("three")))
    figure = ax.get_figure(root=True)
    assert figure is not None
    assert [own.get_title(loc="left") for own in figure.axes] == [
        "single", "three: good-rest", "three: good-bad", "three: neutral-rest", "three: bad-neutral",
    ]  # fmt: skip
    assert [own.get_legend() is not None for own in figure.axes] == [False] * 2 + [True] + [False] * 2
    pyplot.close(figure)


def test_what_pooling_says() -> None:
    own = pooled(backbone("roberta"), found("three"))

    def told(ours: float, mean: float) -> str:
        best = {"predictivity": ours, "pooled_mean": mean, "pooled_maximum": 0.5}
        rows = [{**row, "best": 0.9 if row["subtask"] == "good-bad" and row["definition"] == "predictivity"
                 else best[row["definition"]]} for row in own.rows]  # fmt: skip
        return replace(own, rows=rows).verdict

    assert told(0.8, 0.8).startswith("Does not hold: pooled over the input, a neuron is as predictive as the best")
    assert told(0.8, 0.7).startswith("Cannot be told: whether neurons are more predictive at the prompt than pooled")
    assert "at prompt positions 80.0 %, mean over input 70.0 %" in told(0.8, 0.7) and "good-bad" not in told(0.8, 0.7)


def test_what_the_choices_say() -> None:
    own = choices(found("three"))
    row = min((row for row in own.rows if row["definition"] == "mean_position"), key=lambda row: row["correlation"])
    assert f"the least of 4 subtasks: mean over positions, {row['correlation']:.2f} and" in own.verdict
    assert "subtasks" not in choices(found("single")).verdict


def test_the_screen_names_every_definition() -> None:
    console = Console(width=140)
    with console.capture() as seen:
        console.print(choices(found("three")).screen())
    text = seen.get()
    assert choices(found("three")).verdict in " ".join(text.split())
    assert text.count("positive correlation only") == 5 and "by chance" in text and "good-bad" in text


def test_what_is_refused() -> None:
    skill = found("single")
    with pytest.raises(SkillNeuronsError, match="a run is read with the model it was found in"):
        pooled(backbone("gpt2"), skill)
    own = choices(skill)
    with pytest.raises(SkillNeuronsError, match="a definition is one of predictivity, mean_position, positive_only"):
        own.scores("best")
    for ask in (own.plot, own.orders):
        with pytest.raises(SkillNeuronsError, match="a subtask is one of single; given: 'other'"):
            ask(subtask="other")
    with pytest.raises(SkillNeuronsError, match="given: choices and pooled"):
        panels(own, pooled(backbone("roberta"), skill))
    with pytest.raises(SkillNeuronsError, match="given: none"):
        panels()
    assert not pyplot.get_fignums()
