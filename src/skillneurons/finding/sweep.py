"""One pass of a split through the model, shared by all that want something of it.

    sums, features = Means(...), Averages(...)
    sweep(inputs, "train", embedding, [sums, features], "trial 1/5: train")

A statistic is told of each batch, then called with every layer's activations, as the model's hooks give them. Batches
are of like length; inside a batch, the samples of a label follow one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..models import Batch
from ..progress import progress
from ..tuning.inputs import Inputs, SplitName


@runtime_checkable
class Statistic(Protocol):
    """Something that is kept of a split while it runs through the model."""

    def begin(self, batch: Batch, samples: Int[np.ndarray, " sample"]) -> None:
        """Tell of the batch whose activations come next, and which samples of the split it holds."""

    def __call__(self, layer: int, activations: Float[Tensor, "sample token neuron"]) -> None:
        """Take what is wanted of one layer's activations of the batch."""


@torch.no_grad()
def sweep(
    inputs: Inputs,
    split: SplitName,
    embedding: Float[Tensor, "position embedding"],
    statistics: Sequence[Statistic],
    label: str,
) -> None:
    """Run a split beside a prompt's embedding, on the model's device; neither head nor decoder runs."""
    model, labels = inputs.backbone, inputs.labels(split)

    def watch(layer: int, activations: Tensor) -> None:
        for statistic in statistics:
            statistic(layer, activations)

    with progress(label, len(labels), "samples") as advance, model.observe(watch):
        for chosen in inputs.by_length(split):
            samples = chosen[np.argsort(labels[chosen], kind="stable")]
            batch = inputs.batch(split, samples, embedding)
            for statistic in statistics:
                statistic.begin(batch, samples)
            model.read(batch)
            advance(len(samples))
