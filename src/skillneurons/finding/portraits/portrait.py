"""What a neuron does: which texts it fires for, how often by label, where, and how sure that is.

    seen = portrait(model, skill, layer=3, neuron=120)        # on dev, as trial 0 reads it
    seen                                                     # facts, firing by label, texts with the tokens shaded
    seen.table(); seen.texts(); seen.plot()
    portraits(model, skill, skill.top(20))                   # of many at once, in one pass over the split

A neuron is read at its best position of the trial and fires where it is strictly above its baseline there (Eq. 4). The
split runs by once, whatever the number of neurons: kept are `most` samples and `bins.MOST` counts a label of each.
The texts that are shown run again, one by one, for the activations on their tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from rich.console import RenderableType
from torch import Tensor

from ...errors import SkillNeuronsError
from ...figures import drawing, words
from ...models import Backbone
from ...progress import progress, say
from ...tasks.task import SPLITS
from ...tuning.inputs import Inputs, SplitName
from ...units import in_bytes
from ..standing import Standing, refuse_foreign, refuse_trial, standings
from ..statistics import at_least_float32
from .bins import MOST, Bins
from .by_token import Tokens, read_tokens, usual
from .extremes import Extremes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..skill import SkillNeurons


@dataclass(frozen=True)
class Example:
    """A sample of the split that was read: its number, its label, the activation there, and that of its tokens."""

    sample: int
    label: str
    activation: float
    tokens: Tokens


@dataclass(frozen=True, eq=False)
class Portrait:
    """What one neuron does on a split, as one trial reads it.

    `samples` and `fired` [label] count the samples of each label, and those above the baseline. `edges` [edge] and
    `counts` [label, bin] are a histogram of the activations. `highest` and `lowest` are the samples with the most
    extreme activations, the most extreme first. `sides` are the labels on the negative and on the positive side of
    the subtask.
    """

    standing: Standing
    split: SplitName
    trial: int
    labels: tuple[str, ...]
    sides: tuple[tuple[str, ...], tuple[str, ...]]
    samples: Int[np.ndarray, " label"]
    fired: Int[np.ndarray, " label"]
    edges: Float[np.ndarray, " edge"]
    counts: Int[np.ndarray, "label bin"]
    highest: tuple[Example, ...]
    lowest: tuple[Example, ...]

    @property
    def layer(self) -> int:
        """The neuron's layer, from 0, layer 0 next to the input."""
        return self.standing.layer

    @property
    def neuron(self) -> int:
        """The neuron's number in its layer, from 0."""
        return self.standing.neuron

    @property
    def position(self) -> int:
        """The position where it is read: its best one in this trial."""
        return self.standing.trials[self.trial].position

    @property
    def baseline(self) -> float:
        """The baseline there (Eq. 3)."""
        return self.standing.trials[self.trial].baseline

    def says(self, trial: int) -> tuple[str, ...]:
        """The labels that being above the baseline speaks for, in a trial."""
        return self.sides[self.standing.trials[trial].sign > 0]

    def table(self) -> pd.DataFrame:
        """How often it fires, one row a label: label, side (of the subtask; empty: neither), samples, fired, share."""
        sides = [
            next((name for name, own in zip(("negative", "positive"), self.sides, strict=True) if label in own), "")
            for label in self.labels
        ]
        share = self.fired / np.where(self.samples, self.samples, np.nan)
        return pd.DataFrame(
            {"label": self.labels, "side": sides, "samples": self.samples, "fired": self.fired, "share": share}
        )

    def texts(self) -> pd.DataFrame:
        """The most extreme samples, highest to lowest: sample (its number in the split), label, activation, text."""
        above = {own.sample for own in self.highest}
        shown = [*self.highest, *(own for own in reversed(self.lowest) if own.sample not in above)]
        rows = [(own.sample, own.label, own.activation, "\n".join(own.tokens.texts)) for own in shown]
        return pd.DataFrame(rows, columns=["sample", "label", "activation", "text"])

    def trials(self) -> pd.DataFrame:
        """How each trial reads it: trial, position, sign, predictivity (Eq. 5, on dev), baseline."""
        return pd.DataFrame([vars(own) for own in self.standing.trials]).rename_axis("trial").reset_index()

    def plot(self, ax: Axes | None = None) -> Axes:
        """Histograms of its activations by label, with the baseline (Figure 1 of the paper), on `ax` or new axes."""
        from .drawing import WIDE, by_label

        with drawing(ax, WIDE) as ax:
            of = f"neuron {self.neuron} of layer {self.layer}"
            by_label(self.edges, self.counts, self.labels, self.sides[1], self.baseline, of, ax)
            ax.set_title(f"{words(self.standing.subtask)}: {self.split}, trial {self.trial}")
        return ax

    def screen(self) -> RenderableType:
        """Facts, firing by label, and the texts."""
        from .screen import screen

        return screen(self)

    def __repr__(self) -> str:
        from .shading import plain

        return plain(self.screen())

    def _repr_html_(self) -> str:
        from .screen import page

        return page(self)


