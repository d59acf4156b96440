"""Pictures of a run, from what its folder holds; no model is needed.

    draw(skill, skill.folder / "figures")            # every picture, as SVG and PNG
    predictivity(skill)                              # one of them, on new axes; `ax=` draws on some that are there

In the look of `skillneurons.figures`. With several subtasks a picture is of one of them, by default the first.
Activations are those of the test split, which a run keeps of the best neurons of each subtask; `portrait` draws those
of any neuron, on any split.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from ..errors import SkillNeuronsError
from ..figures import COLOURS, INK, drawing, histogram, legend, line, marker, save, words
from .portraits.bins import Bins
from .portraits.drawing import by_label, two_neurons
from .show import percent
from .standing import refuse_trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from .skill import SkillNeurons

EDGES = np.linspace(0.5, 1.0, 51)
"""Of the histogram of predictivity."""
BEST = 0.01
"""The share of the neurons whose layers are shown."""


def draw(skill: SkillNeurons, folder: str | Path) -> list[Path]:
    """Write every picture of the run to `folder` as SVG and PNG; the same run gives the same bytes."""
    return [path for name, picture in pictures(skill).items() for path in save(picture(), Path(folder) / name)]


def pictures(skill: SkillNeurons) -> dict[str, Callable[..., Axes]]:
    """What can be drawn of the run: a name for the file, and a function that takes `ax=` and returns axes.

    Learning curves are there where prompts were tuned; nulls and peers where the run's folder keeps them.
    """
    found: dict[str, Callable[..., Axes]] = {}
    names = [own["name"] for own in skill.about["subtasks"]]
    nulls, peers, agreement = skill.nulls, skill.peers, skill.agreement
    for index, name in enumerate(names):
        end = f"-{index + 1}-{re.sub(r'[^A-Za-z0-9.]+', '-', name).strip('-.')}" if len(names) > 1 else ""
        found[f"predictivity{end}"] = partial(predictivity, skill, name)
        if nulls is not None:
            found[f"nulls{end}"] = partial(nulls.plot, subtask=name)
        if peers is not None and peers.pooled:
            found[f"pooled{end}"] = partial(peers.plot_pooled, subtask=name)
        found[f"layers{end}"] = partial(layers, skill, name)
        found[f"activations{end}"] = partial(activations, skill, subtask=name)
    found["two-neurons"] = partial(pair, skill)
    if agreement is not None:
        found["trials"] = agreement.plot
    if peers is not None:
        found["peers"] = peers.plot
    if any(prompt.history for prompt in skill.prompts):
        found["learning"] = partial(learning, skill)
        found["learning-loss"] = partial(learning, skill, loss=True)
    return found


def predictivity(
    skill: SkillNeurons,
    subtask: str | None = None,
    *,
    beside: Mapping[str, Float[np.ndarray, " _"]] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """How many neurons have which predictivity (Eq. 6, on dev), on a logarithmic axis (Figure 3).

    The top neuron is marked, and the share of the commonest label, or half, in a subtask whose sides weigh the same.
    `beside` gives other predictivities by name, an array [neuron] each, as further series.
    """
    own, index = _ranking(skill, subtask)
    scores = skill.scores[0]
    usual = 0.5 if scores.weighted else float(scores.totals[index].max() / scores.totals[index].sum())
    with drawing(ax, (7.2, 3.8)) as ax:
        histogram(ax, EDGES, _counts(own["predictivity"].to_numpy()), 0, f"{len(own)} neurons")
        for series, (name, values) in enumerate((beside or {}).items(), start=1):
            histogram(ax, EDGES, _counts(values), series, words(name))
        top = float(own["predictivity"].iloc[0])
        ax.axvline(top, color=INK, linewidth=1.4, label=f"top neuron, {percent(top)}")
        told = "chance" if scores.weighted else "commonest label"
        ax.axvline(usual, color=INK, linestyle=":", linewidth=1.4, label=f"{told}, {percent(usual)}")
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.set_ylim(bottom=0.7)
        ax.set_xlim(0.49, 1.0)
        _percent(ax.xaxis)
        ax.set_xlabel("predictivity on dev")
        ax.set_ylabel("neurons")
        ax.set_title(_title(skill, own))
        legend(ax)
    return ax


def layers(skill: SkillNeurons, subtask: str | None = None, *, ax: Axes | None = None) -> Axes:
    """The predictivity of each layer's neurons: 90 % and 50 % of them, the median, the best one.

    Below each layer's number stands its share of the best 1 % of all neurons.
    """
    own, _ = _ranking(skill, subtask)
    count = max(1, round(BEST * len(own)))
    parts = [own[own["layer"] == layer] for layer in range(len(skill.widths))]
    among = [float((part["rank"] <= count).sum() / count) for part in parts]
    quantiles = np.stack([np.quantile(part["predictivity"], [0.05, 0.25, 0.5, 0.75, 0.95, 1.0]) for part in parts])
    low, quarter, median, three, high, best = quantiles.T
    numbers, wide = np.arange(len(parts)), min(2.6 + 0.42 * len(parts), 16.0)
    with drawing(ax, (max(4.8, wide), 3.8)) as ax:
        ax.plot(numbers, best, linestyle="", **marker(5), label="best one")
        ax.vlines(numbers, low, high, color=INK, linewidth=1.2, label="90 %")
        ax.vlines(numbers, quarter, three, color=COLOURS[4], linewidth=min(9.0, 400 / len(parts)), label="50 %")
        ax.plot(numbers, median, linestyle="", marker="_", color=INK, markersize=9, markeredgewidth=1.6, label="median")
        told = [f"{layer}\n{100 * share:.0f} %" for layer, share in enumerate(among)]
        every = -(-len(parts) // 32)
        ax.set_xticks(numbers[::every], told[::every])
        ax.set_xlim(-0.6, len(parts) - 0.4)
        ax.grid(False, axis="x")
        _percent(ax.yaxis)
        ax.set_xlabel(f"layer, and its share of the best {100 * BEST:g} % of all neurons")
        ax.set_ylabel("predictivity on dev")
        ax.set_title(_title(skill, own))
        legend(ax, "of a layer's neurons")
    return ax


def activations(
    skill: SkillNeurons,
    neuron: tuple[int, int] | None = None,
    *,
    subtask: str | None = None,
    trial: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """One neuron's activations on test by label, at its best position of a trial (Figure 1); by default the top one.

    `neuron` is (layer, neuron), one of the best that the run keeps. Raises `SkillNeuronsError` for any other.
    """
    refuse_trial(skill, trial)
    spot = _spot(skill, neuron, subtask)
    labels, tested = skill.about["labels"], skill.tested
    bins = Bins(1, len(labels))
    bins.add(tested.activations[trial, :, [spot]].T, tested.labels)
    with drawing(ax, (7.2, 3.8)) as ax:
        by_label(
            *bins.histogram(0), labels, _positive(skill, spot), float(tested.baseline[trial, spot]), _name(skill, spot),
            ax,
        )  # fmt: skip
        ax.set_title(f"{words(skill.about['task'])}: test, trial {trial}")
    return ax


def pair(
    skill: SkillNeurons,
    first: tuple[int, int] | None = None,
    second: tuple[int, int] | None = None,
    *,
    trial: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Two neurons' activations on test, a point for each sample, by label (Figure 2).

    By default the top neurons of the first two subtasks; of a binary task, its two best.
    """
    refuse_trial(skill, trial)
    spots, tested = skill.results["top_neurons"], skill.tested
    one = _spot(skill, first, None)
    if second is not None:
        other = _spot(skill, second, None)
    else:
        apart = [index for index, own in enumerate(spots) if _place(own) != _place(spots[one])]
        elsewhere = [index for index in apart if spots[index]["subtask"] != spots[one]["subtask"]]
        other = (elsewhere or apart)[0]
    both = (one, other)
    with drawing(ax, (6.8, 4.4)) as ax:
        two_neurons(
            tested.activations[trial][:, both], tested.labels, skill.about["labels"],
            [_positive(skill, spot) for spot in both], [float(tested.baseline[trial, spot]) for spot in both],
            [_name(skill, spot) for spot in both], ax,
        )  # fmt: skip
        ax.set_title(f"{words(skill.about['task'])}: test, trial {trial}")
    return ax


