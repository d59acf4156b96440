"""Each neuron's own spread: the standard deviation of its activation over tokens, by which noise can be measured.

    spreads = spread(model, skill.task, skill.prompts[0])            # [neuron], one tensor a layer
    with model.edit(chosen, Noise(0.5, relative=spreads)):           # half of each neuron's spread
        evaluate(model, skill.task, skill.prompts[0])

Over all tokens of all dev samples: prompt, answer token and input; padding out. A neuron's mean and its sum of squares
about the mean are kept in float64, and a batch's are merged with those before it (Chan, Golub and LeVeque 1979), so a
neuron that is always very active loses nothing to rounding. The paper's noise has one std for all neurons
(section 4.2: 0.1), though one neuron may vary a hundred times as much as another.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..finding.sweep import sweep
from ..models import Backbone, Batch
from ..tasks import Task
from ..tuning.inputs import Inputs
from ..tuning.prompt import Prompt


def spread(model: Backbone, task: Task, prompt: Prompt) -> list[Float[Tensor, " _neuron"]]:
    """The standard deviation [neuron] of each layer's activations over the tokens of dev beside a prompt, float32.

    One pass over dev. Raises `SkillNeuronsError` where the prompt is another model's.
    """
    inputs = Inputs.beside(model, task, prompt)
    moments = Moments(model.widths, model.device)
    sweep(inputs, "dev", prompt.embedding.to(model.device), [moments], f"trial {prompt.trial + 1}: spread on dev")
    return [moments.std(layer).float().cpu() for layer in range(model.layers)]


class Moments:
    """Mean and sum of squares about it of each neuron, over all tokens that are no padding."""

    def __init__(self, widths: Sequence[int], device: torch.device) -> None:
        self.device = device = torch.device("cpu") if device.type == "mps" else device  # which has no float64
        self.tokens = [0] * len(widths)
        self.means = [torch.zeros(width, dtype=torch.float64, device=device) for width in widths]
        self.squares = [torch.zeros_like(mean) for mean in self.means]

    def begin(self, batch: Batch, samples: Int[np.ndarray, " sample"]) -> None:
        """Tell of the batch, and which samples it holds."""
        self._there = batch.attention.bool()

    def __call__(self, layer: int, activations: Float[Tensor, "sample token neuron"]) -> None:
        """Merge one layer's activations of the batch."""
        values = activations[self._there.to(activations.device)].to(self.device).double()
        before, new = self.tokens[layer], len(values)
        both = before + new
        own = values.mean(0)
        apart = own - self.means[layer]
        self.squares[layer] += (values - own).square_().sum(0) + apart**2 * (before * new / both)
        self.means[layer] += apart * (new / both)
        self.tokens[layer] = both

    def std(self, layer: int) -> Float[Tensor, " neuron"]:
        """The standard deviation, the squares' sum divided by the number of tokens; float64."""
        return (self.squares[layer] / self.tokens[layer]).sqrt()
