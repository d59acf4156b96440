"""The class selectivity index of Morcos et al. (2018), beside predictivity (Appendix H, Figure 15).

    found = selectivity(model, skill)                    # tokens="prompt", split="dev", values="absolute"
    found.table(); found.verdict; found.plot()
    found.orders()                                       # {"selectivity_index": scores [neuron]}

A neuron has a mean value over the samples of each label. With the largest of these means, and the mean of the others,

    index = (m_max - m_rest) / (m_max + m_rest)

It is 0 where all labels have the same mean, and 1 where the neuron is silent for all labels but one. Labels count the
same however many samples they have; subtasks do not enter, so there is one index a neuron. A sample's value is the
mean over its tokens (Morcos et al. average over a feature map's places), those of the prompt unless told otherwise.
The index is averaged over trials, as predictivity is in Eq. 6.

It was made for networks with ReLU, whose activations are at least 0. With negative ones the means may have either sign,
their sum may be 0, and the index anything. So a value is the absolute activation, `values="absolute"`: how far the
neuron is from silence, either way. With ReLU that is the index as it was. In a gated FFN a neuron's sign is a mere
convention: turn its up-projection's row and its down-projection's column round and the model is the same; so is this
index. `values="rectified"` takes max(activation, 0): closer to ReLU for GELU, whose negative activations are all small,
but blind to half of what a gated neuron does. A neuron whose means are all 0 has index 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor
from torch.nn.functional import one_hot

from ..config import Config
from ..errors import SkillNeuronsError
from ..figures import INK, drawing, legend, marker, words
from ..finding.agreement import compared, rank_correlation, shared
from ..finding.peers.result import by_score
from ..finding.ranked import ranked
from ..finding.skill import SkillNeurons
from ..finding.standing import refuse_foreign
from ..finding.statistics import at_least_float32
from ..finding.sweep import sweep
from ..models import Backbone, Batch
from ..tasks import Task
from ..tuning.inputs import Inputs, SplitName
from .result import Evidence, told

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INDEX = "selectivity_index"
TokenName = Literal["prompt", "answer", "input", "all"]
Values = Literal["absolute", "rectified"]


class SelectivityConfig(Config):
    """What the selectivity index is worked out from."""

    tokens: TokenName = "prompt"
    """The tokens over which a sample's activations are averaged."""
    split: SplitName = "dev"
    """The samples whose means are compared."""
    values: Values = "absolute"
    """What makes activations at least 0: their absolute value, or 0 for negative ones."""


@dataclass(frozen=True, eq=False, repr=False)
class Selectivity(Evidence):
    """The selectivity index of every neuron beside its predictivity.

    `arrays`: `index` [neuron], averaged over trials, the layers' neurons one after another; `predictivity`
    [subtask, neuron] and `best` [subtask, neuron], the run's most predictive as indices into these, the best first;
    `means` [trial, label, neuron], float32.
    """

    name: ClassVar[str] = "selectivity"

    @property
    def index(self) -> Float[np.ndarray, " neuron"]:
        """The index of every neuron, averaged over trials; the layers' neurons one after another."""
        return self.arrays["index"].numpy()

    def orders(self) -> dict[str, Float[np.ndarray, " neuron"]]:
        """The order by the index: scores [neuron], larger ones first."""
        return {INDEX: self.index}

    @property
    def verdict(self) -> str:
        """How far the index orders the neurons as predictivity does; that it finds none that matter, curves tell."""
        row = min(self.rows, key=lambda row: row["overlap"])
        correlation = "undefined" if row["correlation"] is None else f"{row['correlation']:.2f}"
        where = f" on {row['subtask']}" if len(self.rows) > 1 else ""
        return (
            f"No claim is tested here: the index and predictivity have {100 * row['overlap']:.1f} % of their top "
            f"{row['top']} in common{where} (chance {100 * row['chance']:.1f} %), rank correlation {correlation}. "
            "Whether the first by the index matter more than random neurons, curves in this order tell."
        )

    def screen(self) -> RenderableType:
        """The table and the verdict, for a terminal."""
        grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        several = len(self.rows) > 1
        columns = (*(["subtask"] if several else []), "most selective", "index", "its predictivity", "rank correlation")
        for column in (*columns, f"top {self.rows[0]['top']} in common", "by chance"):
            grid.add_column(column, justify="left" if column in ("subtask", "most selective") else "right")
        for row in self.rows:
            correlation = "" if row["correlation"] is None else f"{row['correlation']:.2f}"
            grid.add_row(
                *([row["subtask"]] if several else []), f"layer {row['layer']}, neuron {row['neuron']}",
                f"{row['index']:.2f}", f"{100 * row['predictivity']:.1f} %", correlation,
                f"{100 * row['overlap']:.1f} %", f"{100 * row['chance']:.1f} %",
            )  # fmt: skip
        return Group(grid, Text(self.verdict))

    def plot(self, ax: Axes | None = None, subtask: str | None = None) -> Axes:
        """Every neuron's index against its predictivity, the skill neurons marked; of a subtask, or of the first."""
        names = self.about["subtasks"]
        if subtask is not None and subtask not in names:
            raise SkillNeuronsError(f"a subtask is one of {', '.join(names)}; given: {subtask!r}.")
        at = 0 if subtask is None else names.index(subtask)
        row = self.rows[at]
        height = 100 * self.arrays["predictivity"][at].numpy()
        best = self.arrays["best"][at].numpy()
        told = "undefined" if row["correlation"] is None else f"{row['correlation']:.2f}"
        task, own = words(self.about["task"]), words(names[at])
        with drawing(ax, (7.2, 3.8)) as ax:
            ax.plot(self.index, height, linestyle="", marker=".", markersize=2, color=INK, alpha=0.3, rasterized=True,
                    label=f"{len(height)} neurons")  # fmt: skip
            ax.plot(self.index[best], height[best], linestyle="", **marker(1), label=f"the {len(best)} most predictive")
            ax.set_xlabel("selectivity index")
            ax.set_ylabel("predictivity on dev, %")
            ax.set_title(task if task == own else f"{task}: {own}")
            legend(ax, f"rank correlation {told}")
        return ax


