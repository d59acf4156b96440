"""The command of the guide to transfer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from ..errors import SkillNeuronsError
from ..transferring.config import TransferConfig
from .common import console, of_run


@dataclass(frozen=True)
class Transfer:
    """Show which task's prompts to start from for each task: zero-shot transfer, and the neurons that foretell it."""

    runs: Annotated[Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN")]
    """Folders of runs of one model, two at least."""
    config: Annotated[TransferConfig, tyro.conf.arg(name="")] = field(default_factory=TransferConfig)
    out: Path = Path("runs/transfer")
    """Folder of the answers and the result; the same command goes on with it after a kill."""
    model: str | None = None
    """Where the model has moved to."""
    tasks: tuple[str, ...] = ()
    """Where the tasks have moved to, one for each run."""
    device: str = "auto"
    """Where to run: auto, cpu, cuda, cuda:1 ..."""
    sites: str | None = None
    """The down-projections' path with {layer}, where the runs were given one."""
    quiet: bool = False
    """No progress and no remarks."""

    def run(self) -> None:
        """Ask, show, keep."""
        from ..figures import save
        from ..finding.agreement import comparable
        from ..finding.skill import SkillNeurons
        from ..tasks import load_task
        from ..transferring.transfer import transfer

        skills = [SkillNeurons.load(folder) for folder in self.runs]
        comparable(skills)  # what is wrong is told before a model is loaded
        if self.tasks:
            if len(self.tasks) != len(skills):
                raise SkillNeuronsError(
                    f"--tasks names one task for each run; {len(skills)} runs, {len(self.tasks)} tasks given."
                )
            skills = [skill.with_task(load_task(task)) for skill, task in zip(skills, self.tasks, strict=True)]
        model, _ = of_run(skills[0], self.model, None, self.device, self.sites)
        found = transfer(model, *skills, config=self.config, out=self.out)
        console().print(found.screen())
        svg, _ = save(found.plot(), self.out / "figures" / found.name)
        console().print(f"\nKept in {self.out}: {found.name}.json, {svg.relative_to(self.out)}.", soft_wrap=True)
