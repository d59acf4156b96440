"""What a step is given: its study's model and tasks, its configuration, its inputs, and places for its output.

KINDS[step.kind].does(Work(bench, plan, "score/sst2/0", folders, out, state))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ..config import Config
from ..finding.skill import SkillNeurons
from ..models import Backbone
from ..tasks import Task
from .bench import Bench
from .plan import Plan
from .step import Step

Options = TypeVar("Options", bound=Config)
REMEDY = "Run `skillneurons store verify`, and the study again."
"""What to do about an input that cannot be used."""


@dataclass(frozen=True)
class Work:
    """What a step is given: its inputs' folders by name, `out` for its output, `state` for what a kill spares."""

    bench: Bench
    plan: Plan
    name: str
    inputs: Mapping[str, Path]
    out: Path
    state: Path

    @property
    def step(self) -> Step:
        """The step."""
        return self.plan.steps[self.name]

    @property
    def key(self) -> str:
        """The step's key."""
        return self.plan.keys[self.name]

    @property
    def model(self) -> Backbone:
        """The study's model."""
        return self.bench.model

    @property
    def task(self) -> Task:
        """The step's task, the first of several; with all its samples."""
        return self.bench.tasks[self.step.tasks[0]]

    def options(self, kind: type[Options]) -> Options:
        """The step's configuration."""
        return kind.make(**self.step.config)

    def skill(self, task: str | None = None) -> SkillNeurons:
        """The finding of a task, without one of the step's first."""
        name = task or self.step.tasks[0]
        found = SkillNeurons.load(self.inputs[f"rank/{name}"]).with_task(self.bench.used[name])
        return replace(found, folder=None)  # which is the store's: it names nothing, and nothing more goes into it

    def skills(self) -> list[SkillNeurons]:
        """The findings of all the step's tasks."""
        return [self.skill(name) for name in self.step.tasks]
