"""Pictures of a run: they show its figures, nothing is cut off or covered, and the files are the same every time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.text import Text

import skillneurons as sn
from skillneurons.finding.pictures import activations, draw, layers, learning, pair, pictures, predictivity
from skillneurons.finding.portraits.by_token import by_token
from skillneurons.finding.portraits.drawing import by_label, groups, two_neurons
from skillneurons.finding.portraits.portrait import portrait
from skillneurons.tuning.prompt import Evaluated

from .families import tiny
from .makings import make

OPTIONS: dict[str, Any] = {"positions": 3, "steps": 6, "evaluate_every": 2, "lr": 0.05, "init_std": 0.5}


def backbone(name: str = "bert") -> sn.Backbone:
    model, tokenizer = tiny(name)
    return sn.load_model(model, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def binary() -> sn.SkillNeurons:
    return sn.find(backbone(), make("single"), trials=2, **OPTIONS)


@pytest.fixture(scope="module")
def several() -> sn.SkillNeurons:
    return sn.find(backbone(), make("three"), trials=1, **OPTIONS)


@pytest.fixture(scope="module")
def large(binary: sn.SkillNeurons) -> sn.SkillNeurons:
    """What a large run would hold: 24 layers, 12 trials, 14 labels with long and odd names, far-off samples."""
    about, draw = deepcopy(binary.about), np.random.default_rng(0)
    about["layers"], about["task"] = [40] * 24, "a task with quite a long name, longer than most"
    about["labels"] = [
        "an educational institution of higher learning",
        "_x",
        "$a_1$",
        *(f"label {i}" for i in range(11)),
    ]
    about["subtasks"][0] |= {"positive": about["labels"][:1], "negative": about["labels"][1:]}
    size, name = 24 * 40, about["subtasks"][0]["name"]
    values = np.sort(draw.beta(2, 4, size) / 2 + 0.5)[::-1]
    table = pd.DataFrame({"subtask": name, "layer": draw.integers(0, 24, size), "neuron": 0, "predictivity": values})
    table["rank"] = range(1, size + 1)
    table["layer"] = np.where(table["rank"] <= 24, table["rank"] - 1, table["layer"])
    labels = draw.integers(0, 14, 3000).astype(np.int32)
    read = draw.normal(labels[:, None], 1.0, (12, 3000, 10)).astype(np.float32)
    read[:, 0] = 500
    tested = replace(
        binary.tested, labels=labels, activations=read, predicted=np.zeros((12, 3000), np.int32),
        baseline=np.zeros((12, 10), np.float32), sign=np.ones((12, 10), np.int32),
    )  # fmt: skip
    history = tuple(Evaluated(2000 * step, 1 / step, 0.9 - 0.4 / step) for step in range(1, 30))
    prompts = [replace(binary.prompts[0], trial=trial, history=history) for trial in range(12)]
    return replace(binary, about=about, neurons=pa.Table.from_pandas(table), tested=tested, prompts=prompts)


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    pyplot.close("all")


@pytest.mark.parametrize("which", ["binary", "several"])
def test_every_picture_is_drawn_on_given_and_on_new_axes(which: str, request: pytest.FixtureRequest) -> None:
    skill = request.getfixturevalue(which)
    drawn = pictures(skill)
    assert len(drawn) == (7 if which == "binary" else 3 * 4 + 3)  # two trials; one, of four subtasks
    for picture in drawn.values():
        _, given = pyplot.subplots()
        assert picture(ax=given) is given and given.has_data()
        new = picture()
        assert new is not given and new.has_data() and new.get_title() == given.get_title()
        pyplot.close("all")


def check_legible(ax: Axes) -> None:
    """No words beyond the picture's edge, none on another along an axis, the legend beside the axes."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    whole = figure.bbox.expanded(1.001, 1.001)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_visible() and text.get_text().strip():
            box = text.get_window_extent()
            # ticks outside the limits are there and not drawn
            if any(text in axis.get_ticklabels() for axis in (ax.xaxis, ax.yaxis)) and not drawn_tick(ax, text):
                continue
            assert whole.x0 <= box.x0 and box.x1 <= whole.x1, text.get_text()
            assert whole.y0 <= box.y0 and box.y1 <= whole.y1, text.get_text()
    for axis, start, stop in ((ax.xaxis, "x0", "x1"), (ax.yaxis, "y0", "y1")):
        labels = [label for label in axis.get_ticklabels() if label.get_text() and drawn_tick(ax, label)]
        boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: getattr(box, start))
        assert all(getattr(one, stop) <= getattr(other, start) for one, other in pairwise(boxes))
    legend = ax.get_legend()
    if legend is not None:
        assert legend.get_window_extent().x0 >= ax.get_window_extent().x1
    assert ax.get_window_extent().width > 150


def drawn_tick(ax: Axes, label: Text) -> bool:
    (left, right), (bottom, top) = sorted(ax.get_xlim()), sorted(ax.get_ylim())
    x, y = label.get_position()
    return (left <= x <= right) if label in ax.get_xticklabels() else (bottom <= y <= top)


