"""What a finding is worth on test: one further pass, in which only chosen neurons are kept.

The chosen neurons, their positions and signs, and the prompts' checkpoints were all picked on dev, so their dev
figures flatter; those on test do not. Intervals are 95 %: correctness per sample, averaged over trials, bootstrap
over samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from .score import TrialScores, subtask_sides

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
    predicted: Int[np.ndarray, " sample"]


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
) -> dict[str, Any]:
    """The `results` of run.json."""
    task = inputs[0].task
    names = [subtask.name for subtask in task.subtasks]
    sides = subtask_sides(task)
    labels = inputs[0].labels("test")
    right: list[Bool[np.ndarray, "sample spot"]] = []
    prompt_right: list[Bool[np.ndarray, " sample"]] = []
    regressions: list[float] = []
    for own, prompt, trial_scores in zip(inputs, prompts, scores, strict=True):
        index = len(right)
        spots = top_spots(table, names, index)
        label = f"trial {index + 1}/{len(prompts)}: test"
        test = read_spots(own, "test", prompt, spots, label, answer=True)
        baseline = np.array([float(trial_scores.baseline(s.layer)[s.subtask, s.position, s.neuron]) for s in spots])
        positive = np.stack([sides[spot.subtask, 1][labels] for spot in spots], axis=1).astype(bool)
        told = (test.activations > baseline) == (np.array([spot.sign for spot in spots]) > 0)
        right.append(told == positive)
        prompt_right.append(test.predicted == labels)
        if not task.binary:
            first = [
                place for place, spot in enumerate(spots) if place == 0 or spot.subtask != spots[place - 1].subtask
            ]
            train = read_spots(own, "train", prompt, [spots[i] for i in first], f"{label} (regression)", answer=False)
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            model.fit(train.activations, own.labels("train"))
            regressions.append(float(model.score(test.activations[:, first], labels)))
    neurons = _neurons(np.mean(right, axis=0), top_spots(table, names, 0), labels, sides, task, seed)
    results: dict[str, Any] = {
        "prompt_accuracy": [float(np.mean(own)) for own in prompt_right],
        "prompt_interval": _interval([np.mean(prompt_right, axis=0)], seed),
        "prompt_worth_ranking": [prompt.worth_ranking for prompt in prompts],
        "top_neuron": max((own for own in neurons if own["rank"] == 1), key=lambda own: own["predictivity"]),
        "top_neurons": neurons,
    }
    return results if task.binary else results | {"neurons_accuracy": regressions}


def _neurons(
    right: Float[np.ndarray, "sample spot"],
    spots: Sequence[Spot],
    labels: np.ndarray,
    sides: np.ndarray,
    task: Task,
    seed: int,
) -> list[dict[str, Any]]:
    """A record for each spot: its test accuracy, both sides of a multi-class task's subtask weighing the same."""
    records = []
    for index, spot in enumerate(spots):
        members = [right[sides[spot.subtask, side][labels] == 1, index] for side in (0, 1)]
        groups = [np.concatenate(members)] if task.binary else members
        ranked = 1 + sum(other.subtask == spot.subtask for other in spots[:index])
        records.append(
            {
                "subtask": task.subtasks[spot.subtask].name,
                "layer": spot.layer,
                "neuron": spot.neuron,
                "rank": ranked,
                "predictivity": spot.predictivity,
                "test_accuracy": float(np.mean([own.mean() for own in groups])),
                **_interval(groups, seed),
            }
        )
    return records


def _interval(groups: Sequence[Float[np.ndarray, " sample"]], seed: int) -> dict[str, float]:
    """95 % of the mean of the groups' means, by the percentiles of a bootstrap over each group's samples."""

    def mean(*samples: np.ndarray, axis: int) -> np.ndarray:
        return np.mean([own.mean(axis=axis) for own in samples], axis=0)

    if all(own.min() == own.max() for own in groups):  # every resample is the same
        value = float(mean(*groups, axis=0))
        return {"low": value, "high": value}
    found = bootstrap(
        tuple(groups), mean, vectorized=True, n_resamples=RESAMPLES, batch=100, method="percentile", axis=-1,
        rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return {"low": float(found.low), "high": float(found.high)}
