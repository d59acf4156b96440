"""Prompts for a task: one a trial.

prompts = tune(model, task, trials=5)
prompts = tune(model, task, preset="quick", trials=3, lr="auto")
prompts = tune(model, task, prompt="random")            # untuned
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import SkillNeuronsError
from ..models import Backbone
from ..progress import progress, say
from ..tasks import Task
from .config import TuneConfig
from .evaluate import evaluate_inputs
from .inputs import Inputs
from .prompt import Prompt, embed_words, hard_prompts, initial
from .train import Job, losses, train

RATES = (0.015, 0.05, 0.15, 0.5)
"""Learning rates tried, as shares of the embeddings' scale: Adam moves an entry by about its rate in a step."""
ROUNDS = ((20, 2), (80, 1))
"""Of the rates, how many go on after how many steps: early losses hardly differ, and later ones cost more."""


def tune(
    model: Backbone, task: Task, *, config: TuneConfig | None = None, preset: str = "paper", **options: Any
) -> list[Prompt]:
    """Tune (or draw, or read) one prompt for each trial.

    Options are those of `TuneConfig`; `config` gives them all at once.
    """
    config = config or TuneConfig.preset(preset, **options)
    task = limited(task, config)
    prompts: list[Prompt] = []
    for group in groups(task, config):
        prompts += tune_group(model, task, config, group, prompts[0].lr if prompts else None)
    return prompts


def limited(task: Task, config: TuneConfig) -> Task:
    """The task with no more samples than the configuration allows."""
    return task.limited(train=config.train_limit, dev=config.dev_limit, test=config.test_limit)


def trials(task: Task, config: TuneConfig) -> int:
    """The number of trials: as configured, but no more than there are hard prompts, which are alike in every trial."""
    return min(config.trials, len(hard_prompts(task))) if config.prompt == "hard" else config.trials


def groups(task: Task, config: TuneConfig) -> list[range]:
    """The trials that are tuned together, in one pass each."""
    count = trials(task, config)
    return [range(first, min(first + config.together, count)) for first in range(0, count, config.together)]


def tune_group(
    model: Backbone,
    task: Task,
    config: TuneConfig,
    group: Sequence[int],
    lr: float | None = None,
    checkpoint: Path | None = None,
    identity: str = "",
) -> list[Prompt]:
    """The prompts of some trials; `task` is already limited, `lr` is a rate that an earlier trial found."""
    if config.prompt == "hard":
        texts = hard_prompts(task)
        return [_untuned(model, task, config, one, embed_words(model, texts[one]), texts[one]) for one in group]
    if config.prompt == "random":
        return [_untuned(model, task, config, one, initial(model, config, one)) for one in group]
    inputs = Inputs(model, task, config.positions, config.input_limit)
    if config.lr != "auto":
        lr = config.lr
    elif lr is None:
        lr = choose_rate(inputs, config)
    prompts = train([Job(inputs, trial, lr) for trial in group], config, checkpoint, identity)
    for prompt in prompts:
        if not prompt.worth_ranking:
            say(_doubt(prompt), style="yellow")
    return prompts


def choose_rate(inputs: Inputs, config: TuneConfig) -> float:
    """The rate with the lowest loss in the second half of some steps, from the first trial's start, in two rounds."""
    rates = [float(f"{share * inputs.backbone.embedding_scale:.1g}") for share in RATES]
    told = []
    with progress("finding a learning rate", len(rates) + ROUNDS[0][1], "runs") as advance:
        for steps, kept in ROUNDS:
            ends = {}
            for rate in rates:
                end = float(np.mean(losses(inputs, config, 0, rate, steps)[steps // 2 :]))
                ends[rate] = end if np.isfinite(end) else float("inf")
                advance(1)
            told.append(f"after {steps} steps " + ", ".join(f"{end:.3f} at {rate:g}" for rate, end in ends.items()))
            rates = sorted(rates, key=lambda rate: ends[rate])[:kept]
    if not np.isfinite(ends[rates[0]]):
        raise SkillNeuronsError("no learning rate gives a finite loss; try --dtype float32, or set --lr.")
    say(f"learning rate {rates[0]:g} (loss {'; '.join(told)})")
    return rates[0]


def _untuned(
    model: Backbone, task: Task, config: TuneConfig, trial: int, embedding: Tensor, text: str | None = None
) -> Prompt:
    inputs = Inputs(model, task, embedding.shape[0], config.input_limit)
    found = evaluate_inputs(inputs, embedding, "dev", f"trial {trial + 1}: dev")
    majority = float(np.bincount(found.labels).max() / len(found.labels))
    return Prompt(embedding, config.prompt, trial, found.accuracy, majority, len(found.labels), inputs.limit, text=text)


def _doubt(prompt: Prompt) -> str:
    return (
        f"trial {prompt.trial + 1}: the prompt did not beat the majority label by a margin worth ranking on (dev "
        f"accuracy {prompt.accuracy:.3f}, majority {prompt.majority:.3f}, {prompt.samples} samples). Its ranking says "
        "little about the task: try --lr auto, more --steps, or other label words."
    )
