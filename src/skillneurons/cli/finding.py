"""The commands that find skill neurons and show them: demo, find, neuron, compare, inspect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional

from ..finding.nulls.config import NullConfig
from ..progress import say
from ..tuning.config import TuneConfig
from ..units import in_bytes
from .common import Dtype, console, load, of_run

if TYPE_CHECKING:
    from ..finding.skill import SkillNeurons
    from ..models import Backbone


@dataclass(frozen=True)
class Find:
    """Find the skill neurons of a model for a task."""

    model: Annotated[Positional[str], tyro.conf.arg(metavar="MODEL")]
    """Hub id, local folder, or miniature."""
    task: Annotated[Positional[str], tyro.conf.arg(metavar="TASK")]
    """Name in the catalogue, miniature/NAME, or path of a task file."""
    out: Path | None = None
    """Folder of the run; without it runs/TASK. The same command goes on with it after a kill."""
    preset: Literal["paper", "quick"] = "paper"
    """Where the other options start from: the paper's, or minutes on two cores."""
    config: Annotated[TuneConfig, tyro.conf.arg(name="")] = field(default_factory=TuneConfig)
    nulls: Annotated[NullConfig, tyro.conf.arg(name="")] = field(default_factory=NullConfig)
    peers: bool = False
    """Other orders of the neurons beside: area under ROC, gradients, linear probes, pooled activations ..."""
    pictures: bool = True
    """Draw the run's pictures and its page."""
    device: str = "auto"
    """Where to run: auto, cpu, cuda, cuda:1 ..."""
    dtype: Dtype = "float32"
    """Number format of the model; statistics are kept in float32 and float64."""
    random_weights: bool = False
    """The same model with weights drawn anew from its configuration."""
    sites: str | None = None
    """The down-projections' path with {layer}, for a model whose FFNs are not found."""
    quiet: bool = False
    """No progress and no remarks."""

    def run(self) -> None:
        """Find, then show."""
        from ..finding.find import find
        from ..tasks import load_task

        task = load_task(self.task)
        model = load(self.model, self.device, self.dtype, self.random_weights, self.sites)
        out = self.out or Path("runs") / task.name
        say(f"{task.name}: {_sizes(task.sizes)}; limits are {_limits(self.config)}.")
        skill = find(model, task, config=self.config, out=out)
        _hold(model, skill, self.nulls, self.peers, self.pictures)
        _show(skill)


