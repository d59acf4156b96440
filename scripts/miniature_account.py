"""What the miniature shows: prompt tuning and skill neurons on its seven tasks, written to `docs/miniature.md`.

    python scripts/miniature_account.py                  # runs whatever is not there yet, then writes the page
    python scripts/miniature_account.py --page-only      # writes the page anew from docs/miniature.json

Each task is gone through in three ways, five trials each: with tuned prompts; with random, untuned ones; and with
tuned prompts on the same model with random weights. The runs are kept in `--runs`; a killed account goes on there.
The figures are kept in `docs/miniature.json`, the page is made from them, from `training.json` and from
`miniature_page.md`.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import tyro
from miniature_figures import table

from skillneurons import SkillNeurons, find
from skillneurons.files import read_json, replacing, write_json
from skillneurons.models import load_model
from skillneurons.models.loading import MINIATURE
from skillneurons.tasks.miniature import GENRES, KINDS, miniature_task
from skillneurons.tuning.config import TuneConfig

DOCS = Path(__file__).resolve().parents[1] / "docs"
TEMPLATE = Path(__file__).with_name("miniature_page.md")

Way = Literal["tuned", "random prompt", "random model"]
Record = dict[str, Any]

CONFIG = TuneConfig.preset("quick", trials=5, positions=16, steps=200, evaluate_every=50, lr=0.006)
WAYS: Mapping[Way, TuneConfig] = {
    "tuned": CONFIG,
    "random prompt": CONFIG.model_copy(update={"prompt": "random"}),
    "random model": CONFIG,
}


def account(runs: Path) -> Record:
    """The figures of every task in every way; runs that are there already are read."""
    models = {random: load_model("miniature", random_weights=random) for random in (False, True)}
    tasks: Record = {}
    for name in GENRES:
        task = miniature_task(name)
        tasks[name] = {"kind": task.kind, "labels": len(task.labels), "majority": task.majority("test"), "ways": {}}
        for way, config in WAYS.items():
            skill = find(models[way == "random model"], task, config=config, out=runs / way.replace(" ", "-") / name)
            tasks[name]["ways"][way] = record(skill)
    return {"model": models[False].fingerprint, "config": CONFIG.model_dump(mode="json"), "tasks": tasks}


def record(skill: SkillNeurons) -> Record:
    """One run's figures, to four digits: prompts on test, the top neuron of each subtask, the median neuron."""
    results, ranked = skill.about["results"], skill.table()
    neurons = {
        own["subtask"]: {key: round(own[key], 4) for key in ("predictivity", "test_accuracy", "low", "high")}
        | {"median": round(float(ranked[ranked["subtask"] == own["subtask"]]["predictivity"].median()), 4)}
        for own in results["top_neurons"]
        if own["rank"] == 1
    }
    found = {"prompt": [round(value, 4) for value in results["prompt_accuracy"]], "neurons": neurons}
    if "neurons_accuracy" in results:
        found["together"] = [round(value, 4) for value in results["neurons_accuracy"]]
    return found


def page(figures: Record, log: Record) -> str:
    """The page `docs/miniature.md`."""
    tasks = figures["tasks"]
    return TEMPLATE.read_text(encoding="utf-8").format(
        **log["config"],
        **{f"account_{name}": value for name, value in figures["config"].items()},
        parameters=log["parameters"],
        vocabulary=log["vocabulary"],
        examples=_examples(),
        learned=table(log["bounds"], log["evaluations"][-1]["genres"]),
        prompts=_prompts(tasks),
        neurons=_neurons(tasks),
        medians=_medians(tasks),
    )


def _examples() -> str:
    lines = ["| task | kind | a text of it | label | label word |", "|---|---|---|---|---|"]
    for kind, names in KINDS.items():
        for name in names:
            task = miniature_task(name)
            row = task.train.rows[0]
            label = task.labels[row["label"]]
            text = "<br>".join(row[column] for column in task.text)
            lines.append(f"| `{name}` | {kind} | {text} | {label} | {task.words[label]} |")
    return "\n".join(lines)


def _prompts(tasks: Record) -> str:
    def several(values: list[float]) -> str:
        return f"{statistics.mean(values):.1%} ± {statistics.stdev(values):.1%}"

    lines = ["| task | majority | tuned prompts | random prompts | random model, tuned |", "|---|---|---|---|---|"]
    for name, task in tasks.items():
        cells = [f"{task['majority']:.1%}", *(several(task["ways"][way]["prompt"]) for way in WAYS)]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _neurons(tasks: Record) -> str:
    def told(way: Record, subtask: str) -> str:
        return "{test_accuracy:.1%} ({low:.1%}-{high:.1%})".format(**way["neurons"][subtask])

    def together(way: Record, subtask: str) -> str:
        return f"{statistics.mean(way['together']):.1%}"

    def line(name: str, task: Record, subtask: str, chance: str, cell: Callable[[Record, str], str]) -> str:
        cells = [cell(task["ways"][way], subtask) for way in WAYS]
        return f"| {' | '.join([f'`{name}`', subtask, chance, *cells])} |"

    lines = [
        "| task | top neuron for | chance | tuned prompts | random prompts | random model, tuned |",
        "|---|---|---|---|---|---|",
    ]
    for name, task in tasks.items():
        subtasks = task["ways"]["tuned"]["neurons"]
        chance = f"{task['majority']:.1%}" if len(subtasks) == 1 else "50.0%"
        lines += [line(name, task, own, chance, told) for own in subtasks]
        if len(subtasks) > 1:
            lines.append(line(name, task, "all labels, one neuron a subtask", f"{task['majority']:.1%}", together))
    return "\n".join(lines)


def _medians(tasks: Record) -> str:
    lines = [
        "| task | of | top, median: tuned prompts | random prompts | random model, tuned |",
        "|---|---|---|---|---|",
    ]
    for name, task in tasks.items():
        for own in task["ways"]["tuned"]["neurons"]:
            cells = [
                "{predictivity:.3f}, {median:.3f}".format(**task["ways"][way]["neurons"][own]) for way in WAYS
            ]  # fmt: skip
            lines.append(f"| `{name}` | {own} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(runs: Path = Path("runs/miniature"), page_only: bool = False) -> None:
    """Account for the miniature's seven tasks and write the page."""
    figures = DOCS / "miniature.json"
    if not page_only:
        write_json(figures, account(runs))
    log = json.loads((MINIATURE / "training.json").read_text(encoding="utf-8"))
    with replacing(DOCS / "miniature.md") as temporary:
        temporary.write_text(page(read_json(figures, "Run the account first."), log), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
