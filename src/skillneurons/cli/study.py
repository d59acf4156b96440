"""The commands of studies: study, evidence, store."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from pydantic import ValidationError
from tyro.conf import Positional

from ..config import explain
from ..errors import SkillNeuronsError
from ..evidence.config import PerturbConfig, SteerConfig
from ..tuning.config import TuneConfig
from ..units import in_bytes
from .common import Dtype, console

if TYPE_CHECKING:
    from ..study.config import StudyConfig
    from ..study.store import Store as Kept

STORE = "runs/store"
SPREADS = {"edit": "noise", "std": 1.0, "relative": True}
"""The noise that stands beside one of the same size for all neurons: each neuron's own spread."""


@dataclass(frozen=True)
class Ray:
    """Where the engine ray runs, and what a step takes."""

    address: str | None = None
    """Of the cluster; auto: the one this machine belongs to; without it, one is started here."""
    cpus: float = 1
    """CPUs of a step, and its threads."""
    gpus: float = 0
    """GPUs of a step; a half lets two steps share one."""


@dataclass(frozen=True)
class Study:
    """Run a study from its file: do what is missing, write its tables, figures and page."""

    file: Annotated[Positional[Path], tyro.conf.arg(metavar="FILE")]
    """The study file."""
    out: Path | None = None
    """Folder of tables and figures; without it runs/NAME, by the study's name."""
    store: str = STORE
    """Folder, or any address that fsspec knows, of what the steps give; a step is done once for all studies there."""
    dry_run: bool = False
    """Show what would be done, what is there already and what it will cost, and do nothing."""
    rate: float | None = None
    """For the price: multiplications with additions a second, in 1e12, of the machine; without it, measured here."""
    engine: Literal["local", "ray"] = "local"
    """On this machine, or on a Ray cluster."""
    workers: int | None = None
    """Processes that share the steps of the engine local; without it one a core for a small model on a CPU."""
    ray: Ray = field(default_factory=Ray)
    assets: Path | None = None
    """The folder that {assets} stands for in the file; without it, SKILLNEURONS_ASSETS."""
    device: str = "auto"
    """Where to run: auto, cpu, cuda, cuda:1 ..."""
    quiet: bool = False
    """No progress and no remarks."""

    def run(self) -> None:
        """Price, or do, show, and end with status 1 where a step failed."""
        terminal = console()
        if self.dry_run:
            from ..study.price import price

            priced = price(self.file, store=self.store, assets=self.assets, device=self.device, rate=self.rate)
            terminal.print(priced.screen())
            return
        from ..report.of_study import publish
        from ..study.on_ray import Place
        from ..study.study import run_study

        found = run_study(
            self.file, store=self.store, out=self.out, engine=self.engine, workers=self.workers, device=self.device,
            assets=self.assets,
            place=Place.make(address=self.ray.address, cpus=self.ray.cpus, gpus=self.ray.gpus),
        )  # fmt: skip
        terminal.print(found.screen())
        terminal.print(f"To look at: {publish(found)}", soft_wrap=True)
        if found.failed:
            sys.exit(1)


