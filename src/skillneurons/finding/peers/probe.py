"""Linear probes: how well a layer's neurons tell the label together, and which of them the probe leans on.

    averages = Averages(layers, widths, len(train))             # sweep train with it, then
    probe = fit(averages.take(layer), labels, sides, weights)   # one probe for each subtask
    probe.weights                                               # [subtask, neuron]
    told = Told(probes, len(test), len(sides))                  # sweep test with it: told.positive

The features are a layer's activations averaged over the prompt's positions, standardised by their mean and standard
deviation over train. A probe is scikit-learn's logistic regression at its defaults (L2, C = 1; Alain and Bengio 2017
probe layer by layer), one for each subtask: a neuron's weight belongs to one binary question, as its predictivity
does. Samples of neither side weigh nothing; both sides of a multi-class task's subtask weigh the same.

Fitting needs samples x neurons numbers of a layer at once; layers are taken in groups that fit the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from ...models import Batch
from ..statistics import at_least_float32

SIZE = 4
"""Bytes of a feature."""
_COLUMNS = 64  # standardised at once, in float64


@dataclass(frozen=True, eq=False)
class Probe:
    """A layer's probes: features less `mean` over `scale`, times `weights`, plus `intercepts`; above 0 is positive."""

    mean: Float[np.ndarray, " neuron"]
    scale: Float[np.ndarray, " neuron"]
    weights: Float[np.ndarray, "subtask neuron"]
    intercepts: Float[np.ndarray, " subtask"]

    def positive(self, features: Float[np.ndarray, "sample neuron"]) -> Bool[np.ndarray, "sample subtask"]:
        """Whether each subtask's probe puts a sample on the positive side."""
        return ((features - self.mean) / self.scale) @ self.weights.T + self.intercepts > 0


def layer_groups(widths: Sequence[int], samples: int, memory: int) -> list[list[int]]:
    """Layers in order, in groups whose features take at most `memory` bytes; a layer beyond that is alone."""
    groups: list[list[int]] = []
    room = -1
    for layer, width in enumerate(widths):
        needed = samples * width * SIZE
        if needed > room:
            groups.append([])
            room = memory
        groups[-1].append(layer)
        room -= needed
    return groups


class Averages:
    """A split's activations averaged over the prompt's positions, of some layers."""

    def __init__(self, layers: Sequence[int], widths: Sequence[int], samples: int) -> None:
        self.features = {layer: np.empty((samples, widths[layer]), dtype=np.float32) for layer in layers}

    def begin(self, batch: Batch, samples: Int[np.ndarray, " sample"]) -> None:
        """Tell of the batch, and where its samples are kept."""
        self._prompt, self._samples = batch.prompt, samples

    def __call__(self, layer: int, activations: Float[Tensor, "sample token neuron"]) -> None:
        """Keep one layer's averages."""
        if layer in self.features:
            self.features[layer][self._samples] = _averages(activations[:, self._prompt])

    def take(self, layer: int) -> Float[np.ndarray, "sample neuron"]:
        """A layer's features, which are held no longer."""
        return self.features.pop(layer)


def fit(
    features: Float[np.ndarray, "sample neuron"],
    labels: Int[np.ndarray, " sample"],
    sides: Int[np.ndarray, "subtask 2 class"],
    weights: Float[np.ndarray, "subtask class"],
) -> Probe:
    """A layer's probes, fitted on train.

    `weights`: what a sample of each label weighs in a subtask, adding up to 1 over the samples. `features` are
    standardised where they stand, for a copy may not fit.
    """
    mean, scale = np.empty((2, features.shape[1]))
    for start in range(0, features.shape[1], _COLUMNS):
        some = slice(start, start + _COLUMNS)
        values = features[:, some].astype(np.float64)
        mean[some], scale[some] = values.mean(0), values.std(0)
        scale[some][scale[some] <= 1e-7 * np.abs(mean[some])] = 1  # constant but for rounding
        features[:, some] = (values - mean[some]) / scale[some]
    fitted = []
    for (_, positive), own in zip(sides, weights, strict=True):
        each = own[labels] * np.count_nonzero(own[labels])  # 1 on average, as C = 1 supposes
        fitted.append(LogisticRegression(max_iter=1000).fit(features, positive[labels], each))
    coefficients, intercepts = (
        np.concatenate([getattr(own, part) for own in fitted]) for part in ("coef_", "intercept_")
    )
    return Probe(mean, scale, coefficients, intercepts)


class Told:
    """What every layer's probes say of a split's samples."""

    def __init__(self, probes: Sequence[Probe], samples: int, subtasks: int) -> None:
        self.probes = probes
        self.positive = np.zeros((samples, len(probes), subtasks), dtype=bool)
        """[sample, layer, subtask]; of no layer where there are no probes"""

    def begin(self, batch: Batch, samples: Int[np.ndarray, " sample"]) -> None:
        """Tell of the batch, and which samples it holds."""
        self._prompt, self._samples = batch.prompt, samples

    def __call__(self, layer: int, activations: Float[Tensor, "sample token neuron"]) -> None:
        """Ask one layer's probes."""
        if self.probes:
            features = _averages(activations[:, self._prompt])
            self.positive[self._samples, layer] = self.probes[layer].positive(features)


def _averages(prompt: Tensor) -> Float[np.ndarray, "sample neuron"]:
    return at_least_float32(prompt).mean(1).float().cpu().numpy()
