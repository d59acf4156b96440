"""Commands of single experiments: correlate, importance, label-words, pooled, choices, selectivity."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from ..evidence.config import PerturbConfig
from ..tuning.config import TuneConfig
from .common import Dtype, console, load, of_run
from .evidence import By, OfRun, kept, tuned_by

Folders = Annotated[Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN")]


@dataclass(frozen=True)
class Correlate:
    """Show how alike the orders of several tasks are, layer by layer, and whether kinds of tasks stand out."""

    runs: Folders
    """Folders of runs of one model, two at least."""
    out: Path = Path("runs/correlation")
    """Folder of the result."""
    quiet: bool = False
    """No progress and no remarks."""

    def run(self) -> None:
        """Read, show, keep."""
        from ..evidence.correlation import correlate
        from ..figures import save
        from ..finding.skill import SkillNeurons

        found = correlate(*map(SkillNeurons.load, self.runs))
        found.save(self.out)
        console().print(found.screen())
        save(found.plot_layers(), self.out / "figures" / "correlation-layers")
        kept(found, found.plot(), self.out)


@dataclass(frozen=True)
class Importance:
    """Perturb each task in the order of every task, and show whose neurons it needs."""

    runs: Folders
    """Folders of runs of one model, two at least."""
    config: Annotated[PerturbConfig, tyro.conf.arg(name="")] = field(default_factory=PerturbConfig)
    by: By = "prompts"
    """What answers: the runs' prompts, or adapters or biases tuned for the same tasks."""
    out: Path = Path("runs/importance")
    """Folder of the curves and the result; the same command goes on with it after a kill."""
    model: str | None = None
    """Where the model has moved to."""
    device: str = "auto"
    """Where to run: auto, cpu, cuda, cuda:1 ..."""
    sites: str | None = None
    """The down-projections' path with {layer}, where the runs were given one."""
    quiet: bool = False
    """No progress and no remarks."""

    def run(self) -> None:
        """Perturb, show, keep."""
        from ..evidence.importance import importance
        from ..finding.agreement import comparable
        from ..finding.skill import SkillNeurons

        skills = [SkillNeurons.load(folder) for folder in self.runs]
        names = comparable(skills)  # what is wrong is told before a model is loaded
        model, _ = of_run(skills[0], self.model, None, self.device, self.sites)
        tuned = [tuned_by(self.by, model, skill, self.out / name) for name, skill in zip(names, skills, strict=True)]
        given = tuned if any(tuned) else []
        found = importance(model, *skills, tuned=given, config=self.config, out=self.out)
        found.save(self.out)
        console().print(found.screen())
        kept(found, found.plot(), self.out)


@dataclass(frozen=True)
class LabelWords:
    """Find the neurons with several sets of random label words, and with the same words under other seeds."""

    model: Annotated[Positional[str], tyro.conf.arg(metavar="MODEL")]
    """Hub id, local folder, or miniature."""
    task: Annotated[Positional[str], tyro.conf.arg(metavar="TASK")]
    """Name in the catalogue, miniature/NAME, or path of a task file."""
    sets: int = 5
    """Sets of random label words."""
    seeds: int = 5
    """Findings with the task's own words, each with a seed of its own."""
    out: Path | None = None
    """Folder of the runs; without it runs/TASK-label-words."""
    preset: Literal["paper", "quick"] = "paper"
    """Where the other options start from."""
    config: Annotated[TuneConfig, tyro.conf.arg(name="")] = field(default_factory=TuneConfig)
    device: str = "auto"
    """Where to run: auto, cpu, cuda, cuda:1 ..."""
    dtype: Dtype = "float32"
    """Number format of the model."""
    sites: str | None = None
    """The down-projections' path with {layer}, for a model whose FFNs are not found."""
    quiet: bool = False
    """No progress and no remarks."""

    def run(self) -> None:
        """Find, show, keep."""
        from ..evidence.label_words import LabelWordConfig, label_words
        from ..tasks import load_task

        config = LabelWordConfig.make(**self.config.model_dump() | {"sets": self.sets, "seeds": self.seeds})
        task = load_task(self.task)
        model = load(self.model, self.device, self.dtype, False, self.sites)
        out = self.out or Path("runs") / f"{task.name}-label-words"
        found = label_words(model, task, config=config, out=out)
        found.save(out)
        console().print(found.screen())
        kept(found, found.plot(), out)


@dataclass(frozen=True)
class Pooled(OfRun):
    """Show what a run's neurons come to by their mean and maximum over the input, without the prompt."""

    def run(self) -> None:
        """Read, show, keep."""
        from ..evidence.pooled import pooled

        found = pooled(*self.read())
        found.save(self.folder)
        console().print(found.screen())
        kept(found, found.plot(), self.folder)


@dataclass(frozen=True)
class Choices:
    """Show what a run's neurons come to by the mean over positions, and by the positive side alone."""

    folder: Annotated[Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    quiet: bool = False
    """No progress and no remarks."""

    def run(self) -> None:
        """Read, show, keep."""
        from ..evidence.choices import choices
        from ..finding.skill import SkillNeurons

        found = choices(SkillNeurons.load(self.folder))
        found.save(self.folder)
        console().print(found.screen())
        kept(found, found.plot(), self.folder)


@dataclass(frozen=True)
class Selectivity(OfRun):
    """Show every neuron's selectivity index beside its predictivity."""

    tokens: Literal["all", "prompt", "answer", "input"] = "prompt"
    """The tokens over which a sample's activations are averaged."""
    split: Literal["train", "dev", "test"] = "dev"
    """The samples whose means are compared."""
    values: Literal["absolute", "rectified"] = "absolute"
    """What makes activations at least 0: their absolute value, or 0 for negative ones."""

    def run(self) -> None:
        """Read, show, keep."""
        from ..evidence.selectivity import selectivity

        model, skill = self.read()
        found = selectivity(model, skill, tokens=self.tokens, split=self.split, values=self.values)
        found.save(self.folder)
        console().print(found.screen())
        kept(found, found.plot(), self.folder)
