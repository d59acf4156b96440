"""Steering: pushing skill neurons along their sign changes the model's answer; the dose and the response.

    found = steer(model, skill)                     # the top 5 % of each layer, doses from -2 to 2
    found.means(); found.effect(); found.verdict; found.plot()

A neuron's sign in a trial is 1 where being above its baseline means the positive side (Eq. 4 and 5), else -1. At dose d

    a_i <- a_i + d * sign_i * spread_i

on all tokens, with the neuron's standard deviation over dev's tokens as its spread: at d > 0 every chosen neuron
says "positive" louder. The response is the mean over samples of +1 where the prompt answers with a label of the
positive side, -1 with one of the negative side, 0 with any other. Beside the skill neurons stand as many of each layer
drawn at random, pushed along their own signs, and the skill neurons pushed along signs that are drawn: neither the
pushing alone nor the neurons alone should do it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..errors import SkillNeuronsError
from ..figures import FAINT, drawing, legend, line, words
from ..finding.measure import interval
from ..finding.ranked import ranked
from ..finding.sides import subtask_sides
from ..finding.skill import SkillNeurons
from ..finding.standing import refuse_foreign
from ..models import Backbone, Push
from ..progress import progress
from ..tuning.evaluate import evaluate_inputs
from ..tuning.inputs import Inputs
from .claims import Paired, paired
from .config import SteerConfig
from .orders import drawn, of_run
from .result import Evidence, told
from .spread import spread
from .verdict import POINT, joint, judged, verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SKILL, RANDOM, SIGNS = "skill", "random neurons", "random signs"


@dataclass(frozen=True, eq=False, repr=False)
class Steering(Evidence):
    """The response to each dose: a row for every (pushed, draw, trial, dose); `arrays["answers"]` [row, sample]."""

    name: ClassVar[str] = "steering"

    def means(self) -> pd.DataFrame:
        """One row per (pushed, dose): the mean response over trials and draws, and its 95 % interval over samples."""
        rows = []
        for pushed in (SKILL, RANDOM, SIGNS):
            for dose in self.about["config"]["doses"]:
                sample = self._samples(pushed, dose)
                bounds = interval([sample], self.about["config"]["seed"])
                rows.append({"pushed": pushed, "dose": dose, "response": sample.mean(), **bounds})
        return pd.DataFrame(rows)

    def effect(self, pushed: str = SKILL, against: str | None = None) -> Paired:
        """The response at the largest dose less that at the smallest, paired by sample; less that of another."""
        if {pushed, against} - {SKILL, RANDOM, SIGNS, None}:
            raise SkillNeuronsError(
                f"what was pushed is one of {SKILL}, {RANDOM}, {SIGNS}; given: {pushed!r}, {against!r}."
            )
        doses = self.about["config"]["doses"]
        ends = [self._samples(own, max(doses)) - self._samples(own, min(doses)) for own in (pushed, against) if own]
        return paired(ends[0] - (ends[1] if against else 0.0), self.about["config"]["seed"])

    @property
    def verdict(self) -> str:
        """Whether pushing skill neurons steers the answers, and more than pushing the controls, in plain words.

        It holds where the 95 % intervals of all three effects lie above 0, and does not where one of them reaches
        nowhere beyond what it makes to turn one answer of a hundred.
        """
        own = self.effect()
        controls = {name: self.effect(SKILL, name) for name in (RANDOM, SIGNS)}
        figures = f"{own.difference:+.2f} ({own.low:+.2f} to {own.high:+.2f}) from the smallest dose to the largest"
        beyond = ", ".join(
            f"{found.difference:+.2f} ({found.low:+.2f} to {found.high:+.2f}) more than with {name}"
            for name, found in controls.items()
        )
        return verdict(
            joint(judged(found.low, found.high, within=2 * POINT) for found in (own, *controls.values())),
            "pushing skill neurons along their sign steers the answers, and more than its controls do",
            "pushing skill neurons along their sign steers the answers no more than its controls do",
            f"{figures}; {beyond}",
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """The dose-response curves, with 95 % intervals over samples."""
        means = self.means()
        with drawing(ax) as ax:
            for index, pushed in enumerate((SKILL, RANDOM, SIGNS)):
                own, style = means[means["pushed"] == pushed], line(index)
                label = "skill neurons" if pushed == SKILL else pushed
                ax.plot(own["dose"], own["response"], label=label, **style)
                ax.fill_between(own["dose"], own["low"], own["high"], color=style["color"], alpha=0.15, lw=0)
            ax.axhline(0, color=FAINT, linestyle=":")
            ax.set_xlabel("dose: push along the sign, in standard deviations of each neuron")
            ax.set_ylabel("response: positive less negative answers")
            ax.set_title(
                f"{words(self.about['task'])}: steering by {self.about['config']['fraction']:.0%} of each layer"
            )
            legend(ax)
        return ax

    def screen(self) -> RenderableType:
        """The responses, and the verdict."""
        doses = self.about["config"]["doses"]
        grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title_justify="left")
        grid.title = f"{self.about['task']}: answers positive less negative, by dose"
        grid.add_column("pushed")
        for dose in doses:
            grid.add_column(f"{dose:+g}", justify="right")
        means = {(row["pushed"], row["dose"]): row["response"] for row in self.means().to_dict("records")}
        for pushed in (SKILL, RANDOM, SIGNS):
            grid.add_row(pushed, *(f"{means[pushed, dose]:+.2f}" for dose in doses))
        return Group(grid, Text(self.verdict))

    def _samples(self, pushed: str, dose: float) -> Float[np.ndarray, " sample"]:
        """Each sample's response, over trials and draws."""
        chosen = [row["pushed"] == pushed and row["dose"] == dose for row in self.rows]
        return self.arrays["answers"].numpy()[np.array(chosen)].mean(0)


