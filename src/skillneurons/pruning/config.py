"""What is pruned, and how; read by the command line, so without torch.

PruneConfig.make(keep=0.02, layers=range(3, 12))
PruneConfig.make(baseline="positions", reestimate=True, tune=False)
allowed("accuracy -1.0")                 # 1.0
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, field_validator

from ..config import Config
from ..errors import SkillNeuronsError

Baseline = Literal["one", "positions"]
Exporting = Literal["onnx", "onnx-int8"]
Runtime = Literal["torch", Exporting]
Layer = Annotated[int, Field(ge=0)]


class PruneConfig(Config):
    """Options of pruning; share, scope and layers are the paper's (section 6.1) and its authors' code's."""

    keep: Annotated[float, Field(gt=0, le=1)] = 0.02
    """Share of the neurons that stay, the most predictive ones."""
    layers: tuple[Layer, ...] | None = None
    """Layers that are pruned, from 0; without it the top three quarters, nine of twelve."""
    scope: Literal["layer", "model"] = "layer"
    """The same share of each layer, or of all pruned layers together."""
    baseline: Literal["auto", "one", "positions"] = "auto"
    """At which mean neurons are frozen: one over the prompt, one per position, or the better on dev."""
    reestimate: bool = False
    """Estimate the means anew, from below upwards, each layer's with those below it frozen already."""
    tune: bool = True
    """Tune the prompt further on the pruned model."""
    steps: Annotated[int, Field(ge=1)] | None = None
    """Most steps of that; without it as the run was tuned."""
    lr: Annotated[float, Field(gt=0)] | None = None
    """Learning rate of that; without it the one each trial was tuned with."""

    @field_validator("layers", mode="before")
    @classmethod
    def _as_tuple(cls, given: object) -> object:
        return tuple(given) if isinstance(given, Iterable) else given

    @property
    def baselines(self) -> tuple[Baseline, ...]:
        """Those that are tried."""
        return ("one", "positions") if self.baseline == "auto" else (self.baseline,)

    def chosen(self, layers: int) -> tuple[int, ...]:
        """The pruned layers, ascending, of a model of so many.

        Raises `SkillNeuronsError` for layers that it does not have, or that are named twice, and where there are none.
        """
        if self.layers is None:
            return tuple(range(min(-(-layers // 4), layers - 1), layers))
        if len(set(self.layers)) < len(self.layers) or not self.layers or max(self.layers) >= layers:
            raise SkillNeuronsError(
                f"pruned layers are some of 0 to {layers - 1}, each named once; given: "
                f"{', '.join(map(str, self.layers)) or 'none'}. Choose layers that this model has."
            )
        return tuple(sorted(self.layers))


class BenchConfig(Config):
    """What is timed."""

    tokens: tuple[Annotated[int, Field(ge=1)], ...] = (28,)
    """Lengths of inputs, in tokens, special tokens counted and the prompt not."""
    batch: Annotated[int, Field(ge=1)] = 16
    """Inputs at a time where throughput is measured; latency is that of one."""
    turns: Annotated[int, Field(ge=1)] = 9
    """How often everything is timed, each time all of it in turn."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of the CPU; without it as many as torch takes by itself."""


def allowed(budget: str) -> float:
    """The points of accuracy on dev that a budget such as "accuracy -1.0" allows to be lost.

    Raises `SkillNeuronsError` for anything else.
    """
    found = re.fullmatch(r"\s*accuracy\s+-(\d+(?:\.\d+)?)\s*", budget)
    if found is None or float(found[1]) > 100:
        raise SkillNeuronsError(
            'a budget is written "accuracy -1.0": the points of accuracy on dev, from 0 to 100, that may be lost at '
            f"most; given: {budget!r}. Write it so."
        )
    return float(found[1])


def obeys(difference: float, points: float) -> bool:
    """Whether a difference of two accuracies on dev, as shares, loses no more than so many points."""
    return 100 * difference >= -points - 1e-9
