"""Other orders of the neurons beside predictivity: the result of `peers`.

    found = peers(model, skill)
    found.table()                        # how alike, and what each order's best neuron is worth on test
    found.layers()                       # linear probes, layer by layer
    found.neurons("auroc")               # an order in full
    found.plot(); found.plot_pooled()    # points with intervals; predictivity at prompt positions and pooled
    found.save("runs/sst2"); Peers.load("runs/sst2")

A folder holds `peers.json`, the tables and what they are of, and `peers.safetensors`, a tensor [subtask, neuron] of
each order's scores, the layers' neurons one after another. Both carry the run's identity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from ...errors import SkillNeuronsError
from ...figures import FAINT, INK, drawing, histogram, intervals, legend, marker, name_rows
from ..beside import keep, kept, remedy
from ..stored import foreign

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMAT = 1
NAME = "peers"
"""Of the files: peers.json, peers.safetensors."""
OURS = "predictivity"
POOLED = {"pooled_mean": "mean", "pooled_maximum": "maximum"}
TITLES = {
    OURS: "predictivity",
    "auroc": "area under ROC",
    "mean_difference": "mean difference",
    "gradient": "gradient × activation",
    "probe": "linear probe",
    "pooled_mean": "mean over input",
    "pooled_maximum": "maximum over input",
}
BINS = 40


@dataclass(frozen=True, eq=False, repr=False)
class Peers:
    """What other orders of the same neurons, from the same prompts, come to.

    `about` says of which run, task, subtasks and orders; `scores` has each order's [subtask, neuron], the layers'
    neurons one after another, larger ones first in the order; `rows` and `layer_rows` are the tables' records.
    """

    about: dict[str, Any]
    scores: Mapping[str, Float[np.ndarray, "subtask neuron"]]
    rows: Sequence[dict[str, Any]]
    layer_rows: Sequence[dict[str, Any]]

    @property
    def pooled(self) -> bool:
        """Whether a pooled order is among them, so that `plot_pooled` has something to draw."""
        return any(order in self.scores for order in POOLED)

    def table(self) -> pd.DataFrame:
        """One row per (subtask, order), predictivity first.

        `correlation`: Spearman's rank correlation with predictivity, over all neurons; `overlap`: the share of
        predictivity's `top` neurons that are the order's too, `chance` what random orders share; `layer`, `neuron`:
        the order's best, with its `test_accuracy` and the 95 % interval from `low` to `high`.
        """
        return pd.DataFrame(list(self.rows))

    def layers(self) -> pd.DataFrame:
        """One row per (subtask, layer): `probe`, the test accuracy of the layer's linear probe, beside the best neuron.

        `neuron` is the layer's most predictive, with its `predictivity` on dev and its `test_accuracy`; `probe_low`,
        `probe_high`, `low` and `high` bound 95 % intervals. Raises `SkillNeuronsError` where no probe was asked for.
        """
        if not self.layer_rows:
            raise SkillNeuronsError(
                f"layers are compared by their probes; these peers are {', '.join(self.about['orders'])}. Ask for the "
                "peers with the order probe."
            )
        return pd.DataFrame(list(self.layer_rows))

    def neurons(self, order: str, subtask: str | None = None) -> pd.DataFrame:
        """An order in full, for a subtask (without one, the first): layer, neuron, score and rank, rank 1 the best.

        Equal scores are ordered at random, by the run's seed.
        """
        if order not in self.about["orders"]:
            raise SkillNeuronsError(f"these peers are {', '.join(self.about['orders'])}; given: {order!r}.")
        index = self._subtask(subtask)
        score = settled(self.scores[order][index])
        best = by_score(score, self.about["seed"])
        widths = self.about["layers"]
        layer = np.repeat(np.arange(len(widths)), widths)
        neuron = np.concatenate([np.arange(width) for width in widths])
        frame = pd.DataFrame({"layer": layer, "neuron": neuron, "score": score}).iloc[best].reset_index(drop=True)
        return frame.assign(rank=np.arange(1, len(frame) + 1))

    def plot(self, ax: Axes | None = None) -> Axes:
        """The test accuracy of each order's best neuron with its 95 % interval, predictivity's first."""
        names = self.about["subtasks"]
        orders = [OURS, *self.about["orders"]]
        table = self.table()
        with drawing(ax, size=(6.4, 1.2 + 0.14 * len(orders) * (1.5 + len(names)))) as ax:
            for index, name in enumerate(names):
                own = table[table["subtask"] == name].set_index("order").loc[orders]
                bounds = 100 * own[["low", "high"]].to_numpy()
                intervals(ax, index, len(names), name, 100 * own["test_accuracy"].to_numpy(), bounds)
            chance = 100 * self.about["chance"]
            ax.axvline(chance, color=FAINT, linestyle=":", label="one answer for all")
            name_rows(ax, [TITLES[order] for order in orders])
            ax.set_xlabel("test accuracy, %, with 95 % interval")
            ax.set_title(f"{self.about['task']}: the best neuron by each order")
            legend(ax)
        return ax

    def plot_pooled(self, ax: Axes | None = None, subtask: str | None = None) -> Axes:
        """All neurons' predictivity at prompt positions and pooled over the input (Figures 3 and 9), on dev.

        Raises `SkillNeuronsError` where neither pooled order was asked for.
        """
        drawn = [order for order in (OURS, *POOLED) if order in self.scores]
        if not self.pooled:
            raise SkillNeuronsError(
                f"this picture is of pooled activations; these peers are {', '.join(self.about['orders'])}. Ask for "
                f"the peers with {' or '.join(POOLED)}."
            )
        index = self._subtask(subtask)
        values = {order: self.scores[order][index] for order in drawn}
        edges = np.linspace(0.5, max(0.51, *(own.max() for own in values.values())), BINS + 1)
        with drawing(ax) as ax:
            for series, (order, own) in enumerate(values.items()):
                label = "at prompt positions" if order == OURS else TITLES[order]
                histogram(ax, edges, np.histogram(own, edges)[0].astype(float), series, label)
                ax.plot([own.max()], [1], linestyle="", markeredgecolor=INK, clip_on=False, zorder=3, **marker(series))
            ax.set_yscale("log")
            ax.set_ylim(bottom=0.8)
            ax.set_xlabel("predictivity on dev; the mark is the best neuron")
            ax.set_ylabel("neurons")
            ax.set_title(f"{self.about['subtasks'][index]}: predictivity, by where activations are read")
            legend(ax)
        return ax

    def save(self, folder: str | Path) -> None:
        """Write peers.json and peers.safetensors into a folder, the run's say.

        Raises `SkillNeuronsError` where the folder holds another run, or cannot be written.
        """
        tensors = {order: torch.from_numpy(np.ascontiguousarray(own)) for order, own in self.scores.items()}
        keep(Path(folder), NAME, self.about, {"table": list(self.rows), "probes": list(self.layer_rows)}, tensors)

    @classmethod
    def load(cls, folder: str | Path) -> Peers:
        """Read what `save` wrote.

        Raises `SkillNeuronsError` where it is missing, truncated, of another version, or not of the folder's run.
        """
        folder = Path(folder)
        about, content, tensors = kept(folder, NAME, FORMAT)
        if set(tensors) != {OURS, *about["orders"]}:
            raise foreign(folder / f"{NAME}.safetensors", remedy(NAME))
        scores = {order: tensors[order].numpy() for order in (OURS, *about["orders"])}
        return cls(about, scores, content["table"], content["probes"])

    def __repr__(self) -> str:
        shown = self.table().drop(columns=["top"]).round(3)
        return f"Peers of {self.about['task']} on {self.about['model']}\n{shown.to_string(index=False)}"

    def _repr_html_(self) -> str:
        return str(self.table().round(3).to_html(index=False))

    def _subtask(self, name: str | None) -> int:
        names = self.about["subtasks"]
        if name is not None and name not in names:
            raise SkillNeuronsError(f"a subtask is one of {', '.join(names)}; given: {name!r}.")
        return 0 if name is None else names.index(name)


def by_score(scores: Float[np.ndarray, " neuron"], seed: int) -> Int[np.ndarray, " neuron"]:
    """Indices by descending score, equal ones at random by `seed`."""
    return np.lexsort((np.random.default_rng(seed).random(len(scores)), -settled(scores)))


def settled(scores: Float[np.ndarray, " neuron"]) -> Float[np.ndarray, " neuron"]:
    """Scores to twelve digits of the largest: what is equal but for rounding, as means over trials are, is equal."""
    largest = np.abs(scores).max() or 1.0
    return (scores / largest).round(12) * largest