def portrait(
    model: Backbone,
    skill: SkillNeurons,
    layer: int,
    neuron: int,
    *,
    split: str = "dev",
    trial: int = 0,
    most: int = 5,
    subtask: str | None = None,
) -> Portrait:
    """One neuron's portrait; see `portraits`."""
    return portraits(model, skill, [(layer, neuron)], split=split, trial=trial, most=most, subtask=subtask)[0]


def portraits(
    model: Backbone,
    skill: SkillNeurons,
    neurons: Iterable[tuple[int, int]],
    *,
    split: str = "dev",
    trial: int = 0,
    most: int = 5,
    subtask: str | None = None,
) -> list[Portrait]:
    """The portrait of each (layer, neuron), a `NeuronSet` or any pairs, in their order.

    Each shows at most `most` texts of either end. With several subtasks a neuron is read for the one that it ranks
    best in, unless `subtask` names one. Raises `SkillNeuronsError` for another model than the run's, a neuron, split,
    trial or subtask that the run does not have, or activations that are no finite numbers.
    """
    part = _split(split)
    if most < 1:
        raise SkillNeuronsError(f"a portrait shows at least 1 text of either end; asked for: {most}.")
    refuse_trial(skill, trial)
    own = standings(skill, neurons, subtask)
    refuse_foreign(model, skill)
    if not own:
        return []
    inputs = Inputs.beside(model, skill.task, skill.prompts[trial])
    layers = _sweep(inputs, skill, part, trial, own, most)
    numbers = {layer: iter(range(len(own))) for layer in layers}
    places = [(layers[standing.layer], next(numbers[standing.layer])) for standing in own]
    ends = [(layer.extremes.highest(place), layer.extremes.lowest(place)) for layer, place in places]
    examples = _examples(inputs, skill, part, trial, own, ends)
    task = skill.task
    sides = {each.name: (each.negative, each.positive) for each in task.subtasks}
    samples = np.bincount(inputs.labels(part), minlength=len(task.labels))
    return [
        Portrait(
            standing, part, trial, task.labels, sides[standing.subtask], samples, layer.fired[:, place],
            *layer.bins.histogram(place), *shown,
        )
        for standing, (layer, place), shown in zip(own, places, examples, strict=True)
    ]  # fmt: skip


def _split(name: str) -> SplitName:
    for split in SPLITS:
        if split == name:
            return split
    raise SkillNeuronsError(f"a split is one of {', '.join(SPLITS)}; given: {name!r}.")


