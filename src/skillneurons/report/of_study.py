"""The page of a study: the claims with their verdicts, the figures beside the paper's, then every experiment.

    path = publish(StudyResult.load("runs/mine"))          # runs/mine/report.html

All that it shows is in the study's folder. The same folder gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from ..config import explain
from ..errors import SkillNeuronsError
from ..finding import show
from ..finding.run import Run
from ..study.config import EXPERIMENTS, StudyConfig
from ..study.drawing import Section as Drawn
from ..study.result import NAME, StudyResult
from .claims import outcome, told
from .command import command, of_experiment
from .neurons import Finding, Neurons, words_of
from .page import Figure, Page, Section, Table, write
from .svg import inlined

PAPER = ("task", "figure", "here", "95 % interval", "paper", "difference", "95 % interval")
FINDINGS = ("task", "prompt", "paper", "best neurons", "95 % interval", "paper", "commonest label", "top neuron")


def publish(result: StudyResult) -> Path:
    """Write the page of a study into its folder; returns it.

    Raises `SkillNeuronsError` where the folder is of another version, lacks files, or cannot be written.
    """
    try:
        study = StudyConfig.model_validate(result.about)
    except ValidationError as error:
        raise explain(error, f"{result.folder / NAME} is of another version, or no study's") from None
    names = [name.removeprefix("rank/") for name, step in result.steps.items() if step["kind"] == "rank"]
    whole = command("study", f"{study.name}.toml")
    sections = tuple(_section(result, own, (whole, *of_experiment(study, own.experiment, names)))
                     for own in result.sections)  # fmt: skip
    findings = _table(result, "findings")
    model = Path(study.model.source).name if Path(study.model.source).is_absolute() else study.model.source
    counted = f"{study.tuning.trials} trial{'s' if study.tuning.trials > 1 else ''}"
    page = Page(
        f"{study.name}: a study of skill neurons",
        f"{model} on {', '.join(names)}: {counted} each, prompts of {study.tuning.positions}",
        doubts=tuple(_doubts(result, study)), claims=tuple(told(result.sections, findings)),
        tables=() if findings is None else (_worth(findings, _table(result, "findings-paper")),),
        sections=sections, neurons=_neurons(result, names), commands=(whole,),
    )  # fmt: skip
    return write(page, result.folder)


def _section(result: StudyResult, own: Drawn, commands: tuple[str, ...]) -> Section:
    verdicts = tuple((task, said, outcome(said)) for task, said in own.verdicts)
    figures = []
    for name in own.figures:
        svg = _read(result, name)
        figures.append(Figure(own.title, inlined(svg, name, own.title)))
    tables = [
        _beside(table) if name.endswith("-paper") else Table.of(f"All numbers: tables/{name}.csv", table)
        for name in reversed(own.tables)
        if (table := _table(result, name)) is not None
    ]
    return Section(own.experiment, own.title, verdicts, tuple(figures), tuple(tables), commands)


def _read(result: StudyResult, name: str) -> str:
    path = result.figure(name)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SkillNeuronsError(f"{path} cannot be read: {error}. Run the study again, which writes it anew.") from None


def _table(result: StudyResult, name: str) -> pd.DataFrame | None:
    """A table of the study, if it has it."""
    if not any(name in own.tables for own in result.sections):
        return None
    try:
        return result.table(name)
    except (OSError, ValueError) as error:
        raise SkillNeuronsError(
            f"the table {name} of {result.folder} cannot be read: {error}. Run the study again, which writes it anew."
        ) from None


def _worth(findings: pd.DataFrame, paper: pd.DataFrame | None) -> Table:
    """The most important figures: a row a task, the paper's beside them."""
    published = {} if paper is None else {
        (row["task"], row["figure"]): _value(row["figure"], row["paper"]) for row in paper.to_dict("records")
    }  # fmt: skip
    rows = [
        (
            str(row["task"]), show.percent(row["prompt"]), published.get((row["task"], "prompt"), ""),
            show.percent(row["neurons"]), show.interval({"low": row["neurons_low"], "high": row["neurons_high"]}),
            published.get((row["task"], "neurons"), ""), show.percent(row["majority"]),
            f"{row['layer']}.{row['neuron']}",
        )
        for row in findings.to_dict("records")
    ]  # fmt: skip
    shown = [place for place, name in enumerate(FINDINGS) if name != "paper" or published]
    columns, *cells = [tuple(own[place] for place in shown) for own in (FINDINGS, *rows)]
    return Table("What was found, on test", columns, tuple(cells))


def _beside(table: pd.DataFrame) -> Table:
    """Our figures beside the paper's, with the difference."""
    rows = []
    for row in table.to_dict("records"):
        name = row["figure"]
        spread = "" if pd.isna(row["paper_std"]) else f" ± {_value(name, row['paper_std'])}"
        rows.append(
            (
                str(row["task"]), str(name), _value(name, row["value"]), _span(name, row["low"], row["high"]),
                _value(name, row["paper"]) + spread, _value(name, row["difference"], "+"),
                _span(name, row["difference_low"], row["difference_high"], "+"),
            )
        )  # fmt: skip
    return Table("Beside the paper's figures (accuracies in per cent)", PAPER, tuple(rows))


def _value(figure: str, value: float, sign: str = "") -> str:
    """A share in per cent (a difference in points), a correlation as it is."""
    return f"{value:{sign}.2f}" if "correlation" in figure else f"{100 * value:{sign}.1f}"


def _span(figure: str, low: float, high: float, sign: str = "") -> str:
    return "" if pd.isna(low) or pd.isna(high) else f"{_value(figure, low, sign)} to {_value(figure, high, sign)}"


def _doubts(result: StudyResult, study: StudyConfig) -> Iterator[str]:
    """What failed and what is missing."""
    for name, reason in result.failed.items():
        needing = sum(own["reason"] == name for own in result.steps.values())
        lost = f" {needing} steps that need it were skipped." if needing else ""
        yield f"{name} failed: {reason}{lost}"
    drawn = {own.experiment for own in result.sections}
    if missing := [name for name in study.chosen if name not in drawn]:
        yield f"Not there, for steps that failed or were left out: {', '.join(missing)}."
    if unasked := [name for name in EXPERIMENTS if name not in study.chosen]:
        yield f"Not tried: {', '.join(unasked)}."


def _neurons(result: StudyResult, names: Sequence[str]) -> Neurons | None:
    """What can be looked up: the findings of the tasks that have one."""
    findings = [_finding(result.run(name)) for name in names if result.run(name).is_dir()]
    words = _table(result, "words")
    told: Sequence[Mapping[str, Any]] = [] if words is None else words_of(words)
    return Neurons.of(findings, told) if findings else None


def _finding(folder: Path) -> Finding:
    run = Run(folder)
    return Finding(run.read(), run.read_neurons().to_pandas())
