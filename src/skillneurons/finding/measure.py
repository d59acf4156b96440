"""What a finding is worth on test: one further pass, in which only chosen neurons are kept.

The chosen neurons, their positions and signs, and the prompts' checkpoints were all picked on dev, so their dev
figures flatter; those on test do not. Intervals are 95 %: correctness per sample, averaged over trials, bootstrap
over samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import bootstrap
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from ..progress import progress
from ..tasks import Task
from ..tuning.inputs import Inputs, SplitName
from ..tuning.prompt import Prompt
from .score import TrialScores
from .sides import subtask_sides

SHOWN = 10  # neurons of each subtask that are measured on test
RESAMPLES = 2000


@dataclass(frozen=True)
class Spot:
    """A neuron in one trial: read at its best position, told by its sign from its baseline there."""

    subtask: int
    layer: int
    neuron: int
    position: int
    sign: int
    predictivity: float


@dataclass(frozen=True, eq=False)
class Reading:
    """One trial's pass over a split: [sample, spot] activations, and the labels the prompt predicted, if asked."""

    activations: Float[np.ndarray, "sample spot"]
    predicted: Int[np.ndarray, " answered"]  # none, or all


@dataclass(frozen=True, eq=False)
class Tested:
    """The test split as every trial read it; spots in the order of run.json's `top_neurons`.

    `labels`: indices into the task's labels; `predicted`: the prompt's answers, likewise; `activations` of each
    spot at the trial's best position, with the `baseline` there and the `sign` (1: above it means positive).
    """

    labels: Int[np.ndarray, " sample"]
    predicted: Int[np.ndarray, "trial sample"]
    activations: Float[np.ndarray, "trial sample spot"]
    baseline: Float[np.ndarray, "trial spot"]
    sign: Int[np.ndarray, "trial spot"]

    @property
    def told(self) -> Bool[np.ndarray, "trial sample spot"]:
        """Whether each neuron says of a sample that it is on the positive side (Eq. 4, and its mirror image)."""
        return (self.activations > self.baseline[:, None]) == (self.sign[:, None] > 0)

    def right(self, task: Task) -> Bool[np.ndarray, "trial sample spot"]:
        """Whether that is so; for samples of neither side of a spot's subtask it means nothing."""
        positive = subtask_sides(task)[:, 1][:, self.labels].astype(bool)  # subtask, sample
        spots = self.baseline.shape[1] // len(positive)
        return self.told == positive.repeat(spots, axis=0).T

    def tensors(self) -> dict[str, Tensor]:
        """As a run keeps them."""
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in vars(self).items()}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Tested:
        """What `tensors` gave."""
        return cls(**{own.name: tensors[own.name].numpy() for own in fields(cls)})


def top_spots(table: pd.DataFrame, subtasks: Sequence[str], trial: int, count: int = SHOWN) -> list[Spot]:
    """The `count` best neurons of each subtask as one trial reads them."""
    spots = []
    for index, name in enumerate(subtasks):
        best = table[(table["subtask"] == name) & (table["rank"] <= count)].sort_values("rank")
        for row in best.to_dict("records"):
            read = (row["layer"], row["neuron"], row["position"][trial], row["sign"][trial])
            layer, neuron, position, sign = (int(value) for value in read)
            spots.append(Spot(index, layer, neuron, position, sign, float(row["predictivity"])))
    return spots


@torch.no_grad()
def read_spots(
    inputs: Inputs, split: SplitName, prompt: Prompt, spots: Sequence[Spot], label: str, answer: bool
) -> Reading:
    """Run a split and keep the spots' activations; with `answer` the head runs too."""
    model = inputs.backbone
    embedding = prompt.embedding.to(model.device)
    kept = np.zeros((len(inputs.labels(split)), len(spots)), dtype=np.float32)
    predicted = np.zeros(len(kept) if answer else 0, dtype=np.int64)
    by_layer: dict[int, list[int]] = {}
    for index, spot in enumerate(spots):
        by_layer.setdefault(spot.layer, []).append(index)
    where = {
        layer: tuple(torch.tensor([getattr(spots[i], axis) for i in own]) for axis in ("position", "neuron"))
        for layer, own in by_layer.items()
    }
    place, chosen = slice(0), np.zeros(0, dtype=np.int64)

    def watch(layer: int, activations: Tensor) -> None:
        if layer in where:
            position, neuron = where[layer]
            values = activations[:, place][:, position, neuron].float().cpu().numpy()
            kept[np.ix_(chosen, np.array(by_layer[layer]))] = values

    with progress(label, len(kept), "samples") as advance, model.observe(watch):
        for chosen in inputs.by_length(split):
            batch = inputs.batch(split, chosen, embedding)
            place = batch.prompt
            if answer:
                predicted[chosen] = inputs.word_logits(batch).argmax(1).cpu().numpy()
            else:
                model.read(batch)
            advance(len(chosen))
    return Reading(kept, predicted)


