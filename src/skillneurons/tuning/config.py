"""How a prompt is tuned: every option, with the paper's values as defaults; what else may be tuned in its place.

TuneConfig.make(trials=3, positions=32)
TuneConfig.preset("quick", trials=3)     # minutes on two cores rather than hours on a GPU
AdapterConfig.make(placement="houlsby"); BitFitConfig.make(lr=2e-3)
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field

from ..config import Config
from ..errors import SkillNeuronsError

Positive = Annotated[int, Field(ge=1)]

QUICK: dict[str, Any] = {
    "positions": 32, "steps": 500, "batch": 16, "lr": "auto", "init_std": "auto", "evaluate_every": 100,
    "train_limit": 4000, "dev_limit": 1000, "test_limit": 2000, "input_limit": 128,
}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {"paper": {}, "quick": QUICK}


class TuneConfig(Config):
    """Options of prompt tuning; the defaults are the paper's (appendix B) and its authors' code's."""

    prompt: Literal["soft", "random", "hard"] = "soft"
    """soft: tuned; random: drawn and left so; hard: the task's own words."""
    trials: Positive = 5
    """Random runs, each with its own seed, data order and prompt initialisation."""
    together: Positive = 1
    """Trials that are tuned in one pass through the model, each with its own samples and prompt."""
    positions: Positive = 127
    """Prompt tokens."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the trials; the split has the task's own."""
    steps: Positive | None = None
    """Most steps of a trial; without it, as many as --epochs make."""
    epochs: Positive = 4
    """Most passes over the training samples."""
    batch: Positive = 8
    """Samples in a step."""
    lr: Annotated[float, Field(gt=0)] | Literal["auto"] = 1e-3
    """Learning rate of Adam; auto: the best of several on a few steps."""
    init_std: Annotated[float, Field(gt=0)] | Literal["auto"] = 0.03
    """Standard deviation of a new prompt's entries; auto: that of the model's own embeddings."""
    evaluate_every: Positive = 2000
    """Steps between evaluations on dev."""
    patience: Positive = 6
    """Evaluations without a gain on dev before a trial stops."""
    objective: Literal["words", "vocabulary"] = "words"
    """Cross-entropy over the label words, or over the whole vocabulary (Eq. 1)."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient of what is tuned."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.006
    """Share of the steps over which the learning rate rises."""
    train_limit: Positive | None = None
    """Most training samples, of tuning and of the baseline alike."""
    dev_limit: Positive | None = None
    """Most dev samples."""
    test_limit: Positive | None = None
    """Most test samples."""
    input_limit: Positive | None = None
    """Most tokens of an input; longer ones are cut and counted."""

    @classmethod
    def preset(cls, name: str, **options: Any) -> Self:
        """The options of a preset (`paper` or `quick`), with `options` in place of its own."""
        if name not in PRESETS:
            raise SkillNeuronsError(f"a preset is one of {', '.join(PRESETS)}; given: {name!r}.")
        return cls.make(**{**PRESETS[name], **options})


class AdapterConfig(Config):
    """Bottleneck adapters: small layers after those of the model, which stay as they are."""

    method: Literal["adapter"] = "adapter"
    """Which method this is."""
    placement: Literal["pfeiffer", "houlsby"] = "pfeiffer"
    """pfeiffer: after the FFN of each block; houlsby: after its attention as well."""
    reduction: Positive = 16
    """The residual stream's width, of which an adapter's bottleneck is this part."""
    lr: Annotated[float, Field(gt=0)] = 5e-4
    """Learning rate of Adam."""


class BitFitConfig(Config):
    """BitFit: the model's biases are tuned, nothing else."""

    method: Literal["bitfit"] = "bitfit"
    """Which method this is."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """Learning rate of Adam."""
