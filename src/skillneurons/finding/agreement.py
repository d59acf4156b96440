"""Whether rankings agree: those of a run's trials, or those of several runs, beside what chance gives.

    stability(skill)                        # every two trials of a run
    compare(sst2, imdb, mnli)               # every two runs of one model
    compare(sst2, imdb).table(); compare(sst2, imdb).plot()

Two rankings of the same neurons share some of their `top`, and have a rank correlation (Spearman's, over all neurons).
By chance, of the top k of n neurons k / n are shared, and 95 % of random rankings share what the hypergeometric
distribution says; their correlation lies within 1.96 / sqrt(n - 1) of 0. Chance takes neurons for independent, which
those of one layer are not: read its range as the least that a real agreement must exceed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from rich.console import RenderableType
from rich.table import Table
from scipy.stats import hypergeom, rankdata

from ..errors import SkillNeuronsError
from ..figures import FAINT, drawing, legend, marker, words
from .ranking import ordered, reduce_trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .skill import SkillNeurons

OWN = "the tasks' own rankings"
"""What is compared between runs whose tasks have other subtasks."""
Ranking = tuple[Float[np.ndarray, " neuron"], Int[np.ndarray, " neuron"]]
"""Every neuron's value, the layers' neurons one after another, and their indices, best first."""


@dataclass(frozen=True)
class Pair:
    """Two rankings: the share of the top that they have in common, and their rank correlation.

    `correlation` is None where a ranking has all neurons equal.
    """

    ranking: str
    one: str
    other: str
    overlap: float
    correlation: float | None


@dataclass(frozen=True)
class Agreement:
    """Every two of some trials or runs; `top` of all `neurons` are compared."""

    of: Literal["trials", "runs"]
    top: int
    neurons: int
    pairs: tuple[Pair, ...]

    @property
    def chance(self) -> dict[str, float]:
        """What 95 % of random rankings give: an overlap between `low` and `high`, a correlation within a bound of 0.

        `expected` is the overlap's mean, `correlation` the bound.
        """
        low, high = hypergeom(self.neurons, self.top, self.top).ppf([0.025, 0.975]) / self.top
        bound = 1.96 / (self.neurons - 1) ** 0.5
        return {"expected": self.top / self.neurons, "low": float(low), "high": float(high), "correlation": bound}

    def table(self) -> pd.DataFrame:
        """One row per ranking and pair.

        Columns: ranking (a subtask's, or the tasks' own), one, other, overlap (a share of the top) and correlation;
        top, expected, low, high (chance's overlap), bound (chance's correlation lies within it of 0).
        """
        rows = pd.DataFrame([asdict(pair) for pair in self.pairs])
        return self._beside_chance(rows.astype({"correlation": float}))

    def mean(self) -> pd.DataFrame:
        """One row per ranking: overlap and correlation averaged over the pairs, beside chance as in `table`."""
        means = self.table().groupby("ranking", sort=False, as_index=False)[["overlap", "correlation"]].mean()
        return self._beside_chance(means)

    def lines(self) -> list[tuple[str, str]]:
        """What a first screen shows of each ranking: the mean overlap, the mean correlation, each beside chance."""
        several = self.mean()["ranking"].nunique() > 1
        found = []
        for row in self.mean().to_dict("records"):
            where = f"{row['ranking']}: " if several else ""
            expected = f"chance {100 * row['low']:.1f} to {100 * row['high']:.1f} %"
            found.append((f"{where}top {self.top} in common", f"{100 * row['overlap']:.1f} %, {expected}"))
            bound = f"chance -{row['bound']:.2f} to {row['bound']:.2f}"
            found.append((f"{where}rank correlation", f"{row['correlation']:.2f}, {bound}"))
        return found

    def screen(self) -> RenderableType:
        """Every pair, and chance, for a terminal."""
        grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        several = len({pair.ranking for pair in self.pairs}) > 1
        for column in (*(["ranking"] if several else []), "one", "other"):
            grid.add_column(column)
        for column in (f"top {self.top} in common", "rank correlation"):
            grid.add_column(column, justify="right")
        for pair in self.pairs:
            correlation = "" if pair.correlation is None else f"{pair.correlation:.2f}"
            own = (pair.one, pair.other, f"{100 * pair.overlap:.1f} %", correlation)
            grid.add_row(*([pair.ranking] if several else []), *own)
        chance = self.chance
        low, high = 100 * chance["low"], 100 * chance["high"]
        grid.add_section()
        bound = chance["correlation"]
        last = ("chance, 95 %", "", f"{low:.1f} to {high:.1f} %", f"-{bound:.2f} to {bound:.2f}")
        grid.add_row(*([""] if several else []), *last, style="dim")
        return grid

    def plot(self, ax: Axes | None = None) -> Axes:
        """Overlap and rank correlation of every pair as points; 95 % of chance as grey bars behind them."""
        several = len({pair.ranking for pair in self.pairs}) > 1
        names = [pair.ranking if self.of == "trials" else _versus(pair, several) for pair in self.pairs]
        rows = list(dict.fromkeys(names))
        chance = self.chance
        bound = chance["correlation"]
        series = (
            (f"share of the top {self.top} in common", (chance["low"], chance["high"]), "overlap"),
            ("rank correlation", (-bound, bound), "correlation"),
        )
        with drawing(ax, size=(8.0, 1.6 + 0.5 * len(rows))) as ax:
            for index, (label, span, value) in enumerate(series):
                heights = np.array([rows.index(name) for name in names]) + 0.3 * (index - 0.5)
                ax.hlines(np.unique(heights), *span, color=FAINT, linewidth=8, alpha=0.6)
                found = np.array([getattr(pair, value) for pair in self.pairs], dtype=float)
                ax.plot(found, heights, **marker(index), linestyle="", label=label)
            ax.hlines([], 0, 0, color=FAINT, linewidth=8, alpha=0.6, label="95 % of chance")
            ax.set_yticks(range(len(rows)), [words(row, most=48) for row in rows])
            ax.set_ylim(len(rows) - 0.5, -0.5)
            ax.set_xlim(min(-0.25, ax.get_xlim()[0]), 1.03)
            ax.set(xlabel="agreement", title=f"Every two {self.of}")
            legend(ax)
        return ax

    def _beside_chance(self, rows: pd.DataFrame) -> pd.DataFrame:
        chance = self.chance
        names = {"expected": "expected", "low": "low", "high": "high", "bound": "correlation"}
        return rows.assign(top=self.top, **{column: chance[name] for column, name in names.items()})

    def __repr__(self) -> str:
        return self.mean().round(3).to_string(index=False)

    def _repr_html_(self) -> str:
        return str(self.mean().round(3).to_html(index=False))


def stability(skill: SkillNeurons, fraction: float = 0.01) -> Agreement:
    """How alike a run's trials rank the neurons, by each one's own predictivity (Eq. 5 at its best position).

    The top is a `fraction` of all neurons, at least 10. Raises `SkillNeuronsError` for a run of one trial.
    """
    if len(skill.scores) < 2:
        raise SkillNeuronsError(
            f"stability is told from two trials at least; the run of {skill.about['task']} has 1. Find again with "
            "--trials 5."
        )
    best = [reduce_trial(scores) for scores in skill.scores]
    rankings = {}
    for index, subtask in enumerate(skill.about["subtasks"]):
        own: dict[str, Ranking] = {}
        for trial, found in enumerate(best):
            values = found.predictivity[index]
            draw = np.random.default_rng([skill.config.seed, index, trial])
            own[f"trial {trial + 1}"] = values, ordered(values, found.p[index], draw)
        rankings[subtask["name"]] = own
    return _agreement("trials", rankings, fraction)


def compare(*skills: SkillNeurons, fraction: float = 0.01) -> Agreement:
    """How alike several runs of one model rank its neurons (Eq. 6).

    Runs with the same subtasks are compared in each of them; others by their tasks' own rankings, in which a task of
    several subtasks takes theirs in turn. The top is a `fraction` of all neurons, at least 10. Raises
    `SkillNeuronsError` for fewer than two runs, and for runs of different models.
    """
    names = comparable(skills)
    subtasks = [[own["name"] for own in skill.about["subtasks"]] for skill in skills]
    shown = subtasks[0] if all(own == subtasks[0] for own in subtasks) else [OWN]
    rankings = {
        ranking: {name: ranking_of(skill, ranking) for name, skill in zip(names, skills, strict=True)}
        for ranking in shown
    }
    return _agreement("runs", rankings, fraction)


def comparable(skills: Sequence[SkillNeurons]) -> list[str]:
    """What tells the runs apart: their folders' names, or their tasks'; numbered where these are the same.

    Raises `SkillNeuronsError` for fewer than two runs, and for runs of different models.
    """
    if len(skills) < 2:
        raise SkillNeuronsError(f"at least two runs are compared; given: {len(skills)}. Name another.")
    names = _names(skills)
    first = skills[0].about
    for name, skill in zip(names, skills, strict=True):
        about = skill.about
        if (about["fingerprints"]["model"], about["layers"]) != (first["fingerprints"]["model"], first["layers"]):
            raise SkillNeuronsError(
                f"runs are compared within one model, for a neuron of one is none of another's; {names[0]} is of "
                f"{_model(skills[0])}, {name} of {_model(skill)}. Choose runs of the same model."
            )
    return names


def ranking_of(skill: SkillNeurons, ranking: str = OWN) -> Ranking:
    """A run's neurons in one ranking. That of several subtasks in turn has no predictivity of its own: its ranks do."""
    own = skill.about["task"] if ranking == OWN else ranking
    table = skill.table()
    rows = table[table["subtask"] == own].sort_values(["layer", "neuron"])
    rank = rows["rank"].to_numpy()
    mixed = len(skill.about["subtasks"]) > 1 and ranking == OWN
    return -rank.astype(np.float64) if mixed else rows["predictivity"].to_numpy(), np.argsort(rank)