@pytest.mark.parametrize("which", ["binary", "several", "large"])
def test_nothing_is_cut_off_or_covered(which: str, request: pytest.FixtureRequest) -> None:
    for picture in pictures(request.getfixturevalue(which)).values():
        check_legible(picture())


def test_a_neurons_own_pictures_are_legible_too(several: sn.SkillNeurons) -> None:
    model = backbone()
    own = portrait(model, several, 0, 3)
    check_legible(own.plot())
    for length in (1, 12, 120):
        seen = by_token(model, several, " ".join(["bright", "dull"] * length)[: 6 * length], 0, 3)
        ax = seen.plot()
        check_legible(ax)
        bars = [patch.get_height() for patch in ax.patches]  # type: ignore[attr-defined]
        assert bars == pytest.approx(seen.inputs[:60].tolist())
    _, given = pyplot.subplots()
    assert own.plot(given) is given and seen.plot(given) is given


def bins_of(ax: Axes, series: int = 0) -> tuple[np.ndarray, np.ndarray]:
    data = ax.patches[series].get_data()  # type: ignore[attr-defined]
    return data.edges, data.values


def upright(ax: Axes) -> list[float]:
    """Where the vertical lines stand."""
    found = [line.get_xdata() for line in ax.lines]
    return [float(x[0]) for x in found if len(x) == 2 and x[0] == x[1]]  # type: ignore[arg-type, index]


def test_the_histogram_of_predictivity_counts_every_neuron(binary: sn.SkillNeurons) -> None:
    shuffled = np.full(7, 0.61)
    ax = predictivity(binary, beside={"labels shuffled": shuffled, "length": np.array([0.7])})
    values = binary.table()["predictivity"].to_numpy()
    edges, counts = bins_of(ax)
    assert counts.sum() == len(values) == sum(binary.widths)
    inside = [((values >= low - 1e-9) & (values < high - 1e-9)).sum() for low, high in pairwise(edges)]
    assert counts.tolist() == inside
    assert bins_of(ax, 1)[1].sum() == 7 and bins_of(ax, 1)[1][11] == 7
    dev = binary.task.dev.labels
    assert upright(ax) == pytest.approx([values.max(), np.bincount(dev).max() / len(dev)])
    assert ax.get_yscale() == "log"


def test_a_subtask_whose_sides_weigh_the_same_stands_beside_chance(several: sn.SkillNeurons) -> None:
    for subtask in several.task.subtasks:
        table = several.table()
        best = table[table["subtask"] == subtask.name]["predictivity"].max()
        assert upright(predictivity(several, subtask.name)) == pytest.approx([best, 0.5])


def test_layers_show_their_best_neuron_and_their_share(binary: sn.SkillNeurons, large: sn.SkillNeurons) -> None:
    for skill, best in ((binary, 1), (large, 10)):
        table, ax = skill.table(), layers(skill)
        shown = {line.get_label(): np.asarray(line.get_ydata()) for line in ax.lines}
        grouped = table.groupby("layer")["predictivity"]
        assert shown["best one"] == pytest.approx(grouped.max().to_numpy())
        assert shown["median"] == pytest.approx(grouped.median().to_numpy())
        counts = table[table["rank"] <= best]["layer"].value_counts()
        shares = [label.get_text().split("\n")[1] for label in ax.get_xticklabels()]
        assert shares == [f"{100 * counts.get(layer, 0) / best:.0f} %" for layer in range(len(skill.widths))]


def test_activations_are_those_of_the_test_split(several: sn.SkillNeurons) -> None:
    for index, spot in enumerate(several.results["top_neurons"][::7]):
        where = (spot["layer"], spot["neuron"])
        ax = activations(several, where, subtask=spot["subtask"])
        assert activations(several, where).has_data()
        tested = several.tested
        values = tested.activations[0, :, 7 * index]
        for label in range(3):
            own = values[tested.labels == label]
            edges, shares = bins_of(ax, label)
            assert np.histogram(own, edges)[0] / len(own) == pytest.approx(shares)
        assert upright(ax) == pytest.approx([float(tested.baseline[0, 7 * index])])


def test_two_neurons_are_a_point_for_each_sample(binary: sn.SkillNeurons, several: sn.SkillNeurons) -> None:
    for skill, spots, trial in ((binary, (0, 1), 1), (several, None, 0)):
        ax = pair(skill, trial=trial)
        if spots is None:
            names = [(spot["layer"], spot["neuron"]) for spot in skill.results["top_neurons"]]
            second = next(index for index in range(10, 40) if names[index] != names[0])
            spots = (0, second)
        for label, points in enumerate(ax.collections):
            own = skill.tested.labels == label
            shown = np.asarray(points.get_offsets())
            assert np.array_equal(shown, skill.tested.activations[trial][own][:, list(spots)])
        assert upright(ax) == pytest.approx([float(skill.tested.baseline[trial, spots[0]])])


def test_any_two_of_the_best_can_be_named(binary: sn.SkillNeurons) -> None:
    one, other = ((spot["layer"], spot["neuron"]) for spot in binary.results["top_neurons"][3:5])
    ax = pair(binary, other, one)
    assert ax.get_xlabel() == f"activation of neuron {other[1]} of layer {other[0]}"
    assert ax.get_ylabel() == f"activation of neuron {one[1]} of layer {one[0]}"


