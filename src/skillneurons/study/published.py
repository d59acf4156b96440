"""The paper's own figures, and a study's beside them (Tables 1, 3 and 4, sections 4.4 and 6.2).

    beside_paper("findings", ["sst2"], [skill])       # a row for every figure that the paper has, too
    PUBLISHED["prune"]["sst2"]["pruned"]              # 0.893, its standard deviation 0.020

Tasks are compared by their names in the catalogue. `difference` is ours less the paper's; its 95 % interval takes our
interval over samples and the paper's standard deviation over five trials for independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np
import pandas as pd

from ..finding.skill import SkillNeurons

TASKS = ("sst2", "imdb", "tweet", "mnli", "qnli", "ag_news", "dbpedia")
ALL = "all tasks"
TRIALS = 5
Figure = tuple[float, float | None]
"""A value with its standard deviation over trials, as shares."""


def _table(**columns: str) -> dict[str, dict[str, Figure]]:
    """Columns of per cents, one entry a task, `value` or `value±std`."""
    found: dict[str, dict[str, Figure]] = {task: {} for task in TASKS}
    for name, entries in columns.items():
        for task, entry in zip(TASKS, entries.split(), strict=True):
            value, _, std = entry.partition("±")
            found[task][name] = _share(value), _share(std) if std else None
    return found


def _share(per_cent: str) -> float:
    return round(float(per_cent) / 100, 4)


PUBLISHED: Mapping[str, Mapping[str, Mapping[str, Figure]]] = {
    "findings": _table(
        prompt="91.8±0.5 91.6±0.5 70.0±0.2 76.8±1.8 85.7±0.7 98.8±0.1 99.7±0.1",
        neurons="91.6±0.3 92.0±0.4 56.0±3.2 74.7±2.5 86.0±0.4 98.9±0.1 99.8±0.1",
    ),
    "origins": _table(
        **{
            "random guess": "50.0 50.0 33.3 33.3 50.0 50.0 50.0",
            "random model": "52.8±0.4 58.0±0.7 48.3±0.0 32.2±0.4 54.3±0.8 62.7±0.3 60.9±0.4",
            "random prompts": "78.1±0.4 76.7±2.0 48.2±1.8 39.8±1.1 69.5±0.5 96.0±0.3 98.8±0.1",
            "hard prompts": "83.3 75.1 48.6 40.5 65.2 95.9 99.2",
        }
    ),
    "prune": _table(pruned="89.3±2.0 87.6±3.0 69.0±0.9 70.0±1.1 81.0±1.0 99.8±0.1 99.0±0.1"),
    "label-words": {ALL: {"correlation of random label words": (0.87, None)}},
    "transfer": {ALL: {"correlation, all neurons": (0.53, None), "correlation, skill neurons": (0.71, None)}},
}


def beside_paper(experiment: str, labels: Sequence[str], found: Sequence[Any]) -> pd.DataFrame:
    """One row per (task, figure) that the paper has too; empty where there is none.

    Columns: task, figure, value, low, high (95 %), paper, paper_std, difference, difference_low, difference_high.
    """
    published, rows = PUBLISHED.get(experiment, {}), []
    for task, figure, value, low, high in _figures(experiment, labels, found):
        if figure not in published.get(task, {}):
            continue
        paper, std = published[task][figure]
        error = 1.96 * (std or 0.0) / sqrt(TRIALS)
        difference = value - paper
        rows.append(
            {
                "task": task, "figure": figure, "value": value, "low": low, "high": high, "paper": paper,
                "paper_std": std, "difference": difference,
                "difference_low": difference - np.hypot(value - low, error),
                "difference_high": difference + np.hypot(high - value, error),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def worth(skill: SkillNeurons) -> dict[str, Any]:
    """What a finding is worth on test: the prompts, and the neurons as Table 1 has them; shares with 95 % intervals.

    The neurons of a task of two labels are its best one; of more, a logistic regression on each subtask's best one,
    whose interval is a normal one over trials' mean and as many samples.
    """
    results, tested = skill.results, skill.tested
    prompts = np.array(results["prompt_accuracy"])
    top = results["top_neuron"]
    neurons, low, high, std = top["test_accuracy"], top["low"], top["high"], None
    if "neurons_accuracy" in results:
        each = np.array(results["neurons_accuracy"])
        neurons = float(each.mean())
        std = float(each.std(ddof=1)) if len(each) > 1 else None
        reach = 1.96 * sqrt(neurons * (1 - neurons) / len(tested.labels))
        low, high = neurons - reach, neurons + reach
    return {
        "task": skill.about["task"], "kind": skill.about["kind"], "labels": len(skill.about["labels"]),
        "majority": skill.about["majority"],
        "prompt": float(prompts.mean()), "prompt_std": float(prompts.std(ddof=1)) if len(prompts) > 1 else None,
        "prompt_low": results["prompt_interval"]["low"], "prompt_high": results["prompt_interval"]["high"],
        "neurons": neurons, "neurons_std": std, "neurons_low": low, "neurons_high": high,
        "layer": top["layer"], "neuron": top["neuron"], "predictivity": top["predictivity"],
    }  # fmt: skip


def _figures(
    experiment: str, labels: Sequence[str], found: Sequence[Any]
) -> Iterator[tuple[str, str, float, float, float]]:
    """What a study has of the paper's figures: task, figure, value, and its 95 % interval."""
    for task, own in zip(labels, found, strict=True):
        if experiment == "findings":
            row = worth(own)
            for name in ("prompt", "neurons"):
                yield task, name, row[name], row[f"{name}_low"], row[f"{name}_high"]
        elif experiment == "origins":
            rows = own.table()
            for row in rows[(rows["subtask"] == task) & rows["accuracy"].notna()].to_dict("records"):
                value = row["accuracy"]
                low, high = (value if pd.isna(row[name]) else row[name] for name in ("low", "high"))
                yield task, row["origin"], value, low, high
        elif experiment == "prune":
            rows = own.means()
            for row in rows[rows["retuned"]].to_dict("records"):
                yield task, "pruned", row["test"], row["low"], row["high"]
        elif experiment == "transfer":
            for name, indicator in (("all", "on"), ("skill", "on_restricted")):
                told = own.indicator(indicator)
                yield ALL, f"correlation, {name} neurons", told.correlation, told.low, told.high
    if experiment == "label-words":
        tables = [own.table() for own in found]
        means = [table.loc[table["pairs"] == "random words", "correlation"].mean() for table in tables]
        value = float(np.mean(means))
        reach = 1.96 * float(np.std(means, ddof=1)) / sqrt(len(means)) if len(means) > 1 else np.nan
        yield ALL, "correlation of random label words", value, value - reach, value + reach