def selectivity(
    model: Backbone, skill: SkillNeurons, *, config: SelectivityConfig | None = None, **options: Any
) -> Selectivity:
    """The selectivity index of every neuron, by the run's prompts; one pass over the split a trial.

    Options are those of `SelectivityConfig` (`tokens`, `split`, `values`). Raises `SkillNeuronsError` where the model
    is not that of the run, where a label has no sample, and for the answer token of an encoder-decoder, which is
    its decoder's.
    """
    config = config or SelectivityConfig.make(**options)
    refuse_foreign(model, skill)
    task = skill.task
    _refuse(model, task, config)
    means = []
    for trial, prompt in enumerate(skill.prompts):
        inputs = Inputs.beside(model, task, prompt)
        classes = ClassMeans(
            model.widths, inputs.labels(config.split), len(task.labels), config.tokens, config.values, model.device
        )
        label = f"trial {trial + 1}/{len(skill.prompts)}: selectivity on {config.split}"
        sweep(inputs, config.split, prompt.embedding.to(model.device), [classes], label)
        means.append(classes.means())
    index = np.mean([selectivity_index(own) for own in means], axis=0)
    own = ranked(skill)
    best, top = by_score(index, skill.config.seed), compared(len(index))
    layer = int(np.searchsorted(np.cumsum(skill.widths), best[0], side="right"))
    names = [subtask.name for subtask in task.subtasks]
    rows = [
        {
            "subtask": name,
            "layer": layer,
            "neuron": int(best[0]) - sum(skill.widths[:layer]),
            "index": float(index[best[0]]),
            "predictivity": float(own.predictivity[at, best[0]]),
            "correlation": rank_correlation(own.predictivity[at].round(12), index.round(12)),
            "top": top,
            "overlap": shared(own.best[at], best, top),
            "chance": top / len(index),
        }
        for at, name in enumerate(names)
    ]
    about = told(Selectivity.version, config, skill) | {
        "model": skill.about["model"], "task": task.name, "subtasks": names, "labels": list(task.labels),
        "trials": len(means),
    }  # fmt: skip
    arrays = {
        "index": index, "predictivity": own.predictivity, "best": np.ascontiguousarray(own.best[:, :top]),
        "means": np.stack(means).astype(np.float32),
    }  # fmt: skip
    return Selectivity(about, rows, {name: torch.from_numpy(values) for name, values in arrays.items()})


def selectivity_index(means: Float[np.ndarray, "label neuron"]) -> Float[np.ndarray, " neuron"]:
    """(m_max - m_rest) / (m_max + m_rest) of means that are at least 0; 0 where all are 0."""
    most = means.max(0)
    rest = (means.sum(0) - most) / (len(means) - 1)
    total = most + rest
    return np.divide(most - rest, total, out=np.zeros_like(total), where=total > 0)


class ClassMeans:
    """Each neuron's mean value over the samples of every label; a sample's is the mean over the chosen tokens."""

    def __init__(
        self, widths: Sequence[int], labels: Int[np.ndarray, " sample"], classes: int, tokens: TokenName,
        values: Values, device: torch.device,
    ) -> None:  # fmt: skip
        self.device = device = torch.device("cpu") if device.type == "mps" else device  # which has no float64
        self.classes = one_hot(torch.tensor(labels), classes).T.double().to(device)
        self.tokens, self.values = tokens, values
        self.sums = [torch.zeros(classes, width, dtype=torch.float64, device=device) for width in widths]

    def begin(self, batch: Batch, samples: Int[np.ndarray, " sample"]) -> None:
        """Tell of the batch; `samples` are indices into the labels of the split."""
        self._chosen = batch.attention.bool() if self.tokens == "all" else batch.among(self.tokens)
        self._classes = self.classes[:, samples]

    def __call__(self, layer: int, activations: Float[Tensor, "sample token neuron"]) -> None:
        """Add one layer's activations of the batch."""
        activations = at_least_float32(activations)
        values = activations.abs() if self.values == "absolute" else activations.relu()
        chosen = self._chosen.to(values)
        own = (chosen[:, None] @ values)[:, 0] / chosen.sum(1, keepdim=True).clamp(min=1)
        self.sums[layer] += self._classes @ own.to(self.device).double()

    def means(self) -> Float[np.ndarray, "label neuron"]:
        """The means, the layers' neurons one after another."""
        return (torch.cat(self.sums, 1) / self.classes.sum(1)[:, None]).cpu().numpy()


def _refuse(model: Backbone, task: Task, config: SelectivityConfig) -> None:
    """Raise `SkillNeuronsError` where there is no such token, or a label has no sample."""
    if config.tokens == "answer" and model.kind == "encoder-decoder":
        raise SkillNeuronsError(
            f"the answer token of an encoder-decoder is its decoder's, where no neuron is ranked; {model.name} is one. "
            "Choose the tokens prompt, input or all."
        )
    counts = np.bincount(getattr(task, config.split).labels, minlength=len(task.labels))
    without = [label for label, count in zip(task.labels, counts, strict=True) if not count]
    if without:
        raise SkillNeuronsError(
            f"every label needs samples, for its mean; {config.split} of {task.name} has none labelled "
            f"{' or '.join(without)}. Choose another split, or find again with more samples."
        )