def learning(skill: SkillNeurons, *, loss: bool = False, ax: Axes | None = None) -> Axes:
    """The course of each trial's tuning: accuracy on dev, or with `loss` the mean loss of the steps between two points.

    The commonest label's share of dev is marked. Raises `SkillNeuronsError` where no prompt was tuned.
    """
    tuned = [prompt for prompt in skill.prompts if prompt.history]
    if not tuned:
        raise SkillNeuronsError(
            f"a learning curve is that of a tuned prompt; those of this run are {skill.prompts[0].kind}. "
            "Look at a run with soft prompts."
        )
    with drawing(ax, (7.2, 3.8)) as ax:
        for prompt in tuned:
            steps = [point.step for point in prompt.history]
            values = [point.loss if loss else point.accuracy for point in prompt.history]
            ax.plot(steps, values, **line(prompt.trial), marker=".", label=f"trial {prompt.trial}")
        if not loss:
            usual = tuned[0].majority
            ax.axhline(usual, color=INK, linestyle=":", linewidth=1.4, label=f"commonest label, {percent(usual)}")
            _percent(ax.yaxis)
        ax.locator_params(axis="x", nbins=7)
        ax.set_xlabel("steps")
        ax.set_ylabel("loss, mean since the point before" if loss else "accuracy on dev")
        ax.set_title(f"{words(skill.about['task'])}: prompt tuning")
        legend(ax)
    return ax