def measure(
    inputs: Sequence[Inputs], prompts: Sequence[Prompt], scores: Sequence[TrialScores], table: pd.DataFrame, seed: int
) -> tuple[dict[str, Any], Tested]:
    """The `results` of run.json, and what they were computed from."""
    task = inputs[0].task
    names = [subtask.name for subtask in task.subtasks]
    readings: list[Reading] = []
    spots = [top_spots(table, names, trial) for trial in range(len(prompts))]
    regressions: list[float] = []
    for trial, (own, prompt) in enumerate(zip(inputs, prompts, strict=True)):
        label = f"trial {trial + 1}/{len(prompts)}: test"
        readings.append(read_spots(own, "test", prompt, spots[trial], label, answer=True))
        if not task.binary:
            first = list(range(0, len(spots[trial]), len(spots[trial]) // len(names)))
            chosen = [spots[trial][place] for place in first]
            train = read_spots(own, "train", prompt, chosen, f"{label} (regression)", answer=False)
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            model.fit(train.activations, own.labels("train"))
            regressions.append(float(model.score(readings[-1].activations[:, first], own.labels("test"))))
    tested = Tested(
        inputs[0].labels("test").astype(np.int32),
        np.stack([reading.predicted for reading in readings]).astype(np.int32),
        np.stack([reading.activations for reading in readings]),
        np.array([
            [float(own.baseline(spot.layer)[spot.subtask, spot.position, spot.neuron]) for spot in chosen]
            for own, chosen in zip(scores, spots, strict=True)
        ], dtype=np.float32),
        np.array([[spot.sign for spot in chosen] for chosen in spots], dtype=np.int32),
    )  # fmt: skip
    right = tested.predicted == tested.labels
    neurons = _neurons(tested.right(task).mean(0), spots[0], tested.labels, task, seed)
    results: dict[str, Any] = {
        "prompt_accuracy": [float(own.mean()) for own in right],
        "prompt_interval": interval([right.mean(0)], seed),
        "prompt_worth_ranking": [prompt.worth_ranking for prompt in prompts],
        "top_neuron": max((own for own in neurons if own["rank"] == 1), key=lambda own: own["predictivity"]),
        "top_neurons": neurons,
    }
    return (results if task.binary else results | {"neurons_accuracy": regressions}), tested


def _neurons(
    right: Float[np.ndarray, "sample spot"],
    spots: Sequence[Spot],
    labels: Int[np.ndarray, " sample"],
    task: Task,
    seed: int,
) -> list[dict[str, Any]]:
    """A record for each spot: its test accuracy, with an interval."""
    records = []
    for index, spot in enumerate(spots):
        accuracy, low, high = worth(right[:, index], spot.subtask, labels, task, seed)
        ranked = 1 + sum(other.subtask == spot.subtask for other in spots[:index])
        records.append(
            {
                "subtask": task.subtasks[spot.subtask].name,
                "layer": spot.layer,
                "neuron": spot.neuron,
                "rank": ranked,
                "predictivity": spot.predictivity,
                "test_accuracy": accuracy,
                "low": low,
                "high": high,
            }
        )
    return records


def worth(
    values: Float[np.ndarray, " sample"], subtask: int, labels: Int[np.ndarray, " sample"], task: Task, seed: int
) -> tuple[float, float, float]:
    """The mean over a subtask's own samples and its 95 % interval; both sides of a multi-class task weigh the same."""
    members = [values[subtask_sides(task)[subtask, side][labels] == 1] for side in (0, 1)]
    groups = [np.concatenate(members)] if task.binary else members
    bounds = interval(groups, seed)
    return float(np.mean([own.mean() for own in groups])), bounds["low"], bounds["high"]


def interval(groups: Sequence[Float[np.ndarray, " _"]], seed: int) -> dict[str, float]:
    """95 % of the mean of the groups' means, by the percentiles of a bootstrap over each group's samples."""

    def mean(*samples: np.ndarray, axis: int) -> Any:
        return np.mean([own.mean(axis=axis) for own in samples], axis=0)

    if all(own.min() == own.max() for own in groups):  # every resample is the same
        value = float(mean(*groups, axis=0))
        return {"low": value, "high": value}
    found = bootstrap(
        tuple(groups), mean, vectorized=True, n_resamples=RESAMPLES, batch=100, method="percentile", axis=-1,
        rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return {"low": float(found.low), "high": float(found.high)}
