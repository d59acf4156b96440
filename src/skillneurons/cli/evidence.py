"""The commands of the evidence: perturb, steer, words, origins."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional

from ..evidence.config import PerturbConfig, SteerConfig
from ..tuning.config import TuneConfig
from .common import Dtype, console, load, of_run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..evidence.result import Evidence
    from ..finding.skill import SkillNeurons
    from ..models import Backbone
    from ..tuning.tuned import Tuned

By = Literal["prompts", "adapter", "bitfit"]
Folder = Annotated[Positional[Path], tyro.conf.arg(metavar="RUN")]


@dataclass(frozen=True)
class OfRun:
    """What a command needs that reads one run and its model."""

    folder: Folder
    """Folder of the run."""
    model: str | None = None
    """Where the model has moved to."""
    task: str | None = None
    """Where the task has moved to."""
    device: str = "auto"
    """Where to run: auto, cpu, cuda, cuda:1 ..."""
    sites: str | None = None
    """The down-projections' path with {layer}, where the run was given one."""
    quiet: bool = False
    """No progress and no remarks."""

    def read(self) -> tuple[Backbone, SkillNeurons]:
        """The run, and the model it was found in."""
        from ..finding.skill import SkillNeurons

        return of_run(SkillNeurons.load(self.folder), self.model, self.task, self.device, self.sites)


@dataclass(frozen=True)
class Perturb(OfRun):
    """Perturb a run's neurons in its order, from its end, at random, and in the order of other runs."""

    others: tuple[Path, ...] = ()
    """Folders of other runs of the same model, in whose orders the neurons are perturbed as well."""
    by: By = "prompts"
    """What answers: the run's prompts, or adapters or biases tuned for the same task."""
    config: Annotated[PerturbConfig, tyro.conf.arg(name="")] = field(default_factory=PerturbConfig)

    def run(self) -> None:
        """Perturb, show, keep."""
        from ..evidence import orders
        from ..evidence.curves import perturb
        from ..finding.agreement import comparable
        from ..finding.skill import SkillNeurons

        model, skill = self.read()
        others = [SkillNeurons.load(folder) for folder in self.others]
        names = comparable([skill, *others])[1:] if others else []
        beside = [orders.of_run(name, own, self.config.scope) for name, own in zip(names, others, strict=True)]
        tuned = tuned_by(self.by, model, skill, self.folder)
        out = self.folder / self.by if tuned else self.folder
        found = perturb(model, skill, orders=beside, tuned=tuned, config=self.config, out=out)
        console().print(found.screen())
        kept(found, found.plot(), out)


@dataclass(frozen=True)
class Steer(OfRun):
    """Push a run's neurons along their signs, and watch the answers."""

    subtask: str | None = None
    """The subtask whose neurons are pushed; without it, the first."""
    config: Annotated[SteerConfig, tyro.conf.arg(name="")] = field(default_factory=SteerConfig)

    def run(self) -> None:
        """Push, show, keep."""
        from ..evidence.steering import steer

        model, skill = self.read()
        found = steer(model, skill, subtask=self.subtask, config=self.config)
        found.save(self.folder)
        console().print(found.screen())
        kept(found, found.plot(), self.folder)


@dataclass(frozen=True)
class Words(OfRun):
    """Show the words that belong to a run's best neurons, by weight and by activation."""

    split: Literal["train", "dev", "test"] = "train"
    """The samples over which activations are averaged."""
    least: int = 5
    """How often a word must occur."""

    def run(self) -> None:
        """Read, show, keep."""
        from ..evidence.words import words

        model, skill = self.read()
        found = words(model, skill, split=self.split, least=self.least)
        found.save(self.folder)
        console().print(found.screen())
        kept(found, found.plot(), self.folder)


@dataclass(frozen=True)
class Origins:
    """Find neurons under tuned, random and hard prompts and in a random model, side by side."""

    model: Annotated[Positional[str], tyro.conf.arg(metavar="MODEL")]
    """Hub id, local folder, or miniature."""
    task: Annotated[Positional[str], tyro.conf.arg(metavar="TASK")]
    """Name in the catalogue, miniature/NAME, or path of a task file."""
    out: Path | None = None
    """Folder of the runs; without it runs/TASK-origins."""
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
        from ..evidence.origins import origins
        from ..tasks import load_task

        task = load_task(self.task)
        model = load(self.model, self.device, self.dtype, False, self.sites)
        out = self.out or Path("runs") / f"{task.name}-origins"
        found = origins(model, task, config=self.config, out=out)
        console().print(found.screen())
        kept(found, found.plot(), out)


def tuned_by(by: By, model: Backbone, skill: SkillNeurons, folder: Path) -> list[Tuned]:
    """What answers in the place of a run's prompts, tuned as they were and kept in `folder`; nothing for prompts."""
    from ..tuning.config import AdapterConfig, BitFitConfig
    from ..tuning.tuned import tune_weights

    if by == "prompts":
        return []
    method = AdapterConfig() if by == "adapter" else BitFitConfig()
    return tune_weights(model, skill.task, method, config=skill.config, out=folder / by)


def kept(found: Evidence, ax: Axes, folder: Path) -> None:
    """Save a result's picture, and say where both are."""
    from ..figures import save

    svg, _ = save(ax, folder / "figures" / found.name)
    console().print(f"\nKept in {folder}: {found.name}.json, {svg.relative_to(folder)}.", soft_wrap=True)
