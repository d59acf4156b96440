"""Baselines and accuracies of every neuron at every position: one pass over train, one over dev, for each trial.

    scores = score(model, task, prompts)
    scores[0].accuracy(layer=5)        # [subtask, position, neuron], Eq. 4

All subtasks are served by the same two passes, from per-class sums and per-side counts (`sides` says what a sample
weighs in them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..models import Backbone
from ..tasks import Task
from ..tuning.config import TuneConfig
from ..tuning.inputs import Inputs
from ..tuning.prompt import Prompt
from ..tuning.tune import limited
from .sides import class_weights, side_counts, subtask_sides
from .statistics import Counts, Means
from .sweep import sweep


@dataclass(frozen=True, eq=False)
class TrialScores:
    """One trial's statistics, by layer; read from a run's file when asked for, or held in memory.

    `tensors` has `mean.<layer>`, `baseline.<layer>`, `accuracy.<layer>` and `fired.<layer>`. `totals`
    [subtask, 2]: dev samples of the negative and the positive side. `weighted`: whether both sides weigh the same.
    """

    tensors: Mapping[str, Tensor]
    totals: Int[np.ndarray, "subtask 2"]
    weighted: bool
    layers: int

    def mean(self, layer: int) -> Float[Tensor, "row neuron"]:
        """Mean activations over train, unweighted; the last two rows: answer token, input tokens."""
        return self.tensors[f"mean.{layer}"]

    def baseline(self, layer: int) -> Float[Tensor, "subtask position neuron"]:
        """Eq. 3."""
        return self.tensors[f"baseline.{layer}"]

    def accuracy(self, layer: int) -> Float[Tensor, "subtask position neuron"]:
        """Eq. 4, float32."""
        return self.tensors[f"accuracy.{layer}"]

    def fired(self, layer: int) -> Int[Tensor, "subtask 2 position neuron"]:
        """Dev samples of the negative and of the positive side above the baseline."""
        return self.tensors[f"fired.{layer}"]

    def exact_accuracy(self, layer: int) -> Float[np.ndarray, "subtask position neuron"]:
        """Eq. 4 from the counts, float64."""
        return accuracies(self.fired(layer).cpu().numpy(), self.totals, self.weighted)


def accuracies(
    fired: Int[np.ndarray, "subtask 2 position neuron"], totals: Int[np.ndarray, "subtask 2"], weighted: bool
) -> Float[np.ndarray, "subtask position neuron"]:
    """Eq. 4: the share of samples whose side is told by being above the baseline."""
    negatives, positives = (totals[:, side, None, None].astype(np.float64) for side in (0, 1))
    if weighted:
        return (fired[:, 1] / positives + (1 - fired[:, 0] / negatives)) / 2
    return (fired[:, 1] + (negatives - fired[:, 0])) / (negatives + positives)


def score(
    model: Backbone,
    task: Task,
    prompts: Sequence[Prompt],
    *,
    config: TuneConfig | None = None,
    preset: str = "paper",
    **options: Any,
) -> list[TrialScores]:
    """Score every neuron under each prompt; one `TrialScores` a prompt.

    Options are those of `TuneConfig`, of which the limits count here. Memory does not grow with the samples.
    """
    task = limited(task, config or TuneConfig.preset(preset, **options))
    return [score_trial(Inputs.beside(model, task, prompt), prompt) for prompt in prompts]


@torch.no_grad()
def score_trial(inputs: Inputs, prompt: Prompt, of: str = "") -> TrialScores:
    """One trial's scores: a pass over train for the sums, one over dev for the counts."""
    model, task = inputs.backbone, inputs.task
    embedding = prompt.embedding.to(model.device)
    weights, totals = class_weights(task, "train"), side_counts(task, "dev")
    label = f"trial {prompt.trial + 1}{of}: scoring"

    means = Means(model.widths, prompt.positions, inputs.labels("train"), len(task.labels), model.device)
    sweep(inputs, "train", embedding, [means], f"{label} train")
    answer = model.kind != "encoder-decoder"
    tensors: dict[str, Tensor] = {}
    baselines = []
    for layer in range(model.layers):
        tensors[f"mean.{layer}"] = means.mean(layer, answer).float().cpu()
        baselines.append(means.baseline(layer, weights).float())
        tensors[f"baseline.{layer}"] = baselines[-1].cpu()
    del means

    counts = Counts(baselines, inputs.labels("dev"), subtask_sides(task))
    sweep(inputs, "dev", embedding, [counts], f"{label} dev")
    for layer in range(model.layers):
        fired = counts.fired[layer].cpu()
        tensors[f"fired.{layer}"] = fired
        tensors[f"accuracy.{layer}"] = torch.from_numpy(accuracies(fired.numpy(), totals, not task.binary)).float()
    return TrialScores(tensors, totals, not task.binary, model.layers)
