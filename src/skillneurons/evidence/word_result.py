"""The words of some neurons: the result of `words`.

found = words(model, skill)
found.table(); found.readers(); found.verdict
found.of(0, "activation", "bottom")                  # rows of the first neuron
found.plot(neuron=0, way="activation")
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..errors import SkillNeuronsError
from ..figures import FAINT, drawing, legend, line, marker
from ..figures import words as shown
from ..finding.portraits.shading import printable
from ..finding.show import interval, percent
from .result import Evidence
from .verdict import joint, judged, points, untold, verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Way = Literal["cosine", "activation"]
WAYS: tuple[Way, ...] = get_args(Way)
End = Literal["top", "bottom"]
ENDS: tuple[End, ...] = get_args(End)


@dataclass(frozen=True, eq=False, repr=False)
class Words(Evidence):
    """The top and bottom words of some neurons.

    `arrays` has "cosine" and "activation" [neuron, token], NaN where a token has none, and "count" [token].
    """

    name: ClassVar[str] = "words"

    @property
    def neurons(self) -> list[tuple[int, int]]:
        """(layer, neuron) of each, in the order in which they were chosen."""
        return [(own["layer"], own["neuron"]) for own in self.about["neurons"]]

    def readers(self) -> pd.DataFrame:
        """One row a neuron: what it is worth on test, and what its words alone are worth there.

        Columns: layer, neuron, subtask, rank; test_accuracy, low, high (as in run.json, over all trials; empty but for
        a subtask's best neurons); more, more_low, more_high (than its words alone, paired by sample; likewise);
        words_accuracy, words_low, words_high (one trial's prompt).
        """
        return pd.DataFrame(self.about["neurons"])

    @property
    def verdict(self) -> str:
        """Whether the neurons tell more than their words alone, in plain words; of several, the one with the least.

        It holds where the advantage of each over its words has a 95 % interval above 0, and does not where one of these
        intervals reaches nowhere beyond one point.
        """
        tested = [own for own in self.about["neurons"] if own["more"] is not None]
        if not tested:
            return untold(
                "none of these neurons is among the ten best of a subtask, whose test figures the run keeps. Ask for "
                "one of them."
            )
        outcome = joint(judged(own["more_low"], own["more_high"]) for own in tested)
        worst = min(tested, key=lambda own: own["more_high" if outcome == "fails" else "more_low"])
        least = f", the least of {len(tested)} neurons" if len(tested) > 1 else ""
        return verdict(
            outcome,
            "the skill neurons tell more than their words alone",
            "the words alone tell as much as the skill neuron",
            f"neuron {worst['neuron']} of layer {worst['layer']} {percent(worst['test_accuracy'])} on test, its words "
            f"alone {percent(worst['words_accuracy'])}, {points(worst['more'], worst['more_low'], worst['more_high'])} "
            f"more{least}",
        )

    def of(self, neuron: int = 0, way: Way = "cosine", end: End = "top") -> list[dict[str, Any]]:
        """The table's rows of one neuron, by its place among `neurons`, in one way, from one end inwards."""
        if not (0 <= neuron < len(self.neurons) and way in WAYS and end in ENDS):
            raise SkillNeuronsError(
                f"words are of neuron 0 to {len(self.neurons) - 1}, by {' or '.join(WAYS)}, top or bottom; given: "
                f"{neuron}, {way!r}, {end!r}."
            )
        own = dict(zip(("layer", "neuron"), self.neurons[neuron], strict=True)) | {"way": way, "end": end}
        return [dict(row) for row in self.rows if own.items() <= row.items()]

    def plot(self, ax: Axes | None = None, neuron: int = 0, way: Way = "cosine") -> Axes:
        """The top and bottom words of one neuron as points on the scale of all words, those between as a line."""
        top, bottom = (self.of(neuron, way, end) for end in ENDS)
        rows = [*top, *bottom[::-1]]
        every = self.arrays[way][neuron].numpy()
        low, middle, high = np.nanquantile(every, [0.025, 0.5, 0.975])
        with drawing(ax, size=(7.6, 1.4 + 0.24 * len(rows))) as ax:
            ax.axvspan(low, high, color=FAINT, alpha=0.3, linewidth=0, zorder=0, label="95 % of all words")
            ax.axvline(middle, **line(1), zorder=1, label="median of all words")
            ax.plot([row["value"] for row in rows], range(len(rows)), **marker(0), linestyle="")
            ax.axhline(len(top) - 0.5, color=FAINT, linewidth=0.8)
            ax.set_yticks(range(len(rows)), [shown(_legible(row["text"])) for row in rows])
            ax.set_ylim(len(rows) - 0.5, -0.5)
            ax.set_xlim(min(0.0, ax.get_xlim()[0]))
            ax.set_xlabel("cosine of embedding and weight" if way == "cosine" else "mean activation at the word")
            ax.set_title("Words of neuron {1} in layer {0}".format(*self.neurons[neuron]))
            legend(ax)
        return ax

    def screen(self) -> RenderableType:
        """Each neuron's words as the paper's Table 2 has them, and the verdict, for a terminal."""
        parts: list[RenderableType] = []
        for place, about in enumerate(self.about["neurons"]):
            grid = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
            for way in WAYS:
                for end in ENDS:
                    rows = self.of(place, way, end)
                    texts = ", ".join(_legible(row["text"]) for row in rows)
                    grid.add_row(*(Text(cell, "dim") for cell in (way, end)), Text(texts))
            spanned = interval({"low": about["words_low"], "high": about["words_high"]})
            own = (
                ""
                if about["test_accuracy"] is None
                else f"the neuron tells {percent(about['test_accuracy'])} on test, "
            )
            grid.add_row(
                Text("test", "dim"), "", f"{own}its words alone {percent(about['words_accuracy'])} ({spanned})"
            )
            title = "Neuron {neuron} of layer {layer}, rank {rank} for {subtask}".format(**about)
            parts += [Text(title, style="bold"), grid]
        return Group(*parts, Text(self.verdict))


def _legible(text: str) -> str:
    """A word without the blanks around it; what is nothing but blanks in quotation marks."""
    return printable(text.strip()) or repr(text)
