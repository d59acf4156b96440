"""What is done to chosen neurons while the model runs.

    with model.edit(chosen, Noise(0.1)):
        evaluate(model, task, prompt)
    with model.edit(chosen, Baseline(means), tokens="prompt"):
        ...

An edit is any callable `(layer, activations) -> activations` on the chosen neurons' activations alone, of shape
[batch, token, chosen]; it returns a new tensor of the same shape. One that must know which neurons and tokens these
are is a `PlacedEdit`; one that adds something, whatever the activations are, an `AddedEdit`, the fastest. One with
`by_token = True` does to each token what it would do without the others: in the last layer, of which only the answer
token is read, it is given that token alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import SkillNeuronsError

Activations = Float[Tensor, "batch token chosen"]
Neurons = Int[Tensor, " chosen"]
Rows = Int[Tensor, "batch token"]
Amounts = Float[Tensor, "batch #token chosen"]
Edit = Callable[[int, Activations], Activations]
TOKENS = ("all", "prompt", "answer", "input")
"""The tokens on which neurons may be edited."""


@runtime_checkable
class PlacedEdit(Protocol):
    """An edit that differs from neuron to neuron, or from token to token."""

    def at(self, layer: int, activations: Activations, neurons: Neurons, rows: Rows) -> Activations:
        """The activations as edited; `rows` as `Batch.rows` tells them."""


@runtime_checkable
class AddedEdit(Protocol):
    """An edit that adds an amount of its own to each activation."""

    def added(self, layer: int, neurons: Neurons, rows: Rows) -> Amounts:
        """What is added; one token's amounts serve all. `rows` as `Batch.rows` tells them."""


@dataclass(frozen=True)
class Scale:
    """Multiply the chosen activations by `factor`."""

    by_token: ClassVar[bool] = True

    factor: float

    def __call__(self, layer: int, activations: Activations) -> Activations:
        """The activations times the factor."""
        return activations * self.factor


@dataclass(frozen=True)
class Zero:
    """Silence the chosen neurons: their activations become 0."""

    by_token: ClassVar[bool] = True

    def __call__(self, layer: int, activations: Activations) -> Activations:
        """Zeros of the activations' shape."""
        return activations.new_zeros(activations.shape)


@dataclass(frozen=True, eq=False)
class Noise:
    """Add Gaussian noise of mean 0 and standard deviation `std` (paper, section 4.2: 0.1).

    `per`: `sample`, one draw for each sample and neuron, shared by all its tokens (as the authors' code does), or
    `token`, one for each token. `relative`: a layer's spreads [neuron], one tensor a layer, of which `std` is then a
    multiple. The numbers come from `seed` in the order of the passes; the same edit used again goes on with new ones.
    """

    by_token: ClassVar[bool] = True
    std: float = 0.1
    per: str = "sample"
    relative: Sequence[Float[Tensor, " _neuron"]] | None = None
    seed: int = 0
    _draw: torch.Generator = field(default_factory=lambda: torch.Generator(), init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse what is no standard deviation."""
        if not (isfinite(self.std) and self.std >= 0):
            raise SkillNeuronsError(f"noise has a finite standard deviation of at least 0; given: {self.std}.")
        if self.per not in ("sample", "token"):
            raise SkillNeuronsError(f"noise is drawn per 'sample' or per 'token'; given: {self.per!r}.")
        self._draw.manual_seed(self.seed)

    def added(self, layer: int, neurons: Neurons, rows: Rows) -> Amounts:
        """The noise."""
        batch, tokens = rows.shape
        # drawn where every device draws the same
        noise = torch.randn(batch, tokens if self.per == "token" else 1, len(neurons), generator=self._draw)
        return noise * (self.std if self.relative is None else self.std * self.relative[layer].cpu()[neurons.cpu()])


@dataclass(frozen=True, eq=False)
class Baseline:
    """Put the chosen activations at their means over a split (section 5 of the design, "Pruning").

    `means`: of each layer [position + 2, neuron], as `TrialScores.mean` has them: a row for every position of the
    prompt, one for the answer token, one for input tokens. `one`: the mean over the prompt's positions for every
    token, as the authors' code does, in place of each token's own row.
    """

    by_token: ClassVar[bool] = True
    means: Sequence[Float[Tensor, "row _neuron"]]
    one: bool = False

    def at(self, layer: int, activations: Activations, neurons: Neurons, rows: Rows) -> Activations:
        """The means in the activations' place."""
        means = self.means[layer].to(activations.device)[:, neurons]
        if self.one:
            return means[:-2].mean(0).to(activations).expand(activations.shape).clone()
        return means[rows].to(activations.dtype)


@dataclass(frozen=True, eq=False)
class Push:
    """Add to each chosen activation its neuron's own amount: of each layer [neuron], one tensor a layer."""

    by_token: ClassVar[bool] = True
    amounts: Sequence[Float[Tensor, " _neuron"]]

    def added(self, layer: int, neurons: Neurons, rows: Rows) -> Amounts:
        """The amounts."""
        amounts = self.amounts[layer]
        return amounts[neurons.to(amounts.device)].expand(len(rows), 1, -1)
