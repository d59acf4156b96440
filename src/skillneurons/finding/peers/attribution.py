"""Gradient times activation: how much each neuron adds to the likelihood of the true label, to first order.

    sums = attribute(inputs, "dev", embedding, "trial 1/5: gradients")     # [class, neuron]

Of a sample and a neuron: the sum over all tokens (prompt, answer token, input; padding out) of its activation times
the gradient of the log-likelihood of the true label over the label words. Were the model linear, it is what the
log-likelihood would lose with the neuron silenced on all tokens. Attribution by input times gradient: Shrikumar et al.
2016; integrated gradients, of which this is the one-step case, are how Dai et al. 2022 find knowledge neurons.

The graph begins at the first layer's activations and is gone with its batch; no weight gets a gradient. It keeps what
the layers computed, so a batch is a part of what a pass without gradients takes.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from ...models import Batch
from ...progress import progress
from ...tuning.inputs import Inputs, SplitName
from ..statistics import at_least_float32

PARTS = 4
"""Parts of a batch that go through the model one after another."""


def attribute(
    inputs: Inputs, split: SplitName, embedding: Float[Tensor, "position embedding"], label: str
) -> Float[np.ndarray, "class neuron"]:
    """The absolute attributions of every neuron, summed over the samples of each label; float64."""
    labels = torch.tensor(inputs.labels(split))
    device = inputs.backbone.device
    sums = torch.zeros(len(inputs.task.labels), inputs.backbone.neurons, dtype=torch.float64, device=device)
    with progress(label, len(labels), "samples") as advance:
        for batch in inputs.by_length(split):
            for samples in np.array_split(batch, min(PARTS, len(batch))):
                own = labels[samples].to(device)
                values = attributions(inputs, inputs.batch(split, samples, embedding), own)
                sums += one_hot(own, len(sums)).T.double() @ values.abs().double()
                advance(len(samples))
    return sums.cpu().numpy()


@torch.enable_grad()
def attributions(inputs: Inputs, batch: Batch, labels: Tensor) -> Float[Tensor, "sample neuron"]:
    """Each sample's attributions with their signs, the layers one after another.

    `labels` [sample]: the true labels, as indices. A sample's likelihood rests on its own activations alone, so one
    gradient of the batch's sum holds those of all samples.
    """
    seen: list[Tensor] = []

    def watch(_layer: int, activations: Tensor) -> Tensor:
        # the first layer's hang on nothing that has a gradient: the graph begins there
        seen.append(activations if activations.requires_grad else activations.detach().requires_grad_())
        return seen[-1]

    with inputs.backbone.observe(watch):
        logits = at_least_float32(inputs.word_logits(batch))
    likelihood = logits.log_softmax(1)[torch.arange(len(batch), device=logits.device), labels.to(logits.device)]
    gradients = torch.autograd.grad(likelihood.sum(), seen)
    there = batch.attention.bool()[:, :, None]
    parts = []
    for own, gradient in zip(seen, gradients, strict=True):
        product = at_least_float32(own.detach()) * at_least_float32(gradient)
        parts.append(product.where(there.to(product.device), 0).sum(1).to(labels.device))
    return torch.cat(parts, 1)
