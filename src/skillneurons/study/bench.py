"""What the steps of a study work with: its model and its tasks, each loaded once a process.

    bench = Bench(study, device="auto")
    bench.model; bench.tasks["sst2"]             # with all its samples: a step takes as many as it is told to
    bench.prints                                 # fingerprints, by task; the model's under MODEL

Nothing is loaded before it is asked for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

from ..errors import SkillNeuronsError
from ..files import digest
from ..models import Backbone, load_model
from ..tasks import Task, load_task
from ..tuning.tune import limited
from .config import StudyConfig
from .plan import MODEL


@dataclass(frozen=True, eq=False)
class Bench:
    """A study's model and tasks."""

    study: StudyConfig
    device: str = "auto"

    @cached_property
    def model(self) -> Backbone:
        """The model."""
        own = self.study.model
        return load_model(own.source, dtype=own.dtype, device=self.device, sites=own.sites)

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """The tasks by their names, in the study's order.

        Raises `SkillNeuronsError` where one cannot be loaded, and for two of one name.
        """
        found = [load_task(source) for source in self.study.tasks]
        names = [task.name for task in found]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise SkillNeuronsError(
                f"each task of a study has a name of its own; given twice: {', '.join(twice)}. Leave one out, or give "
                "it another name in its file."
            )
        return dict(zip(names, found, strict=True))

    @cached_property
    def used(self) -> dict[str, Task]:
        """The tasks with as many samples as the study's tuning has it."""
        return {name: limited(task, self.study.tuning) for name, task in self.tasks.items()}

    @cached_property
    def prints(self) -> dict[str, str]:
        """Fingerprints: of the model, and of each task's data with all that a result may rest on."""
        return {MODEL: self.model.fingerprint} | {
            name: digest(task.fingerprint, task.split_fingerprint, json.dumps([task.kind, task.prompts, task.seed]))
            for name, task in self.tasks.items()
        }
