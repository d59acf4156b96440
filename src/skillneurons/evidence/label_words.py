"""Do skill neurons hang on the label words? One task under several random sets of them (section 4.4).

    found = label_words(model, task, preset="quick", trials=1, out="runs/films-words")
    found.means()            # random words: 0.87 in the paper; beside it the same words under other seeds
    found.lost(); found.verdict; found.plot()

Each set gives every label a random word of the tokenizer's vocabulary, and the neurons are found anew, prompts and
all. Orders are compared as in `skillneurons.evidence.correlation`, mean over layers. Two orders differ by the words
and by all that is random in tuning; so set i has its own seed too, and beside it neurons are found for the task's own
words under the same seeds: what these lose among themselves is owed to the seeds, and only what random words lose
beyond that to the words.

    random words     every two sets: other words, other seeds
    own words        every two seeds: the task's own words
    own and random   the task's own words against each set, under other seeds

All runs share train and dev, whose chance they share too. What random words lose has a 95 % interval: Student's t on
the jackknife over runs (Arvesen 1969), for a run is in many pairs. With `out` each run is kept in a folder of its own
and the same call goes on where a killed one stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from scipy.stats import t as student

from ..errors import SkillNeuronsError
from ..figures import INK, drawing, legend, marker
from ..finding.find import find
from ..finding.skill import SkillNeurons
from ..models import Backbone
from ..progress import say
from ..tasks import Task
from ..tuning.config import TuneConfig
from .correlation import LABEL, layerwise, mean_over_layers
from .result import Evidence, told
from .verdict import judged, verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Pairs = Literal["random words", "own words", "own and random"]
PAIRS: tuple[Pairs, ...] = get_args(Pairs)
Several = Annotated[int, Field(ge=2)]
LITTLE = 0.1
"""The share of the own words' correlation that random words may lose."""


class LabelWordConfig(TuneConfig):
    """How often the neurons are found, with which words; the rest is how, as in `find`."""

    sets: Several = 5
    """Sets of random label words."""
    seeds: Several = 5
    """Runs with the task's own words, each with a seed of its own."""
    words: Annotated[tuple[dict[str, str], ...], Field(min_length=2)] | None = None
    """The sets, each a mapping from label to word, in place of random ones."""