@dataclass(frozen=True)
class Everything:
    """Run every experiment of the evidence on several tasks, side by side: a study, whose file it writes."""

    model: Annotated[Positional[str], tyro.conf.arg(metavar="MODEL")]
    """Hub id, local folder, or miniature."""
    tasks: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="TASK")]
    """Names in the catalogue, miniature/NAME, or paths of task files; miniature stands for its seven."""
    out: Path = Path("runs/evidence")
    """Folder of everything; the same command goes on with it after a kill."""
    preset: Literal["paper", "quick"] = "paper"
    """Where the other options start from."""
    config: Annotated[TuneConfig, tyro.conf.arg(name="")] = field(default_factory=TuneConfig)
    perturb: PerturbConfig = field(default_factory=PerturbConfig)
    steer: SteerConfig = field(default_factory=SteerConfig)
    workers: int | None = None
    """Processes that share the steps; without it one a core for a small model on a CPU."""
    device: str = "auto"
    """Where to run: auto, cpu, cuda, cuda:1 ..."""
    dtype: Dtype = "float32"
    """Number format of the model."""
    sites: str | None = None
    """The down-projections' path with {layer}, for a model whose FFNs are not found."""
    quiet: bool = False
    """No progress and no remarks."""

    def run(self) -> None:
        """Write the study's file, run it."""
        from ..files import replacing
        from ..study.config import as_file

        text, file = as_file(self.study()), self.out / "study.toml"
        with replacing(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
        Study(file, self.out, str(self.out / "store"), workers=self.workers, device=self.device).run()

    def study(self) -> StudyConfig:
        """The study of these options.

        Raises `SkillNeuronsError` where they do not fit, such as a single task, whose order stands beside none.
        """
        from ..study.config import EVIDENCE, ModelSection, StudyConfig, placed
        from ..tasks.miniature import MINIATURE_TASKS

        tasks = [
            name
            for given in self.tasks
            for name in ([f"miniature/{own}" for own in MINIATURE_TASKS] if given == "miniature" else [given])
        ]
        here, perturb = Path.cwd(), self.perturb
        left = set() if self.config.trials > 1 else {"stability"}
        if relative := perturb.relative and perturb.edit == "noise":
            left |= {"perturbation", "importance"}  # which would be the same once more
        try:
            return StudyConfig(
                name=re.sub(r"[^\w-]", "-", self.out.resolve().name),
                model=ModelSection(source=placed(self.model, here), dtype=self.dtype, sites=self.sites),
                tasks=tuple(placed(name, here) for name in tasks), tuning=self.config,
                experiments=tuple(own for own in EVIDENCE if own not in left), perturbation=perturb,
                perturbation_relative=perturb if relative else perturb.model_copy(update=SPREADS),
                steering=self.steer,
            )  # fmt: skip
        except ValidationError as error:
            raise explain(error, "these options do not fit") from None


@dataclass(frozen=True)
class Store:
    """Look after a store: ls shows what it holds, verify reads everything again, gc removes what no study needs."""

    what: Annotated[Positional[Literal["ls", "verify", "gc"]], tyro.conf.arg(metavar="ls|verify|gc")]
    """What to do."""
    store: str = STORE
    """Folder, or any address that fsspec knows."""
    forget: tuple[str, ...] = ()
    """For gc: studies whose outputs are needed no more."""

    def run(self) -> None:
        """Do it; verify ends with status 1 where something is wrong."""
        from ..study.store import Store as Kept

        if self.forget and self.what != "gc":
            raise SkillNeuronsError(f"--forget is for gc; given: {self.what}. Leave it out.")
        kept = Kept(self.store)
        {"ls": self._list, "verify": self._verify, "gc": self._sweep}[self.what](kept)

    def _list(self, kept: Kept) -> None:
        from rich.table import Table

        receipts = {own.key: own for own in kept.receipts()}
        needed = {key: study for study, keys in kept.studies().items() for key in keys.values()}
        grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("key", "step", "size", "of study"):
            grid.add_column(column, justify="right" if column == "size" else "left", no_wrap=True)
        for own in sorted(receipts.values(), key=lambda own: str(own.about.get("name"))):
            grid.add_row(own.key[:12], str(own.about.get("name")), in_bytes(own.size), needed.get(own.key, ""))
        console().print(grid)
        files = {checksum: size for own in receipts.values() for size, checksum in own.files.values()}
        console().print(f"{len(receipts)} outputs, {in_bytes(sum(files.values()))}, in {kept.address}", soft_wrap=True)
        for study, keys in kept.studies().items():
            there = sum(key in receipts for key in keys.values())
            console().print(f"{study}: {there} of {len(keys)} steps are there", soft_wrap=True)

    def _verify(self, kept: Kept) -> None:
        found = dict(kept.verify())
        wrong = {key: what for key, what in found.items() if what}
        for key, what in wrong.items():
            console().print(f"{key[:12]}: {what}; withdrawn, the next study makes it anew", soft_wrap=True)
        console().print(f"{len(found) - len(wrong)} of {len(found)} outputs are as they were written", soft_wrap=True)
        if wrong:
            sys.exit(1)

    def _sweep(self, kept: Kept) -> None:
        for study in self.forget:
            kept.forget(study)
        count, size = kept.sweep()
        console().print(f"removed: {count} outputs, {in_bytes(size)}", soft_wrap=True)
