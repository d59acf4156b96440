"""The options of the guide to transfer; read by the command line, so without torch.

TransferConfig.make(fraction=0.1, scope="layer")
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..config import Config
from ..evidence.config import Share


class TransferConfig(Config):
    """Which neurons are the target's, what is answered, how correlations are tested; the first two are the paper's."""

    fraction: Share = 0.2
    """The share of the neurons that are the target's skill neurons."""
    scope: Literal["model", "layer"] = "model"
    """The top of all neurons together, or the same share of each layer."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """The most test samples of each target; a random choice by the task's seed."""
    permutations: Annotated[int, Field(ge=100)] = 9999
    """Relabellings of the tasks that are gone through one by one; of more, as many are drawn."""
    resamples: Annotated[int, Field(ge=100)] = 2000
    """Draws of tasks that the intervals rest on."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of what is drawn."""