@dataclass(frozen=True, eq=False, repr=False)
class LabelWordSets(Evidence):
    """The rank correlation of every two runs; `arrays["correlation"]` [layer, run, run] has it layer by layer."""

    name: ClassVar[str] = "label_words"

    @property
    def sets(self) -> list[dict[str, str]]:
        """The sets of random label words, label -> word."""
        return [dict(run["words"]) for run in self.about["runs"] if run["random"]]

    def values(self, pairs: Pairs) -> list[float]:
        """The correlations of all such pairs of runs, mean over layers, as far as they have one."""
        rows = (row for row in self.rows if row["pairs"] == pairs)
        return [row["correlation"] for row in rows if row["correlation"] is not None]

    def means(self) -> dict[Pairs, float]:
        """The mean correlation of each group of pairs; NaN where none has one."""
        return {pairs: float(np.mean(own)) if (own := self.values(pairs)) else np.nan for pairs in PAIRS}

    def lost(self) -> tuple[float, float, float]:
        """The mean correlation of runs by own words less that of runs by random ones, and its 95 % interval.

        NaN where there is none; the interval takes three runs of each.
        """
        every = mean_over_layers(self.arrays["correlation"].numpy())
        random = np.array([run["random"] for run in self.about["runs"]])
        found = [jackknife(every[np.ix_(own, own)]) for own in (~random, random)]
        lost = found[0][0] - found[1][0]
        error = float(np.hypot(found[0][1], found[1][1]))
        reach = error * float(student.ppf(0.975, max(1, min(random.sum(), (~random).sum()) - 1)))
        return lost, lost - reach, lost + reach

    @property
    def verdict(self) -> str:
        """Whether other label words find the same neurons, in plain words.

        It holds where random words surely (95 %) lose no more than a tenth of the rank correlation that own words have
        under other seeds, and does not where they surely lose more.
        """
        (lost, low, high), means = self.lost(), self.means()
        least = LITTLE * means["own words"]
        return verdict(
            judged(least - high, least - low, within=0.0),
            "random label words order the neurons as the task's own words do",
            "random label words order the neurons otherwise than the task's own words do",
            f"rank correlation {means['random words']:.2f} between random words, {means['own words']:.2f} between own "
            f"words under other seeds; lost to the words {lost:.2f} ({low:.2f} to {high:.2f}), where up to "
            f"{least:.2f} is little",
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Every pair of runs as a point, by group, and each group's mean."""
        with drawing(ax, size=(7.2, 2.4)) as ax:
            for row, (pairs, mean) in enumerate(self.means().items()):
                own = self.values(pairs)
                ax.plot(own, np.full(len(own), row), **marker(row), linestyle="", alpha=0.6)
                ax.plot([mean, mean], [row - 0.3, row + 0.3], color=INK, label=None if row else "mean")
            ax.set_yticks(range(len(PAIRS)), PAIRS)
            ax.set_ylim(len(PAIRS) - 0.5, -0.5)
            ax.set(xlabel=f"{LABEL}, mean over the layers", title=f"Label words of {self.about['task']}")
            legend(ax)
        return ax

    def screen(self) -> RenderableType:
        """The means, what became of each run, and the verdict, for a terminal."""
        means = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("every two of", "runs", "pairs", "mean", "lowest", "highest"):
            means.add_column(column, justify="left" if column == "every two of" else "right")
        counts: dict[Pairs, int] = {
            "random words": len(self.sets),
            "own words": len(self.about["runs"]) - len(self.sets),
        }
        for pairs, mean in self.means().items():
            own = self.values(pairs) or [np.nan]
            cells = (str(len(own)), f"{mean:.2f}", f"{min(own):.2f}", f"{max(own):.2f}")
            means.add_row(pairs, str(counts.get(pairs, len(self.about["runs"]))), *cells)
        runs = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("run", "label words", "test accuracy"):
            runs.add_column(column, justify="right" if column == "test accuracy" else "left")
        for run in self.about["runs"]:
            runs.add_row(run["run"], ", ".join(run["words"].values()), f"{100 * run['accuracy']:.1f} %")
        return Group(Text(f"{LABEL}, mean over the layers", style="bold"), means, Text(), runs, Text(self.verdict))


def label_words(
    model: Backbone,
    task: Task,
    *,
    config: LabelWordConfig | None = None,
    preset: str = "paper",
    out: str | Path | None = None,
    **options: Any,
) -> LabelWordSets:
    """Find the skill neurons of `model` for `task` under several sets of label words, and compare their orders.

    Options are those of `LabelWordConfig` (`sets`, `seeds`, `words`, and all of `find`) on top of a `preset`; `config`
    gives them all at once. With `out` the runs are kept there, in `words-1` ... and `seed-1` ..., and the same call
    goes on where a killed one stopped. Raises `SkillNeuronsError` for words that are no tokens of the model's or do
    not fit the labels, where the vocabulary has too few words, and for prompts that are not tuned.
    """
    config = config or LabelWordConfig.preset(preset, **options)
    skills: list[SkillNeurons] = []
    runs = runs_of(model, task, config)
    for name, words, seed in runs:
        say(f"{name}: {', '.join(words.values())}")
        # without a source, so that the run keeps the task with these words
        own = replace(task, words=words, source=None)
        folder = None if out is None else Path(out) / name
        skills.append(find(model, own, config=tuning_of(config, seed), out=folder))
    return compared(config, runs, skills)


def runs_of(model: Backbone, task: Task, config: LabelWordConfig) -> list[tuple[str, dict[str, str], int]]:
    """The runs: name, label words and seed of each, those with other words first. Raises as `label_words` does."""
    if config.prompt != "soft":
        raise SkillNeuronsError(
            f"label words are heard in tuning alone; a {config.prompt} prompt is not tuned, and its neurons are the "
            "same whatever the words. Use --prompt soft."
        )
    sets = _given(config.words, task) if config.words else drawn_words(model, task, config.sets, config.seed)
    for words in sets:
        model.label_words(words)  # refused before anything is tuned
    return [
        *((f"words-{place + 1}", words, config.seed + place) for place, words in enumerate(sets)),
        *((f"seed-{place + 1}", dict(task.words), config.seed + place) for place in range(config.seeds)),
    ]


def compared(
    config: LabelWordConfig, runs: Sequence[tuple[str, dict[str, str], int]], skills: Sequence[SkillNeurons]
) -> LabelWordSets:
    """The findings of `runs_of` side by side."""
    random = [name.startswith("words") for name, _, _ in runs]
    every = layerwise(skills)
    mean = mean_over_layers(every)
    rows = [
        {
            "one": runs[one][0], "other": runs[other][0], "pairs": pairs,
            "correlation": None if np.isnan(mean[one, other]) else float(mean[one, other]),
        }
        for one, other in combinations(range(len(runs)), 2)
        if (pairs := _pairs(one, other, sum(random)))
    ]  # fmt: skip
    about = told(LabelWordSets.version, config, *skills) | {key: skills[0].about[key] for key in ("model", "task")}
    about["runs"] = [
        {
            "run": name, "random": own, "words": words, "seed": seed,
            "accuracy": float(np.mean(skill.results["prompt_accuracy"])),
        }
        for (name, words, seed), own, skill in zip(runs, random, skills, strict=True)
    ]  # fmt: skip
    return LabelWordSets(about, rows, {"correlation": torch.from_numpy(every)})


def jackknife(values: Float[np.ndarray, "run run"]) -> tuple[float, float]:
    """The mean over all pairs of runs, and its standard error by leaving out one run at a time; NaN is left out."""
    without = [_pairs_mean(np.delete(np.delete(values, run, 0), run, 1)) for run in range(len(values))]
    return _pairs_mean(values), float(np.sqrt((len(values) - 1) * np.var(without)))


def _pairs_mean(values: Float[np.ndarray, "run run"]) -> float:
    own = values[np.triu_indices(len(values), 1)]
    own = own[~np.isnan(own)]
    return float(own.mean()) if len(own) else np.nan


def drawn_words(model: Backbone, task: Task, sets: int, seed: int) -> list[dict[str, str]]:
    """`sets` times a word for every label, drawn by seed from the vocabulary; no word comes twice, none is the task's.

    A word is a single token, where it follows another word as where the model reads it; two letters at least, and
    nothing but letters. Raises `SkillNeuronsError` where there are too few.
    """
    taken = {word.strip().casefold() for word in task.words.values()}
    wanted, found = sets * len(task.labels), []
    for word in _words(model, seed):
        if word.casefold() not in taken:
            taken.add(word.casefold())
            found.append(word)
        if len(found) == wanted:
            break
    else:
        raise SkillNeuronsError(
            f"{sets} sets of label words for {len(task.labels)} labels take {wanted} words of one token each; "
            f"{model.name} has {len(found)}. Ask for fewer sets."
        )
    size = len(task.labels)
    return [dict(zip(task.labels, found[start : start + size], strict=True)) for start in range(0, wanted, size)]


def _words(model: Backbone, seed: int) -> Iterator[str]:
    """The words of the vocabulary that are one token in running text, in random order."""
    tokenizer = model.tokenizer
    tokens = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    before = tokenizer.encode("a", add_special_tokens=False)
    for token in np.random.default_rng(seed).permutation(tokens).tolist():
        word = str(tokenizer.decode([token])).strip()
        if len(word) >= 2 and word.isalpha() and word.isprintable():
            follows = tokenizer.encode(f"a {word}", add_special_tokens=False)
            if follows == [*before, token]:
                yield word


def _given(sets: tuple[dict[str, str], ...], task: Task) -> list[dict[str, str]]:
    for own in sets:
        if set(own) != set(task.labels):
            raise SkillNeuronsError(
                f"a set of label words has one for each label of {task.name} ({', '.join(task.labels)}); "
                f"given: {', '.join(own) or 'none'}. Give every label its word."
            )
    return [{label: own[label] for label in task.labels} for own in sets]


def tuning_of(config: LabelWordConfig, seed: int) -> TuneConfig:
    """How the run with this seed is found."""
    own: Mapping[str, Any] = config.model_dump(include=set(TuneConfig.model_fields))
    return TuneConfig.make(**{**own, "seed": seed})


def _pairs(one: int, other: int, sets: int) -> Pairs | None:
    """Of two runs, the sets first; None for a set and own words under one seed, which nothing is compared with."""
    if one < sets and other >= sets:
        return "own and random" if one != other - sets else None
    return "random words" if other < sets else "own words"