def test_learning_curves_are_the_prompts_history(binary: sn.SkillNeurons) -> None:
    for loss in (False, True):
        ax = learning(binary, loss=loss)
        for prompt, line in zip(binary.prompts, ax.lines, strict=False):
            assert np.asarray(line.get_xdata()).tolist() == [point.step for point in prompt.history]
            expected = [point.loss if loss else point.accuracy for point in prompt.history]
            assert np.asarray(line.get_ydata()).tolist() == expected
        assert len(ax.lines) == (2 if loss else 3)


def test_many_labels_are_told_apart_by_the_neurons_subtask() -> None:
    labels = list("abcdefgh")
    names, group = groups(labels, [["c", "d"], ["d", "h"]])
    assert names == ["c, d", "h", "the others"]
    assert group.tolist() == [2, 2, 0, 0, 2, 2, 2, 1]
    assert groups(labels[:6], [["c"]])[0] == labels[:6]


def test_far_off_samples_are_counted_and_not_drawn() -> None:
    values = np.concatenate([np.linspace(0, 1, 997), [1e3, 2e3, -5e3]])
    codes = np.arange(1000) % 2
    points = two_neurons(
        np.stack([values, values[::-1]], axis=1), codes, ["a", "b"], [["a"]] * 2, [0, 0], ["one", "other"]
    )
    assert sum(len(np.asarray(own.get_offsets())) for own in points.collections) == 1000 - beyond(points)
    assert 6 <= beyond(points) <= 20 and points.get_xlim()[1] < 2
    edges = np.linspace(-5000, 2001, 1001)
    counts = np.stack([np.histogram(values[codes == code], edges)[0] for code in (0, 1)])
    bars = by_label(edges, counts, ["a", "b"], ["a"], 0.5, "one")
    assert beyond(bars) == 0  # here a bin is wider than what is near: the axis must reach over all
    fine = np.linspace(-0.5, 200, 2006)
    near = np.concatenate([np.linspace(0, 1, 997), [50, 100, 150]])
    counts = np.stack([np.histogram(near[codes == code], fine)[0] for code in (0, 1)])
    bars = by_label(fine, counts, ["a", "b"], ["a"], 0.5, "one")
    assert 3 <= beyond(bars) <= 20 and bars.get_xlim()[1] < 2


def beyond(ax: Axes) -> int:
    told = ax.get_xlabel().partition("(")[2]
    return int(told.split()[0]) if told else 0


def test_files_are_the_same_for_the_same_run_and_no_figure_stays_open(binary: sn.SkillNeurons, tmp_path: Path) -> None:
    binary.save(tmp_path / "run")
    written = draw(binary, tmp_path / "one")
    again = draw(sn.SkillNeurons.load(tmp_path / "run"), tmp_path / "other")
    assert pyplot.get_fignums() == []
    assert [path.name for path in written] == [path.name for path in again]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(path.name for path in written)
    for one, other in zip(written, again, strict=True):
        assert one.read_bytes() == other.read_bytes() and one.stat().st_size > 2000


def test_a_subtasks_name_is_no_path(several: sn.SkillNeurons) -> None:
    about = deepcopy(several.about)
    about["subtasks"][0]["name"] = "../../a b"
    about["subtasks"][1]["name"] = "good/bad"
    names = list(pictures(replace(several, about=about)))
    assert {"predictivity-1-a-b", "predictivity-2-good-bad"} <= set(names) and len(set(names)) == len(names)
    assert not any("/" in name for name in names)


def test_random_prompts_have_no_learning_curve() -> None:
    options = {**OPTIONS, "prompt": "random", "trials": 1}
    skill = sn.find(backbone(), make("single"), **options)
    assert list(pictures(skill)) == ["predictivity", "layers", "activations", "two-neurons"]
    with pytest.raises(sn.SkillNeuronsError, match="that of a tuned prompt; those of this run are random"):
        learning(skill)
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (lambda skill: predictivity(skill, "elsewhere"), "one of single; given: 'elsewhere'"),
        (lambda skill: layers(skill, "elsewhere"), "one of single; given: 'elsewhere'"),
        (lambda skill: activations(skill, subtask="elsewhere"), "one of single; given: 'elsewhere'"),
        (lambda skill: activations(skill, (0, 99)), r"best neurons alone.*given: \(0, 99\).*portrait"),
        (lambda skill: activations(skill, trial=2), "trials 0 to 1; given: 2"),
        (lambda skill: pair(skill, (0, 99)), r"given: \(0, 99\)"),
        (lambda skill: pair(skill, trial=-1), "trials 0 to 1; given: -1"),
    ],
)
def test_what_is_not_there_is_told(
    picture: Callable[[sn.SkillNeurons], Axes], message: str, binary: sn.SkillNeurons
) -> None:
    with pytest.raises(sn.SkillNeuronsError, match=message):
        picture(binary)
    assert pyplot.get_fignums() == []
