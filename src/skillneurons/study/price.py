"""What a study will cost before any of it is done: steps, passes, memory, hours.

    priced = price("studies/paper.toml", rate=25)         # 25e12 multiplications with additions a second
    priced.hours, priced.there, priced.screen()

Time is the multiplications of the steps that are missing over the rate of one large matrix product, which is measured
here unless given, times what our passes and tuning steps take beyond that limit (docs/speed.md: measured on RoBERTa's
shape beside 28 and 300 tokens). It is an upper bound as far as tuning may stop early. Where model or tasks cannot be
loaded, the file's `[model.shape]` and the catalogue's sizes stand in; what is there already is not known then.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..errors import SkillNeuronsError
from ..finding.statistics import scoring_bytes
from ..models import Backbone
from ..models.loading import usable_device
from ..progress import say
from ..tasks import Task
from ..tasks.catalogue import CATALOGUE
from ..tuning.config import TuneConfig
from ..units import in_bytes
from .bench import Bench
from .config import Shape, read_study
from .draft import Sizes, draft
from .step import Cost
from .store import Store
from .study import planned

PASSING, TUNING = 1.3, 1.7
"""What a pass and a tuning step take over the limit of their multiplications."""
TOKENS: Mapping[str, int] = {
    "sst2": 12, "imdb": 300, "tweet": 30, "mnli": 40, "qnli": 50, "ag_news": 55, "dbpedia": 65,
}  # fmt: skip
"""Tokens of an input of the catalogue's tasks, on the mean, roughly."""
PER_WORD = 1.3
"""Tokens of a word, roughly."""
SHOWN = 12
"""Steps that are named on the screen."""


@dataclass(frozen=True)
class Line:
    """The steps of one kind: how many, how many of them are there, samples passed and tuned, hours of the others."""

    kind: str
    steps: int
    there: int
    passed: int
    tuned: int
    hours: float


@dataclass(frozen=True)
class Price:
    """A study's price; `memory` in bytes, `rate` in multiplications with additions a second."""

    name: str
    lines: tuple[Line, ...]
    memory: int
    rate: float
    known: bool
    missing: tuple[str, ...]

    @property
    def hours(self) -> float:
        """Of all that is missing."""
        return sum(line.hours for line in self.lines)

    @property
    def there(self) -> int:
        """Steps whose outputs are there."""
        return sum(line.there for line in self.lines)

    def screen(self) -> RenderableType:
        """A row for each kind of step; the steps that would run; the sum."""
        grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("kind", "steps", "there", "samples passed", "samples tuned on", "hours"):
            grid.add_column(column, justify="left" if column == "kind" else "right")
        for line in self.lines:
            there = str(line.there) if self.known else "?"
            grid.add_row(line.kind, str(line.steps), there, f"{line.passed:,}", f"{line.tuned:,}", f"{line.hours:.2f}")
        steps = sum(line.steps for line in self.lines)
        told = f"{self.name}: {steps} steps, {self.there if self.known else 'unknown how many'} there already; "
        told += f"at most {self.hours:.2f} hours at {self.rate / 1e12:.3g}e12 multiplications with additions a second, "
        told += f"{in_bytes(self.memory)} of memory"
        more = f" and {len(self.missing) - SHOWN} more" if len(self.missing) > SHOWN else ""
        todo = f"Would run: {', '.join(self.missing[:SHOWN])}{more}" if self.missing else "Nothing is left to do."
        return Group(grid, Text(todo, style="dim"), Text(told))


