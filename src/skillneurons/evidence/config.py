"""The options of the experiments that edit neurons; read by the command line, so without torch.

PerturbConfig.make(std=0.5, relative=True, most=0.1)
SteerConfig.make(fraction=0.02)
"""

from __future__ import annotations

from math import floor
from typing import Annotated, Literal

from pydantic import Field

from ..config import Config

Share = Annotated[float, Field(gt=0, le=1)]


class PerturbConfig(Config):
    """Options of perturbation curves; noise, rates and scope are the paper's and its authors' code's."""

    edit: Literal["noise", "zero", "baseline", "scale"] = "noise"
    """What is done to a neuron: Gaussian noise, 0, its mean over train, or a factor."""
    std: Annotated[float, Field(ge=0)] = 0.1
    """Standard deviation of the noise."""
    relative: bool = False
    """Whether that is a multiple of each neuron's own standard deviation over dev's tokens."""
    per: Literal["sample", "token"] = "sample"
    """Whether a neuron's noise is shared by a sample's tokens."""
    factor: float = 0.0
    """The factor of scale."""
    tokens: Literal["all", "prompt", "answer", "input"] = "all"
    """The tokens on which neurons are perturbed."""
    most: Share = 0.2
    """The largest share of neurons perturbed."""
    step: Share = 0.01
    """From one share to the next."""
    scope: Literal["layer", "model"] = "layer"
    """The same share of each layer, or of all neurons together."""
    draws: Annotated[int, Field(ge=1)] = 5
    """Random orders, each with as many neurons of each layer."""
    narrow: Annotated[float, Field(gt=0)] | None = None
    """Draw no further random orders once their mean area is known within so many points (95 %)."""
    bottom: bool = True
    """Whether the run's order is also followed from its end."""
    split: Literal["train", "dev", "test"] = "test"
    """The samples that are answered."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """The most of them; a random choice by the task's seed, the same in every run of the task."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the random orders and of the noise."""

    @property
    def shares(self) -> tuple[float, ...]:
        """0 and the shares that are perturbed."""
        count = floor(self.most / self.step + 1e-9)
        return (0.0, *(round(self.step * number, 10) for number in range(1, count + 1)))


class SteerConfig(Config):
    """How far which neurons are pushed."""

    fraction: Annotated[float, Field(gt=0, le=1)] = 0.05
    """The share of each layer's neurons, the most predictive first."""
    doses: tuple[float, ...] = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)
    """Multiples of a neuron's spread by which it is pushed along its sign."""
    draws: Annotated[int, Field(ge=1)] = 5
    """Draws of random neurons, and of random signs."""
    split: Literal["train", "dev", "test"] = "test"
    """The samples that are answered."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of what is drawn."""
