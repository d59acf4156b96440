"""Several trials through one frozen backbone in one pass, against one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import skillneurons as sn

from .figure import Figure, Row, ratio
from .setting import Setting, short
from .shape import LENGTHS, POSITIONS, backbone, task
from .tuning import BATCH, LR, name
from .turns import turns

NAME = "together"
TITLE = "Five trials in one pass"
TRIALS = 5
WHAT = "five in turn / five in one pass"
METHOD = """`tune` with five trials of {steps} steps of batch 8 and one evaluation on eight dev samples each: all five \
in one pass, and one after the other. Times are of a step of one trial."""


def measure(setting: Setting) -> Row:
    """The row."""
    steps, lengths = (20, LENGTHS) if setting.gpu else (2, LENGTHS[:1])
    figures = [figure for tokens in lengths for figure in at(setting, tokens, steps)]
    return Row(NAME, TITLE, METHOD.format(steps=steps), tuple(figures), setting.remarks)


def at(setting: Setting, tokens: int, steps: int) -> list[Figure]:
    """The figures at one length."""
    figures = []
    for dtype in setting.dtypes:
        model = backbone(setting.shape, dtype, setting.device)
        own_task = task(model, tokens, train=BATCH * steps, dev=BATCH)
        works = {"in turn": tuned(model, own_task, steps, 1), "in one pass": tuned(model, own_task, steps, TRIALS)}
        seconds = turns(works, setting.repeats, setting.device, f"{NAME}, {tokens} tokens, {short(dtype)}")
        figures.append(ratio(name(tokens, dtype, WHAT), seconds["in turn"], seconds["in one pass"], "more"))
    return [replace(own, seconds=tuple(value / (TRIALS * steps) for value in own.seconds)) for own in figures]


def tuned(model: sn.Backbone, task: sn.Task, steps: int, together: int) -> Callable[[], object]:
    """All trials, so many at a time."""
    options: dict[str, Any] = {"trials": TRIALS, "positions": POSITIONS, "steps": steps, "evaluate_every": steps}
    return lambda: sn.tune(model, task, together=together, batch=BATCH, lr=LR, **options)
