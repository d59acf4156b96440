"""The price of the paper's prompts and scores, from the times that the other rows measured on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

import torch

from skillneurons.tasks.catalogue import CATALOGUE
from skillneurons.tuning.config import TuneConfig

from . import scoring, together, tuning
from .figure import Figure, Row, figure
from .setting import Setting, short
from .shape import LENGTHS

NAME = "paper"
TITLE = "The price of the paper"
METHOD = """Hours for seven tasks x five trials, summed over the tasks: trials x [S x step(n) + (S / 2000 x dev + \
train + dev + test) x sample(n)], where S = 4 x train / 8 steps if no trial stops early, step(n) and sample(n) are the \
times of the rows above, on a line between 28 and 300 tokens; train, dev and test are the sizes of the paper's Table \
5; n, the mean number of an input's tokens, at least 28: {tokens}. Evaluations on dev are taken to cost what scoring \
does. The paper's own 1000 GPU hours hold its other models, methods and experiments as well."""
TOKENS = {"sst2": 13, "imdb": 243, "tweet": 29, "mnli": 38, "qnli": 51, "ag_news": 47, "dbpedia": 63}
"""Mean tokens of an input with BERT's uncased vocabulary, 1 000 samples of each task, cut at 384."""

Rows = Sequence[Row]


def measure(setting: Setting, rows: Rows) -> Row:
    """The row, from those of the same run."""
    method = METHOD.format(tokens=", ".join(f"{name} {tokens}" for name, tokens in TOKENS.items()))
    found = {own.name: own for own in rows}
    if not setting.gpu:
        return Row(NAME, TITLE, method, skipped="no GPU")
    if not {tuning.NAME, scoring.NAME} <= found.keys():
        return Row(NAME, TITLE, method, skipped=f"needs the rows {tuning.NAME} and {scoring.NAME} of the same run")
    return Row(NAME, TITLE, method, tuple(prices(setting, found[tuning.NAME], found[scoring.NAME], found)))


def prices(setting: Setting, steps: Row, samples: Row, found: dict[str, Row]) -> list[Figure]:
    """Hours of the plain workflow, of ours, and of ours with five trials in one pass."""
    plain_or_ours = "plain workflow / ours"
    figures = [
        price(
            "the plain workflow, float32",
            line(steps, torch.float32, plain_or_ours, 0),
            line(samples, torch.float32, plain_or_ours, 0),
        )
    ]
    for dtype in setting.dtypes:
        sample = line(samples, dtype, plain_or_ours, 1)
        figures.append(price(f"ours, {short(dtype)}", line(steps, dtype, plain_or_ours, 1), sample))
        if (row := found.get(together.NAME)) and row.figures:
            step = line(row, dtype, together.WHAT, 1)
            figures.append(price(f"ours, {short(dtype)}, five trials in one pass", step, sample))
    return figures


def price(name: str, step: Callable[[float], float], sample: Callable[[float], float]) -> Figure:
    """Hours, given the seconds of a step and of a scored sample by the number of an input's tokens."""
    config = TuneConfig()
    seconds = 0.0
    for task, entry in CATALOGUE.items():
        sizes, tokens = entry.paper, max(TOKENS[task], LENGTHS[0])
        steps = config.epochs * ceil(sizes.train / config.batch)
        passed = steps / config.evaluate_every * sizes.dev + sizes.train + sizes.dev + sizes.test
        seconds += config.trials * (steps * step(tokens) + passed * sample(tokens))
    return figure(name, [seconds / 3600], "less", "h")


def line(row: Row, dtype: torch.dtype, what: str, which: int) -> Callable[[float], float]:
    """Seconds by the number of tokens, through what was measured at two."""
    short_input, long_input = LENGTHS
    measured = [row.figure(tuning.name(tokens, dtype, what)) for tokens in LENGTHS]
    first, last = (own.seconds[which] for own in measured if own is not None)
    return lambda tokens: first + (tokens - short_input) / (long_input - short_input) * (last - first)
