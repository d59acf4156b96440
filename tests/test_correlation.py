"""Rank correlations are scipy's on each layer's full vectors, and their mean; the picture shows them by kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from matplotlib import pyplot
from scipy.stats import spearmanr

import skillneurons as sn
from skillneurons.evidence.correlation import Correlation, correlate
from skillneurons.evidence.heat import by_kind
from skillneurons.finding.portraits.shading import plain

from .families import tiny
from .makings import Form, make

OPTIONS: dict[str, Any] = {"trials": 2, "positions": 3, "prompt": "random", "init_std": 0.5}
TASKS: tuple[tuple[Form, str | None, int], ...] = (
    ("single", "sentiment", 0), ("pair", "inference", 0), ("three", "sentiment", 0), ("pair", None, 1),
)  # fmt: skip


@cache
def backbone(name: str = "roberta") -> sn.Backbone:
    model, tokenizer = tiny(name)
    return sn.load_model(model, tokenizer=tokenizer)


@cache
def found(form: Form, kind: str | None, seed: int = 0) -> sn.SkillNeurons:
    return sn.find(backbone(), make(form, kind=kind, seed=seed), **OPTIONS)


@cache
def result() -> Correlation:
    return correlate(*(found(*own) for own in TASKS))


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    pyplot.close("all")


def ranks(skill: sn.SkillNeurons, layer: int) -> np.ndarray:
    """What a task's own ranking says of a layer's neurons: predictivity, or of several subtasks the rank in turn."""
    table = skill.table()
    rows = table[(table["subtask"] == skill.about["task"]) & (table["layer"] == layer)].sort_values("neuron")
    several = len(skill.about["subtasks"]) > 1
    return -rows["rank"].to_numpy(float) if several else rows["predictivity"].to_numpy().round(9)


def test_correlations_are_scipys_in_each_layer() -> None:
    table, skills = result().table(), [found(*own) for own in TASKS]
    assert result().tasks == ["single", "pair (1)", "three", "pair (2)"]
    assert len(table) == 6 * 4
    for one in range(4):
        for other in range(one + 1, 4):
            rows = table[(table["one"] == result().tasks[one]) & (table["other"] == result().tasks[other])]
            expected = [
                spearmanr(ranks(skills[one], layer), ranks(skills[other], layer)).statistic for layer in range(3)
            ]
            by_layer = rows[rows["layer"].notna()].sort_values("layer")["correlation"]
            assert by_layer.tolist() == pytest.approx(expected, abs=1e-12)
            mean = rows[rows["layer"].isna()]["correlation"].item()
            assert mean == pytest.approx(np.mean(expected), abs=1e-12)
            assert result().values()[one, other] == result().values()[other, one] == mean
            assert result().values(1)[one, other] == pytest.approx(expected[1], abs=1e-12)
    assert np.diag(result().values()) == pytest.approx(1)


def test_a_layer_of_equal_neurons_is_left_out_of_the_mean() -> None:
    skill = found("single", "sentiment")
    table = skill.table()
    table.loc[table["layer"] == 1, "predictivity"] = 0.5
    column = skill.neurons.column_names.index("predictivity")
    flat = replace(skill, neurons=skill.neurons.set_column(column, "predictivity", pa.array(table["predictivity"])))
    other = found("pair", "inference")
    given = correlate(flat, other)
    assert np.isnan(given.values(1)[0, 1])
    assert given.values()[0, 1] == pytest.approx(np.mean([given.values(0)[0, 1], given.values(2)[0, 1]]))
    assert given.table()["correlation"].isna().sum() == 1
    assert given.plot_layers() is not None


def test_kinds_are_tested_together() -> None:
    skills = [found("single", "a"), found("pair", "a", 1), found("three", "b")]
    given = correlate(*skills)
    values = given.values()
    test = given.same_kind_test()
    assert test.difference == pytest.approx(values[0, 1] - (values[0, 2] + values[1, 2]) / 2)
    every = [values[pair] - np.mean([values[own] for own in ((0, 1), (0, 2), (1, 2)) if own != pair])
             for pair in ((0, 1), (0, 2), (1, 2))]  # fmt: skip
    assert test.groupings == 3 and test.p == pytest.approx(np.mean(np.array(every) >= test.difference - 1e-9))
    one, two, three = (given.values(2)[pair] for pair in ((0, 1), (0, 2), (1, 2)))
    assert given.same_kind_test(layer=2).difference == pytest.approx(one - (two + three) / 2)
    layers = given.layers()
    assert layers["layer"].tolist() == [0, 1, 2] and layers["difference"][2] == given.same_kind_test(layer=2).difference
    assert given.verdict.startswith("Cannot be told with this much data: whether tasks of the same kind")
    assert f"p {test.p:.2g} over 3 groupings" in given.verdict and given.verdict in " ".join(
        plain(given.screen()).split()
    )


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (
            0.3,
            "Holds: tasks of the same kind order the neurons more alike than tasks of different kinds; same kind 0",
        ),
        (-0.3, "Does not hold: tasks of different kinds order the neurons as alike as tasks of the same kind"),
    ],
)
def test_its_verdict(gain: float, said: str) -> None:
    kinds = ["a", "a", "a", "b", "b", "c", "c"]
    draw = np.random.default_rng(0).normal(size=(2, 7, 7)) * 0.02
    values = 0.1 + gain * np.array([[one == other for other in kinds] for one in kinds]) + (draw + draw.swapaxes(1, 2))
    about = {**result().about, "tasks": list("abcdefg"), "kinds": kinds}
    assert Correlation(about, [], {"correlation": torch.from_numpy(values)}).verdict.startswith(said)


def test_tasks_without_a_kind_are_drawn_and_not_tested() -> None:
    with pytest.raises(sn.SkillNeuronsError, match=r"without one: pair \(2\)"):
        result().same_kind_test()
    assert result().verdict.startswith("Cannot be told: there is no test over kinds")
    assert result().verdict in " ".join(plain(result().screen()).split())
    assert by_kind(["a", "b", "a", None, "b", None]) == [0, 2, 1, 4, 3, 5]


@pytest.mark.parametrize("layer", [None, 1])
def test_the_picture_has_kinds_side_by_side(layer: int | None) -> None:
    ax = result().plot(layer=layer)
    order = [0, 2, 1, 3]
    assert [own.get_text() for own in ax.get_yticklabels()] == [result().tasks[place] for place in order]
    cells = {(int(own.get_position()[1]), int(own.get_position()[0])): own.get_text() for own in ax.texts}
    values = result().values(layer)[np.ix_(order, order)]
    assert cells == {
        (row, column): f"{values[row, column]:.2f}" for row in range(4) for column in range(4) if row != column
    }
    lines = sorted({float(np.asarray(own.get_ydata())[0]) for own in ax.get_lines()[::2]})
    assert lines == [1.5, 2.5]


def test_all_layers_stand_in_one_picture() -> None:
    figure = result().plot_layers().get_figure(root=True)
    assert figure is not None
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["Layer 0", "Layer 1", "Layer 2"]
    assert len({ax.images[0].get_clim() for ax in figure.axes}) == 1


def test_it_is_kept(tmp_path: Path) -> None:
    result().save(tmp_path)
    again = Correlation.load(tmp_path)
    assert again.table().equals(result().table())
    assert np.array_equal(again.values(2), result().values(2)) and again.kinds == [
        "sentiment",
        "inference",
        "sentiment",
        None,
    ]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(sn.SkillNeuronsError, match="at least two runs are compared; given: 1"):
        correlate(found("single", "sentiment"))
    other = sn.find(backbone("bert"), make("pair"), **OPTIONS | {"trials": 1})
    with pytest.raises(sn.SkillNeuronsError, match="Choose runs of the same model"):
        correlate(found("single", "sentiment"), other)
    with pytest.raises(sn.SkillNeuronsError, match="layers 0 to 2; given: layer 3"):
        result().plot(layer=3)
    with pytest.raises(sn.SkillNeuronsError, match="groupings"):
        correlate(found("single", "sentiment"), found("pair", None), groupings=3)