def steer(
    model: Backbone,
    skill: SkillNeurons,
    *,
    subtask: str | None = None,
    config: SteerConfig | None = None,
    **options: Any,
) -> Steering:
    """Push the skill neurons of a subtask (without one, the first) along their signs, and random ones beside.

    Options are those of `SteerConfig`. Raises `SkillNeuronsError` where the run is of another model, and for a subtask
    that it does not have.
    """
    config = config or SteerConfig.make(**options)
    refuse_foreign(model, skill)
    names = [own["name"] for own in skill.about["subtasks"]]
    if subtask is not None and subtask not in names:
        raise SkillNeuronsError(f"a subtask of this run is one of {', '.join(names)}; given: {subtask!r}.")
    index = 0 if subtask is None else names.index(subtask)
    sides = subtask_sides(skill.task)[index]
    own = of_run(SKILL, skill, subtask=names[index])
    pushed = [(SKILL, 0, own), *((RANDOM, draw, drawn(own, config.seed, draw)) for draw in range(config.draws))]
    pushed += [(SIGNS, draw, own) for draw in range(config.draws)]
    every = ranked(skill).sign[index]
    rows, answers = [], []
    total = len(skill.prompts) * (1 + len(pushed) * len([dose for dose in config.doses if dose]))
    with progress(f"steering {skill.about['task']}", total, "points") as advance:
        for trial, prompt in enumerate(skill.prompts):
            inputs = Inputs.beside(model, skill.task, prompt)
            spreads = spread(model, skill.task, prompt)
            signs = every[:, trial].astype(np.float64)
            plain = _answer(inputs, prompt.embedding, config, sides)
            advance(1)
            for name, draw, order in pushed:
                chosen = order.first(config.fraction)
                along = _drawn_signs(signs, config.seed, draw) if name == SIGNS else signs
                for dose in config.doses:
                    found = plain
                    if dose:
                        with model.edit(chosen, Push(_amounts(along, spreads, dose))):
                            found = _answer(inputs, prompt.embedding, config, sides)
                        advance(1)
                    rows.append({"pushed": name, "draw": draw, "trial": trial, "dose": dose, "response": found.mean()})
                    answers.append(found)
    about = told(Steering.version, config, skill)
    about |= {"model": skill.about["model"], "task": skill.about["task"], "subtask": names[index]}
    return Steering(about, rows, {"answers": torch.from_numpy(np.stack(answers))})


def _answer(
    inputs: Inputs,
    embedding: Float[torch.Tensor, "position embedding"],
    config: SteerConfig,
    sides: Int[np.ndarray, "2 class"],
) -> np.ndarray:
    """+1, -1 or 0 for each sample, by the side of the label that is answered."""
    predicted = evaluate_inputs(inputs, embedding, config.split, label=None).predicted
    return (sides[1] - sides[0])[predicted].astype(np.int8)


def _amounts(signs: Float[np.ndarray, " neuron"], spreads: Sequence[torch.Tensor], dose: float) -> list[torch.Tensor]:
    """What is added to each neuron, layer by layer."""
    own = torch.from_numpy(signs).split([len(layer) for layer in spreads])
    return [dose * sign * layer.double().cpu() for sign, layer in zip(own, spreads, strict=True)]


def _drawn_signs(signs: Float[np.ndarray, " neuron"], seed: int, draw: int) -> Float[np.ndarray, " neuron"]:
    return np.random.default_rng([seed, draw, 1]).choice([-1.0, 1.0], len(signs))
