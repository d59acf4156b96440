"""Where skill neurons come from: the best neuron under prompts that were never tuned (paper, section 5, Table 3).

    found = origins(model, task, trials=5, out="runs/origins")    # four runs, each in a folder of its own
    found = origins(model, task, skill=skill)                     # the tuned prompts' run is there already
    found.table(); found.plot(); found.verdict

Four findings by the same options: tuned prompts, random prompts, hard prompts, and random prompts in a model whose
weights are drawn; beside them a random guess and the commonest label. A neuron is chosen on dev and its accuracy is
that on test: averaged over trials, `std` over trials, `low` to `high` a 95 % bootstrap interval over samples. `more`
is how much more often, sample by sample, it is right than the random model's. In a subtask both sides weigh the same.
Of a task with several, the neurons together (a logistic regression on each subtask's best) have a row as well, whose
interval is Wilson's for that many samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from scipy.stats import binomtest

from ..errors import SkillNeuronsError
from ..figures import FAINT, INK, drawing, intervals, legend, name_rows, words
from ..finding.find import find
from ..finding.measure import worth
from ..finding.nulls.nulls import redrawn
from ..finding.sides import subtask_sides
from ..finding.skill import SkillNeurons
from ..finding.standing import refuse_foreign
from ..models import Backbone
from ..progress import say
from ..tasks import Task
from ..tuning.config import TuneConfig
from ..tuning.prompt import embed_words, hard_prompts
from .result import Evidence, told
from .verdict import joint, judged, points, verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TUNED, RANDOM, HARD, DRAWN = "tuned prompts", "random prompts", "hard prompts", "random model"
GUESS, MAJORITY = "random guess", "commonest label"
PROMPTS: Mapping[str, Literal["soft", "random", "hard"]] = {TUNED: "soft", RANDOM: "random", HARD: "hard"}


@dataclass(frozen=True, eq=False, repr=False)
class Origins(Evidence):
    """A row for every (origin, subtask); `right.<origin>` [trial, sample, subtask]: when its best neuron was right."""

    name: ClassVar[str] = "origins"

    def table(self) -> pd.DataFrame:
        """One row per (origin, subtask); of several subtasks, the neurons together have one under the task's name.

        Columns: trials, accuracy (the best neuron's, on test), std (over trials), low, high, more, more_low, more_high
        (than the random model's), prompt_accuracy (the prompts' own, of the whole task), layer, neuron.
        """
        numbers = ("std", "low", "high", "more", "more_low", "more_high", "prompt_accuracy")
        return super().table().astype(dict.fromkeys(numbers, float) | {"layer": "Int64", "neuron": "Int64"})

    @property
    def verdict(self) -> str:
        """Whether untuned prompts find neurons that a random model has not, in one sentence with its numbers.

        It holds where on every subtask the advantage of both kinds of untuned prompts over the random model has a 95 %
        interval above 0, and does not where one of these intervals reaches nowhere beyond one point.
        """
        rows = [row for row in self.rows if row["origin"] in (RANDOM, HARD) and row["more"] is not None]
        outcome = joint(judged(row["more_low"], row["more_high"]) for row in rows)
        worst = min(rows, key=lambda row: row["more_high" if outcome == "fails" else "more_low"])
        subtask = "" if worst["subtask"] == self.about["task"] else f", {worst['subtask']}"
        least = points(worst["more"], worst["more_low"], worst["more_high"])
        return verdict(
            outcome,
            "without tuning, prompts find neurons that a random model has not",
            "the random model's best neuron does as well as one that untuned prompts find",
            f"the least advantage on test is {least} ({worst['origin']}{subtask})",
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """The best neuron's test accuracy by origin with its 95 % interval; crosses are the prompts' own."""
        table = self.table()
        found = [origin for origin in self._origins if origin not in (GUESS, MAJORITY)]
        of = list(dict.fromkeys(table["subtask"]))
        with drawing(ax, size=(7.2, 1.4 + 0.16 * len(found) * (1.5 + len(of)))) as ax:
            for index, name in enumerate(of):
                own = table[table["subtask"] == name].set_index("origin").loc[found]
                label = "best neuron" if len(of) == 1 else words(name, 48)
                bounds = 100 * own[["low", "high"]].to_numpy()
                intervals(ax, index, len(of), label, 100 * own["accuracy"].to_numpy(), bounds)
            prompts = 100 * table.drop_duplicates("origin").set_index("origin").loc[found, "prompt_accuracy"]
            ax.plot(prompts, np.arange(len(found)), "x", color=INK, label="the prompts' own answers")
            ax.axvline(100 * self.about["majority"], color=FAINT, linestyle=":", label=MAJORITY)
            ax.axvline(100 * self.about["guess"], color=FAINT, linestyle="--", label=GUESS)
            name_rows(ax, found)
            ax.set_xlabel("test accuracy, %, with 95 % interval")
            ax.set_title(f"{words(self.about['task'])}: the best neuron by its origin")
            legend(ax)
        return ax

    def screen(self) -> RenderableType:
        """The table and the verdict, for a terminal."""
        several = len({row["subtask"] for row in self.rows}) > 1
        grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title_justify="left")
        grid.title = f"{self.about['task']}: the best neuron's test accuracy by its origin"
        for column in ("origin", *(["subtask"] if several else [])):
            grid.add_column(column)
        for column in ("accuracy", "std", "95 % interval", "more than random", "prompts' own"):
            grid.add_column(column, justify="right", no_wrap=True)
        for row in self.rows:
            cells = (
                _percent(row["accuracy"]), _percent(row["std"]),
                "" if row["low"] is None else f"{100 * row['low']:.1f} to {100 * row['high']:.1f} %",
                "" if row["more"] is None else _more(row), _percent(row["prompt_accuracy"]),
            )  # fmt: skip
            grid.add_row(row["origin"], *([row["subtask"]] if several else []), *cells)
        return Group(grid, Text(self.verdict))

    @property
    def _origins(self) -> list[str]:
        return list(dict.fromkeys(row["origin"] for row in self.rows))


def origins(
    model: Backbone,
    task: Task,
    *,
    skill: SkillNeurons | None = None,
    config: TuneConfig | None = None,
    preset: str = "paper",
    out: str | Path | None = None,
    **options: Any,
) -> Origins:
    """Find neurons of `model` for `task` under tuned, random and hard prompts, and in a random model.

    Options are those of `find` but for `prompt`; `skill`, a run by tuned prompts, stands for the first finding and
    gives all options. With `out` each finding has a folder there, and the same call goes on where a killed one stopped.
    Raises `SkillNeuronsError` where `skill` is another model's, another task's, or not by tuned prompts, and where a
    hard prompt is longer than the model takes.
    """
    if "prompt" in options or (skill is not None and (options or config is not None)):
        given = ", ".join([*options, *(["config"] if config is not None else [])])
        raise SkillNeuronsError(
            f"origins are of all kinds of prompts, by the same options, which a run gives where there is one; given: "
            f"{given}. Leave these out."
        )
    config = skill.config if skill is not None else config or TuneConfig.preset(preset, **options)
    if skill is not None:
        refuse_foreign(model, skill)
        if config.prompt != "soft":
            raise SkillNeuronsError(
                f"origins begin with tuned prompts; the run of {skill.about['task']} is by {config.prompt} ones. Give "
                "a run that was tuned, or none."
            )
        task = skill.with_task(task).task
    for text in hard_prompts(task)[: config.trials]:  # told before hours of tuning, not after
        model.room(len(embed_words(model, text)))
    found = {} if skill is None else {TUNED: skill}
    for origin in (TUNED, RANDOM, HARD, DRAWN):
        if origin not in found:
            say(f"{task.name}: {origin}")
            own = config.model_copy(update={"prompt": PROMPTS.get(origin, "random")})
            folder = None if out is None else Path(out) / origin.replace(" ", "-")
            found[origin] = find(redrawn(model) if origin == DRAWN else model, task, config=own, out=folder)
    result = compared(found)
    if out is not None:
        result.save(out)
    return result


def compared(found: Mapping[str, SkillNeurons]) -> Origins:
    """The findings side by side: by `tuned prompts`, `random prompts`, `hard prompts` and in a `random model`."""
    first = found[TUNED]
    task, drawn = first.task, best_right(found[DRAWN])
    majority, guess = task.majority("test"), 1 / len(task.labels)
    rows: list[dict[str, Any]] = []
    for origin, skill in found.items():
        rows += _rows(origin, skill, drawn)
    for origin, whole in ((GUESS, guess), (MAJORITY, majority)):
        for name in dict.fromkeys(row["subtask"] for row in rows):
            rows.append(_row(origin, name, whole if name == task.name else 0.5))
    about = told(Origins.version, first.config, *found.values()) | {
        "model": first.about["model"], "task": task.name, "kind": task.kind, "majority": majority, "guess": guess,
        "trials": {origin: skill.about["trials"] for origin, skill in found.items()},
    }  # fmt: skip
    right = {f"right.{origin}": torch.from_numpy(best_right(skill).astype(np.uint8)) for origin, skill in found.items()}
    return Origins(about, rows, right)


def best_right(skill: SkillNeurons) -> Bool[np.ndarray, "trial sample subtask"]:
    """When the best neuron of each subtask was right, on test."""
    records = skill.results["top_neurons"]
    return skill.tested.right(skill.task)[:, :, [spot for spot, own in enumerate(records) if own["rank"] == 1]]


def _rows(origin: str, skill: SkillNeurons, drawn: Bool[np.ndarray, "trial sample subtask"]) -> list[dict[str, Any]]:
    """One origin's rows: its subtasks', and the neurons' together where there are several."""
    task, labels, seed, right = skill.task, skill.tested.labels, skill.config.seed, best_right(skill)
    own = float(np.mean(skill.results["prompt_accuracy"]))
    rows = []
    for index, best in enumerate(record for record in skill.results["top_neurons"] if record["rank"] == 1):
        values = right[:, :, index].mean(0)
        accuracy, low, high = worth(values, index, labels, task, seed)
        more: tuple[float, float, float] | None = None
        if origin != DRAWN:
            more = worth(values - drawn[:, :, index].mean(0), index, labels, task, seed)
        trials = [_accuracy(trial, index, skill) for trial in right[:, :, index]]
        place = {"layer": best["layer"], "neuron": best["neuron"]}
        rows.append(_row(origin, best["subtask"], accuracy, trials, (low, high), more, own) | place)
    if not task.binary:
        together = skill.results["neurons_accuracy"]
        mean, samples = float(np.mean(together)), len(labels)
        bounds = binomtest(round(mean * samples), samples).proportion_ci(method="wilson")
        rows.append(_row(origin, task.name, mean, together, (float(bounds.low), float(bounds.high)), None, own))
    return rows


def _row(
    origin: str,
    subtask: str,
    accuracy: float,
    trials: list[float] | None = None,
    bounds: tuple[float, float] | None = None,
    more: tuple[float, float, float] | None = None,
    own: float | None = None,
) -> dict[str, Any]:
    low, high = bounds or (None, None)
    difference, more_low, more_high = more or (None, None, None)
    return {
        "origin": origin,
        "subtask": subtask,
        "trials": len(trials or []),
        "accuracy": accuracy,
        "std": float(np.std(trials, ddof=1)) if trials and len(trials) > 1 else None,
        "low": low,
        "high": high,
        "more": difference,
        "more_low": more_low,
        "more_high": more_high,
        "prompt_accuracy": own,
        "layer": None,
        "neuron": None,
    }


def _accuracy(right: Bool[np.ndarray, " sample"], subtask: int, skill: SkillNeurons) -> float:
    """A trial's accuracy on a subtask's samples; both sides of a multi-class task weigh the same."""
    sides = subtask_sides(skill.task)[subtask][:, skill.tested.labels].astype(bool)
    if skill.task.binary:
        return float(right[sides.any(0)].mean())
    return float(np.mean([right[side].mean() for side in sides]))


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _more(row: Mapping[str, Any]) -> str:
    return f"{100 * row['more']:+.1f} ({100 * row['more_low']:+.1f} to {100 * row['more_high']:+.1f})"
