"""A point of a perturbation curve, against a plain evaluation of the same prompt."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import skillneurons as sn
from skillneurons.tuning.evaluate import evaluate_inputs
from skillneurons.tuning.inputs import Inputs

from .figure import Row, ratio
from .setting import Setting, assets
from .turns import turns
from .whole import NONE

NAME = "curve"
TITLE = "A point of a perturbation curve"
METHOD = """`perturb` on SST-2, MiniLM in float32, under one random prompt of 32 positions, over {test} test samples: \
the run's order and one at random, {shares} shares of the neurons up to 20 %, points kept in a file as they are found, \
everything made anew in each turn; against as many evaluations of the same prompt, texts tokenised before. Noise that \
is relative to a neuron's spread takes one more pass, over dev, for each trial: not counted here."""
TEST, STEP = 500, 0.04


def measure(setting: Setting) -> Row:
    """The row."""
    options: dict[str, Any] = {"most": 0.2, "step": STEP, "draws": 1, "bottom": False}
    points = 1 + 2 * (len(sn.PerturbConfig.make(**options).shares) - 1)
    method = METHOD.format(test=TEST, shares=points // 2)
    folder = assets()
    if folder is None:
        return Row(NAME, TITLE, method, skipped=NONE)
    model = sn.load_model(folder / "models" / "minilm-l6-mlm", device=setting.device)
    task = sn.load_task(folder / "tasks" / "sst2" / "task.toml").limited(train=100, dev=100, test=TEST)
    skill = sn.find(model, task, prompt="random", trials=1, positions=32)
    [prompt] = skill.prompts
    inputs = Inputs.beside(model, task, prompt)

    def curves() -> None:
        with tempfile.TemporaryDirectory() as out:
            sn.perturb(model, skill, out=out, **options)

    works: dict[str, Callable[[], object]] = {
        "curves": curves,
        "evaluations": lambda: [evaluate_inputs(inputs, prompt.embedding, "test", label=None) for _ in range(points)],
    }
    seconds = turns(works, setting.repeats, setting.device, NAME)
    found = ratio("a point / an evaluation", seconds["curves"], seconds["evaluations"], "less", asked=1.05)
    return Row(NAME, TITLE, method, (replace(found, seconds=tuple(value / points for value in found.seconds)),))