def price(
    file: str | Path,
    *,
    store: str | Path = "runs/store",
    assets: str | Path | None = None,
    device: str = "auto",
    rate: float | None = None,
) -> Price:
    """Price a study. `rate` is in 1e12 multiplications with additions a second.

    Raises `SkillNeuronsError` for mistakes in the file, and where what cannot be loaded is not told there either.
    """
    study = read_study(file, assets)
    bench = Bench(study, device)
    try:
        plan = planned(bench)
        sizes = {name: (Sizes.of(task), _tokens(task, study.tuning)) for name, task in bench.used.items()}
        shape = shape_of(bench.model)
        steps = list(plan.steps.values())
        kept = Store(store)
        there = {name for name, key in plan.keys.items() if kept.has(key)}
        known = True
    except SkillNeuronsError as error:
        if study.model.shape is None or not all(task in CATALOGUE for task in study.tasks):
            raise
        say(f"Priced from the file's shape and the catalogue's sizes, for: {str(error).splitlines()[0]}")
        sizes = {name: (_listed(name, study.tuning), _limited(TOKENS[name], study.tuning)) for name in study.tasks}
        shape, there, known = study.model.shape, set(), False
        steps = draft(study, {name: own for name, (own, _) in sizes.items()})
    speed = 1e12 * rate if rate else measured(device)
    lines: dict[str, Line] = {}
    for step in steps:
        seconds = sum(_seconds(cost, shape, sizes[step.tasks[0]][1], speed) for cost in step.costs)
        old = lines.get(step.kind, Line(step.kind, 0, 0, 0, 0, 0.0))
        done = step.name in there
        lines[step.kind] = Line(
            step.kind, old.steps + 1, old.there + done,
            old.passed + sum(cost.passed for cost in step.costs), old.tuned + sum(cost.tuned for cost in step.costs),
            old.hours + (0.0 if done else seconds / 3600),
        )  # fmt: skip
    most = max(own.labels for own, _ in sizes.values())
    widths = [shape.width] * shape.layers
    statistics = scoring_bytes(widths, study.tuning.positions, most, 1 if most == 2 else most)
    missing = tuple(step.name for step in steps if step.name not in there)
    return Price(
        study.name, tuple(lines.values()), 4 * parameters(shape) + statistics, speed, known, missing
    )  # fmt: skip


def shape_of(model: Backbone) -> Shape:
    """What a loaded model is like; its widest layer for all."""
    size = int(model.model.config.get_text_config().hidden_size)
    embedding: Any = model.model.get_input_embeddings()
    return Shape(layers=model.layers, hidden=size, width=max(model.widths), vocabulary=len(embedding.weight))


def parameters(shape: Shape) -> int:
    """About how many weights a model of such a shape has."""
    return shape.layers * (4 * shape.hidden**2 + 2 * shape.hidden * shape.width) + shape.vocabulary * shape.hidden


def multiplications(shape: Shape, tokens: int) -> int:
    """Of one sample of so many tokens going forward, the head at the answer token alone."""
    linear = 4 * shape.hidden**2 + 2 * shape.hidden * shape.width
    attention = 2 * tokens * shape.hidden
    return shape.layers * tokens * (linear + attention) + shape.vocabulary * shape.hidden


def measured(device: str = "auto", size: int = 1024, turns: int = 5) -> float:
    """Multiplications with additions a second of a square matrix product: the median over some turns."""
    where = usable_device(device)
    one = torch.ones(size, size, device=where)
    seconds = []
    for _ in range(turns + 1):
        began = time.perf_counter()
        float((one @ one)[0, 0])  # waits for the device
        seconds.append(time.perf_counter() - began)
    return size**3 / float(np.median(seconds[1:]))


def _seconds(cost: Cost, shape: Shape, tokens: int, rate: float) -> float:
    """A tuning step goes forward, and back to the prompt through as many multiplications."""
    own = multiplications(shape, cost.positions + tokens + 3) / rate
    return own * (PASSING * cost.passed + 2 * TUNING * cost.tuned)


def _tokens(task: Task, config: TuneConfig) -> int:
    rows = [task.train.rows[place] for place in range(min(200, len(task.train)))]
    words = [sum(len(str(row[column]).split()) for column in task.text) for row in rows]
    return _limited(int(PER_WORD * float(np.mean(words))), config)


def _limited(tokens: int, config: TuneConfig) -> int:
    return min(tokens, config.input_limit or tokens)


def _listed(name: str, config: TuneConfig) -> Sizes:
    """A task of the catalogue as its entry has it, no larger than the study allows."""
    entry = CATALOGUE[name]
    own = entry.loaded
    train, dev = min(own.train, config.train_limit or own.train), min(own.dev, config.dev_limit or own.dev)
    test = min(own.test, config.test_limit or own.test)
    return Sizes(train, dev, test, len(entry.file.words), max(1, len(entry.file.prompts)))
