"""The standardised difference of a neuron's mean activations on a subtask's two sides, from running sums.

    differences = Differences(scores, positions, labels, classes, device)     # sweep dev with it, then
    differences.largest(layer, sides)                                         # [subtask, neuron]

At a position, with means m, variances s² (n - 1) and numbers of samples n of the positive (1) and negative (0) side:

    |m₁ - m₀| / √( ((n₁ - 1) s₁² + (n₀ - 1) s₀²) / (n₁ + n₀ - 2) )

which is Cohen's d (1988) without its sign. Sums and sums of squares are float64, of the activations
less their mean over train, lest a neuron that is always very active lose its spread to rounding; a spread below a
millionth of what was summed is taken for that millionth. A neuron that is always the same has difference 0.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from ...models import Batch
from ..score import TrialScores

ROUNDING = 1e-6


class Differences:
    """Sums and sums of squares over a split, per class and position."""

    def __init__(
        self, scores: TrialScores, positions: int, labels: Int[np.ndarray, " sample"], classes: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.classes = one_hot(torch.tensor(labels), classes).T.double().to(device)
        self.centres = [scores.mean(layer)[:positions].double().to(device) for layer in range(scores.layers)]
        self.sums = [
            torch.zeros(2, classes, *centre.shape, dtype=torch.float64, device=device) for centre in self.centres
        ]

    def begin(self, batch: Batch, samples: Int[np.ndarray, " sample"]) -> None:
        """Tell of the batch; `samples` are indices into the labels of the split."""
        self._prompt = batch.prompt
        self._classes = self.classes[:, samples]

    def __call__(self, layer: int, activations: Float[Tensor, "sample token neuron"]) -> None:
        """Add one layer's activations of the batch."""
        sums = self.sums[layer]
        values = activations[:, self._prompt].to(sums) - self.centres[layer]
        for power in (1, 2):
            sums[power - 1] += (self._classes @ (values**power).flatten(1)).view(sums.shape[1:])

    def largest(self, layer: int, sides: Int[np.ndarray, "subtask 2 class"]) -> Float[np.ndarray, "subtask neuron"]:
        """The difference at each neuron's best position, for each subtask."""
        members = torch.from_numpy(sides).to(self.sums[layer])
        counts = (members @ self.classes.sum(1))[:, :, None, None]  # subtask, side
        sums, squares = torch.einsum("skc,mcpn->mskpn", members, self.sums[layer])
        mean = sums / counts
        within = (squares - counts * mean**2).clamp(min=0).sum(1) / (counts.sum(1) - 2).clamp(min=1)
        rounding = ROUNDING**2 * squares.sum(1) / counts.sum(1)
        apart = (mean[:, 1] - mean[:, 0]).abs()
        pooled = torch.maximum(within, rounding).sqrt()
        return (apart / pooled.where(pooled > 0, 1)).amax(1).cpu().numpy()
