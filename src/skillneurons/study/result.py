"""What a study came to, as a folder: tables, figures, what every step became.

    result = publish(study, plan, outcomes, store, "runs/mine")
    result = StudyResult.load("runs/mine")
    result.sections[0].verdicts; result.table("origins"); result.figure("origins")
    result.run("sst2")                                 # the folder of a task's finding, in short

The folder holds `study.json` (all of this in words and keys), `tables/` (CSV and Markdown), `figures/` (SVG and PNG)
and `findings/` (run.json and neurons.parquet of each task); what they were made of stays in the store. Of a study that
is not finished the folder has what is there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from ..errors import SkillNeuronsError
from ..files import inside, read_json, replacing, write_json
from .config import StudyConfig
from .doing import Outcome
from .drawing import Section
from .plan import Plan
from .store import Store

NAME = "study.json"
FORMAT = 1
FINDING = ("run.json", "neurons.parquet")
"""What the folder has of a finding."""


@dataclass(frozen=True)
class StudyResult:
    """A finished study, or what there is of it.

    `about`: the study's file as it was read; `steps`: by name, each step's key, kind, state (`there`, `failed`,
    `skipped`) and, of a failed one, the reason; `sections`: what came of each experiment; `store`: the address of
    the outputs.
    """

    folder: Path
    about: Mapping[str, Any]
    steps: Mapping[str, Mapping[str, Any]]
    sections: tuple[Section, ...]
    store: str

    @property
    def failed(self) -> dict[str, str]:
        """The steps that failed, with their reasons."""
        return {name: own["reason"] for name, own in self.steps.items() if own["state"] == "failed"}

    @property
    def whole(self) -> bool:
        """Whether every step's output is there."""
        return all(own["state"] == "there" for own in self.steps.values())

    def table(self, name: str) -> pd.DataFrame:
        """A table by its name; `<experiment>-paper` has the paper's figures beside ours, where it has some."""
        path = inside(self.folder / "tables", f"{name}.csv")
        return pd.read_csv(path, keep_default_na=False, na_values=[""])  # a word may be "null"

    def figure(self, name: str, form: str = "svg") -> Path:
        """A figure's file, `svg` or `png`."""
        return inside(self.folder / "figures", f"{name}.{form}")

    def run(self, task: str) -> Path:
        """The folder with run.json and neurons.parquet of a task's finding, if it has one."""
        return inside(self.folder / "findings", task)

    def output(self, step: str) -> Path:
        """The folder of a step's output, such as `rank/sst2`: a run, or `curves.json` and its arrays.

        Raises `SkillNeuronsError` where there is none.
        """
        if self.steps.get(step, {}).get("state") != "there":
            there = ", ".join(name for name, own in self.steps.items() if own["state"] == "there")
            raise SkillNeuronsError(f"an output is of a finished step: {there or 'none'}; given: {step!r}.")
        return Store(self.store).fetch(self.steps[step]["key"])

    def screen(self) -> RenderableType:
        """What came of every experiment, what failed, where all is."""
        lines: list[RenderableType] = []
        for section in self.sections:
            lines.append(Text(section.title, style="bold"))
            lines += [Text(f"  {task + ': ' if task else ''}{said}") for task, said in section.verdicts]
        for name, reason in self.failed.items():
            needing = sum(own["reason"] == name for own in self.steps.values())
            lines.append(Text(f"{name} failed, and {needing} steps that need it were skipped: {reason}", style="red"))
        there = sum(own["state"] == "there" for own in self.steps.values())
        steps = f"{there} of {len(self.steps)} steps are there."
        lines.append(Text(f"\n{steps} Kept in {self.folder}: {NAME}, tables, figures, findings."))
        return Group(*lines)

    @classmethod
    def load(cls, folder: str | Path) -> StudyResult:
        """Read what `publish` wrote. Raises `SkillNeuronsError` where it is missing or of another version."""
        remedy = "A study's folder is what `skillneurons study FILE` has written."
        own = read_json(Path(folder) / NAME, remedy)
        if not isinstance(own, dict) or own.get("format") != FORMAT:
            raise SkillNeuronsError(f"{Path(folder) / NAME} is of another version, or no study's. {remedy}")
        try:
            sections = tuple(Section.read(section) for section in own["sections"])
            store = own["store"] if "://" in own["store"] else str((Path(folder) / own["store"]).resolve())
            return cls(Path(folder), own["study"], own["steps"], sections, store)
        except (KeyError, TypeError, ValueError) as error:
            raise SkillNeuronsError(f"{Path(folder) / NAME} is not whole ({error!r}). {remedy}") from error


def publish(
    study: StudyConfig, plan: Plan, outcomes: Mapping[str, Outcome], store: Store, folder: str | Path
) -> StudyResult:
    """Write the folder: what is there of tables and figures, and what became of every step.

    Raises `Spoiled` where an output is not what it should be, and `SkillNeuronsError` where the folder cannot be
    written.
    """
    folder = Path(folder)
    sections: list[Section] = []
    for name, step in plan.steps.items():
        if step.kind not in ("draw", "rank") or not outcomes[name].there:
            continue
        own = store.fetch(plan.keys[name])
        if step.kind == "rank":
            _copy(own, inside(folder / "findings", step.tasks[0]), FINDING)
            continue
        sections.append(Section.load(own))
        for part, names, forms in (
            ("tables", sections[-1].tables, ("csv", "md")), ("figures", sections[-1].figures, ("svg", "png")),
        ):  # fmt: skip
            _copy(own / part, folder / part, [f"{name}.{form}" for name in names for form in forms])
    steps = {
        name: {"key": plan.keys[name], "kind": plan.steps[name].kind, "inputs": list(plan.steps[name].inputs)}
        | {"state": "there" if own.there else own.state, "reason": own.reason}
        for name, own in ((name, outcomes[name]) for name in plan.steps)
    }
    here, address = store.files.folder, store.address
    if here is not None:  # the same words wherever the two folders lie
        here, address = here.resolve(), os.path.relpath(here.resolve(), folder.resolve())
    about = study.model_dump(mode="json", by_alias=True)
    result = StudyResult(folder, about, steps, tuple(sections), str(here or address))
    content = {"format": FORMAT, "study": about, "store": address, "steps": steps}
    write_json(folder / NAME, content | {"sections": [asdict(section) for section in sections]})
    return result


def _copy(source: Path, target: Path, names: Sequence[str]) -> None:
    for name in names:
        with replacing(inside(target, name)) as temporary:
            temporary.write_bytes(inside(source, name).read_bytes())