class _Layer:
    """What is kept of the chosen neurons of one layer while a split runs by."""

    def __init__(self, chosen: Sequence[Standing], trial: int, labels: int, most: int) -> None:
        at = [own.trials[trial] for own in chosen]
        self.positions = torch.tensor([own.position for own in at])
        self.neurons = torch.tensor([own.neuron for own in chosen])
        self.baseline = torch.tensor([own.baseline for own in at], dtype=torch.float32)
        self.fired = np.zeros((labels, len(chosen)), np.int64)
        self.extremes, self.bins = Extremes(len(chosen), most), Bins(len(chosen), labels)

    def add(
        self,
        prompt: Float[Tensor, "sample position neuron"],
        chosen: Int[np.ndarray, " sample"],
        labels: Int[np.ndarray, " sample"],
    ) -> None:
        """Take in a batch: its activations at the prompt, the samples' numbers and their labels."""
        values = at_least_float32(prompt[:, self.positions, self.neurons]).cpu()
        if not bool(torch.isfinite(values).all()):
            raise SkillNeuronsError(
                f"activations must be finite numbers; a chosen neuron gives NaN or infinity in {prompt.dtype}. "
                "Find and read its run in another dtype, such as float32."
            )
        np.add.at(self.fired, labels, (values > self.baseline).numpy())
        self.extremes.add(chosen, values.numpy())
        self.bins.add(values.numpy(), labels)


@torch.no_grad()
def _sweep(
    inputs: Inputs, skill: SkillNeurons, split: SplitName, trial: int, chosen: Sequence[Standing], most: int
) -> dict[int, _Layer]:
    """Run the split by; of each layer that has any of them, its chosen neurons in their order."""
    model, labels = inputs.backbone, inputs.labels(split)
    embedding = skill.prompts[trial].embedding.to(model.device)
    size = len(chosen) * len(skill.task.labels) * MOST * 8
    if size > 1e8:
        say(f"The histograms of {len(chosen)} neurons take {in_bytes(size)}.")
    kept = {
        layer: _Layer([own for own in chosen if own.layer == layer], trial, len(skill.task.labels), most)
        for layer in {own.layer for own in chosen}
    }
    place, samples = slice(0), np.zeros(0, np.int64)

    def watch(layer: int, activations: Tensor) -> None:
        if layer in kept:
            kept[layer].add(activations[:, place], samples, labels[samples])

    with progress(f"reading {split}", len(labels), "samples") as advance, model.observe(watch):
        for samples in inputs.by_length(split):
            batch = inputs.batch(split, samples, embedding)
            place = batch.prompt
            model.read(batch)
            advance(len(samples))
    return kept


def _examples(
    inputs: Inputs, skill: SkillNeurons, split: SplitName, trial: int, chosen: Sequence[Standing],
    ends: Sequence[tuple[list[tuple[int, float]], list[tuple[int, float]]]],
) -> list[tuple[tuple[Example, ...], tuple[Example, ...]]]:  # fmt: skip
    """The highest and the lowest samples of each neuron with their tokens; every sample runs once for all of them."""
    rows, tokens, labels = getattr(skill.task, split).rows, inputs.tokens(split), inputs.labels(split)
    usually = usual(skill, trial, chosen)
    wanted: dict[int, list[int]] = {}
    for index, (highest, lowest) in enumerate(ends):
        for sample in {sample for sample, _ in (*highest, *lowest)}:
            wanted.setdefault(sample, []).append(index)
    read: dict[tuple[int, int], Tokens] = {}
    with progress("reading the texts shown", len(wanted), "texts") as advance:
        for sample, indices in sorted(wanted.items()):
            texts = tuple(rows[sample][column] for column in skill.task.text)
            some = [chosen[index] for index in indices], [usually[index] for index in indices]
            found = read_tokens(inputs, skill, trial, tokens.row(sample), tokens.types_row(sample), texts, *some)
            read |= {(index, sample): own for index, own in zip(indices, found, strict=True)}
            advance()

    def shown(index: int, end: list[tuple[int, float]]) -> tuple[Example, ...]:
        names = skill.task.labels
        return tuple(Example(own, names[labels[own]], value, read[index, own]) for own, value in end)

    return [(shown(index, highest), shown(index, lowest)) for index, (highest, lowest) in enumerate(ends)]