def rank_correlation(one: Float[np.ndarray, " neuron"], other: Float[np.ndarray, " neuron"]) -> float | None:
    """Spearman's, equal values sharing their mean rank; None where all values of either are equal."""
    ranks = [rankdata(values) - (len(values) + 1) / 2 for values in (one, other)]
    spread = np.prod([np.linalg.norm(own) for own in ranks])
    return float(ranks[0] @ ranks[1] / spread) if spread else None


def shared(one: Int[np.ndarray, " neuron"], other: Int[np.ndarray, " neuron"], top: int) -> float:
    """The share of one order's first `top` that is among the other's; of random orders `top` / neurons."""
    return len(set(one[:top].tolist()) & set(other[:top].tolist())) / top


def compared(neurons: int, fraction: float = 0.01) -> int:
    """How many neurons are the top of a ranking: a fraction of all, at least 10."""
    return min(neurons, max(10, round(fraction * neurons)))


def _agreement(
    of: Literal["trials", "runs"], rankings: Mapping[str, Mapping[str, Ranking]], fraction: float
) -> Agreement:
    neurons = len(next(iter(next(iter(rankings.values())).values()))[0])
    top = compared(neurons, fraction)
    pairs = [
        Pair(
            ranking, one, other, shared(own[one][1], own[other][1], top),
            rank_correlation(own[one][0].round(12), own[other][0].round(12)),
        )
        for ranking, own in rankings.items()
        for one, other in combinations(own, 2)
    ]  # fmt: skip
    return Agreement(of, top, neurons, tuple(pairs))


def _versus(pair: Pair, several: bool) -> str:
    return f"{pair.ranking}: {pair.one}, {pair.other}" if several else f"{pair.one}, {pair.other}"


def _names(skills: Sequence[SkillNeurons]) -> list[str]:
    plain = [skill.about["task"] if skill.folder is None else skill.folder.name for skill in skills]
    counted = Counter(plain)
    return [
        f"{name} ({plain[: index + 1].count(name)})" if counted[name] > 1 else name for index, name in enumerate(plain)
    ]


def _model(skill: SkillNeurons) -> str:
    """A model's name, and what else tells two of a name apart."""
    about = skill.about
    random = ", random weights" if about["source"]["random_weights"] else ""
    return f"{about['model']} ({about['source']['dtype']}{random}, {about['fingerprints']['model'][:8]})"