def _ranking(skill: SkillNeurons, subtask: str | None) -> tuple[pd.DataFrame, int]:
    """The rows of a subtask's ranking, best first, and its number."""
    names = [own["name"] for own in skill.about["subtasks"]]
    name = names[0] if subtask is None else subtask
    if name not in names:
        raise SkillNeuronsError(f"a subtask of this run is one of {', '.join(names)}; given: {subtask!r}.")
    table = skill.table()
    return table[table["subtask"] == name].sort_values("rank"), names.index(name)


def _counts(predictivity: Float[np.ndarray, " neuron"]) -> Int[np.ndarray, " bin"]:
    """Neurons between two of `EDGES`; rounded, for those on an edge count above it however they were computed."""
    return np.histogram(predictivity.round(12), EDGES.round(12))[0]


def _spot(skill: SkillNeurons, neuron: tuple[int, int] | None, subtask: str | None) -> int:
    """The number of a neuron among those whose activations on test are kept; without one, of the best."""
    _ranking(skill, subtask)
    spots: list[dict[str, Any]] = skill.results["top_neurons"]
    found = [
        index for index, own in enumerate(spots) if subtask in (None, own["subtask"]) and neuron in (None, _place(own))
    ]
    if not found:
        kept = ", ".join(str(_place(own)) for own in spots if subtask in (None, own["subtask"]))
        raise SkillNeuronsError(
            f"a run keeps the activations of its best neurons alone, (layer, neuron) {kept}; given: {neuron}. "
            "Others are read with the model: portrait(model, skill, layer, neuron).plot()."
        )
    return min(found, key=lambda index: spots[index]["rank"])


def _place(own: dict[str, Any]) -> tuple[int, int]:
    return own["layer"], own["neuron"]


def _name(skill: SkillNeurons, spot: int) -> str:
    own = skill.results["top_neurons"][spot]
    of = f" ({words(own['subtask'], 20)})" if len(skill.about["subtasks"]) > 1 else ""
    return f"neuron {own['neuron']} of layer {own['layer']}{of}"


def _positive(skill: SkillNeurons, spot: int) -> list[str]:
    """The labels on the positive side of the subtask that a neuron is one of the best in."""
    name = skill.results["top_neurons"][spot]["subtask"]
    return next(own["positive"] for own in skill.about["subtasks"] if own["name"] == name)


def _title(skill: SkillNeurons, own: pd.DataFrame) -> str:
    task, subtask = words(skill.about["task"]), words(own["subtask"].iloc[0])
    return task if task == subtask else f"{task}: {subtask}"


def _percent(axis: Axis) -> None:
    axis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")