@dataclass(frozen=True)
class Neuron:
    """Show what a neuron of a run does: the texts it fires for, how often by label, or its activation by token."""

    folder: Annotated[Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    layer: Annotated[Positional[int], tyro.conf.arg(metavar="LAYER")]
    """The neuron's layer, from 0, layer 0 next to the input."""
    neuron: Annotated[Positional[int], tyro.conf.arg(metavar="NEURON")]
    """The neuron's number in its layer, from 0."""
    text: tuple[str, ...] = ()
    """Show its activation at every token of this text instead; two texts where the task has pairs."""
    split: Literal["train", "dev", "test"] = "dev"
    """The samples that it is read on."""
    trial: int = 0
    """The trial whose prompt it is read with, from 0."""
    most: int = 5
    """Texts shown of either end."""
    subtask: str | None = None
    """The subtask that it is read for; without it, the one that it ranks best in."""
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

    def run(self) -> None:
        """Read the run, load its model, show."""
        from ..finding.portraits.by_token import by_token
        from ..finding.portraits.portrait import portrait
        from ..finding.skill import SkillNeurons
        from ..finding.standing import refuse_trial, standings

        skill = SkillNeurons.load(self.folder)
        refuse_trial(skill, self.trial)  # what is wrong is told before a model is loaded
        standings(skill, [(self.layer, self.neuron)], self.subtask)
        model, skill = of_run(skill, self.model, self.task, self.device, self.sites)
        if self.text:
            seen = by_token(model, skill, self.text, self.layer, self.neuron, self.trial, subtask=self.subtask)
            console().print(seen.screen())
        else:
            own = portrait(
                model, skill, self.layer, self.neuron, split=self.split, trial=self.trial, most=self.most,
                subtask=self.subtask,
            )  # fmt: skip
            console().print(own.screen())


@dataclass(frozen=True)
class Compare:
    """Show how alike runs of one model rank its neurons, beside what chance gives."""

    runs: Annotated[Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN")]
    """Folders of the runs, two at least."""
    fraction: float = 0.01
    """The share of the neurons that is the top."""

    def run(self) -> None:
        """Read the runs, show."""
        from ..finding.agreement import compare
        from ..finding.skill import SkillNeurons

        console().print(compare(*map(SkillNeurons.load, self.runs), fraction=self.fraction).screen())


@dataclass(frozen=True)
class Inspect:
    """Show where a model's neurons are, how many, and what scoring will cost in memory."""

    model: Annotated[Positional[str], tyro.conf.arg(metavar="MODEL")]
    """Hub id, local folder, or miniature."""
    positions: int = 127
    """Prompt tokens."""
    labels: int = 2
    """Labels of the task."""
    subtasks: int = 1
    """Binary splits of the labels: 1 for two labels, else by default one a label."""
    device: str = "auto"
    """Where to run."""
    dtype: Dtype = "float32"
    """Number format of the model."""
    sites: str | None = None
    """The down-projections' path with {layer}, for a model whose FFNs are not found."""

    def run(self) -> None:
        """Load the model and print its sites."""
        from rich.table import Table

        from ..finding.statistics import scoring_bytes

        model = load(self.model, self.device, self.dtype, False, self.sites)
        terminal = console()
        weights = sum(parameter.numel() * parameter.element_size() for parameter in model.model.parameters())
        grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        grid.add_column("layer", justify="right")
        grid.add_column("neurons", justify="right")
        grid.add_column("they are the input of")
        for site in model.sites:
            grid.add_row(str(site.layer), str(site.width), site.path)
        terminal.print(f"{model.name}: {type(model.model).__name__}, {model.kind}", style="bold")
        terminal.print(grid)
        kept = scoring_bytes(
            model.widths, self.positions, self.labels, self.subtasks, self.dtype in ("bfloat16", "float16")
        )
        longest = "no bound" if model.longest is None else str(model.longest)
        facts = {
            "neurons": f"{model.neurons} in {model.layers} layers",
            "longest sequence": f"{longest} (prompt and input together)",
            "embedding": f"{model.embedding_size} wide, entries of {model.embedding_scale:.3g} (root mean square)",
            "weights": in_bytes(weights),
            "scoring": f"{in_bytes(kept)} of statistics with {self.positions} positions, {self.labels} labels, "
            f"{self.subtasks} subtask{'s' if self.subtasks > 1 else ''}, whatever the number of samples",
        }
        for name, fact in facts.items():
            terminal.print(f"{name:>17}  {fact}", highlight=False)


@dataclass(frozen=True)
class Demo:
    """Find the skill neurons of the embedded miniature on three of its tasks: offline, about three minutes."""

    out: Path = Path("runs/demo")
    """Folder of the runs; an earlier demo there is replaced."""
    quiet: bool = False
    """No progress and no remarks."""

    def run(self) -> None:
        """Find on each task, hold it against the nulls, show."""
        import shutil

        import torch

        from ..finding.find import find
        from ..models import load_model
        from ..tasks import load_task

        terminal = console()
        torch.set_num_threads(1)  # so small a model is slower on several, which wait for each other
        model = load_model("miniature")
        for name in DEMO_TASKS:
            task = load_task(f"miniature/{name}")
            folder = self.out / name
            if (folder / "run.json").exists():
                shutil.rmtree(folder)
            row = task.train.rows[0]
            say(f"{name}: {_sizes(task.sizes)}, for example: {' / '.join(row[column] for column in task.text)!r}")
            skill = find(model, task, config=DEMO, out=folder)
            _hold(model, skill, DEMO_NULLS)
            _show(skill)
            terminal.print()
        terminal.print("Next, with a model and a task of yours:", highlight=False)
        terminal.print("  skillneurons find MODEL TASK --preset quick --trials 3 --out runs/mine", highlight=False)


DEMO = TuneConfig.preset("quick", trials=3, positions=16, steps=200, evaluate_every=50, lr=0.006)
DEMO_NULLS = NullConfig(permutations=100, null="random-model")
DEMO_TASKS = ("films", "statements", "news")


def _hold(model: Backbone, skill: SkillNeurons, config: NullConfig, peers: bool = False, pictures: bool = True) -> None:
    """Hold a finding against its nulls, and put its peers beside it; then its pictures and its page."""
    from ..finding.nulls.nulls import nulls

    assert skill.folder is not None
    nulls(model, skill, config=config)
    if peers and skill.peers is None:
        from ..finding.peers.peers import peers as put

        put(model, skill, memory=config.memory).save(skill.folder)
    if pictures:
        from ..report.of_run import publish

        publish(skill)


def _show(skill: SkillNeurons) -> None:
    from ..finding.show import screen
    from ..report.of_run import FIGURES
    from ..report.page import PAGE

    assert skill.folder is not None
    terminal = console()
    terminal.print()
    terminal.print(screen(skill.about, skill.nulls, skill.agreement, skill.peers))
    minutes, seconds = divmod(round(sum(skill.log.get("seconds", {}).values())), 60)
    took = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    here = Path.cwd()
    folder = skill.folder.relative_to(here) if skill.folder.is_relative_to(here) else skill.folder
    look = f" To look at: {folder / PAGE}, pictures in {folder / FIGURES}." if (skill.folder / PAGE).exists() else ""
    terminal.print(f"\nFound in {took}, kept in {folder}.{look}", soft_wrap=True)


def _limits(config: TuneConfig) -> str:
    limits = {"train": config.train_limit, "dev": config.dev_limit, "test": config.test_limit}
    told = [f"{limit} {split}" for split, limit in limits.items() if limit is not None]
    return ", ".join(told) if told else "none"


def _sizes(sizes: Mapping[Literal["train", "dev", "test"], int]) -> str:
    return ", ".join(f"{count} {split}" for split, count in sizes.items())
