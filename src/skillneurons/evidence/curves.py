"""Perturbation curves: accuracy against the share of neurons perturbed (paper, section 4.2, Figures 4 and 11).

    curves = perturb(model, skill)                                # the run's order, its reverse, five random ones
    curves = perturb(model, sst2, orders=[of_run("imdb", imdb)])  # and another run's
    curves.means(); curves.advantage(); curves.verdict; curves.plot()
    curves.save("runs/sst2"); Curves.load("runs/sst2")

Neurons are perturbed in the given order while the trial's own prompt answers, on all tokens: Gaussian noise by default.
Sets are nested, samples and prompts the same for every order. With `out` points are kept as they are found: the same
call goes on after the last one, or that of a second before where it was killed (see `points`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..errors import SkillNeuronsError
from ..figures import FAINT, drawing, legend, line, words
from ..finding.beside import there
from ..finding.measure import interval
from ..finding.skill import SkillNeurons
from ..models import Backbone
from ..tuning.tuned import Tuned
from .claims import Paired, paired
from .config import PerturbConfig
from .orders import Order
from .points import BOTTOM, RANDOM, SKILL, Points, orders_of
from .result import Evidence, told
from .verdict import POINT, judged, points, untold, verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BOTTOM", "RANDOM", "SKILL", "Curves", "perturb"]


@dataclass(frozen=True, eq=False, repr=False)
class Curves(Evidence):
    """Accuracy under perturbation: a row for every (order, draw, trial, share); `right` says which samples were."""

    name: ClassVar[str] = "curves"

    @property
    def orders(self) -> list[str]:
        """The orders' names, the run's first."""
        return list(self.about["orders"])

    @property
    def shares(self) -> Float[np.ndarray, " share"]:
        """The shares of neurons perturbed, ascending from 0."""
        return np.array(self.about["shares"])

    @cached_property
    def _right(self) -> dict[str, Bool[np.ndarray, "draw trial share sample"]]:
        count = len(self.shares)
        right = self.arrays["right"].numpy().astype(bool)
        trials = self.about["trials"]
        found = {}
        for order in self.orders:
            own = np.array([row["order"] == order for row in self.rows])
            found[order] = right[own].reshape(-1, trials, count, right.shape[-1])
        return found

    def means(self) -> pd.DataFrame:
        """One row per (order, share): accuracy over trials and draws, its 95 % interval over samples.

        `least` and `largest` are the extremes of the draws' (or the one order's trials') own accuracies.
        """
        rows = []
        for order, right in self._right.items():
            for index, share in enumerate(self.shares):
                point = right[:, :, index]
                each = point.mean((1, 2)) if len(point) > 1 else point[0].mean(1)
                sample = point.mean((0, 1))
                rows.append(
                    {
                        "order": order, "share": share, "accuracy": sample.mean(),
                        **interval([sample], self.about["config"]["seed"]), "least": each.min(), "largest": each.max(),
                    }
                )  # fmt: skip
        return pd.DataFrame(rows)

    def area(self, *orders: str) -> Float[np.ndarray, " sample"]:
        """Each sample's area under the curve, over trials and draws: the trapezoid over the shares, over their range.

        Their mean is the accuracy on the average over the shares. Of several `orders`, the mean of their areas.
        """
        for order in orders:
            self._refuse(order)
        right = np.mean([self._right[order].mean((0, 1)) for order in orders], axis=0)
        return np.trapezoid(right, self.shares, axis=0) / (self.shares[-1] - self.shares[0])

    def advantage(self, order: str | Sequence[str] = SKILL, against: str | Sequence[str] = RANDOM) -> Paired:
        """How much more accuracy perturbing in `order` costs than `against`, between the curves, paired by sample.

        Either may be several orders: those of tasks of one kind against those of others, say.
        """
        costly, cheap = ([own] if isinstance(own, str) else own for own in (order, against))
        return paired(self.area(*cheap) - self.area(*costly), self.about["config"]["seed"])

    @property
    def verdict(self) -> str:
        """Whether the run's order costs more accuracy than random ones, in plain words.

        It holds where the 95 % interval of `advantage` lies above 0, and does not where it reaches nowhere beyond one
        point. Answers that are no better than the commonest label leave nothing to tell.
        """
        plain, own = float(self._right[SKILL][:, :, 0].mean()), self.advantage()
        if plain <= self.about["majority"]:
            return untold(
                f"before anything is perturbed, the answers do not beat the commonest label ({100 * plain:.1f} % "
                f"against {100 * self.about['majority']:.1f} %). Tune for longer."
            )
        outcome = judged(own.low, own.high)
        said = verdict(
            outcome,
            "perturbing skill neurons costs more accuracy than perturbing random ones",
            "perturbing random neurons costs as much accuracy as perturbing skill neurons",
            f"{_told(own)}, on the average over up to {100 * self.shares[-1]:g} % of the neurons",
        )
        lost = [abs(plain - self.area(order).mean()) for order in (SKILL, RANDOM)]
        if outcome == "holds" or max(lost) > POINT:
            return said
        config = self.about["config"]
        why = "the noise is too small for this model, try " + ("a larger --std" if config["relative"] else "--relative")
        if config["edit"] != "noise":
            why = "try more neurons (--most)"
        return f"{said} On the average neither order moves the accuracy by more than a point: {why}."

    def plot(self, ax: Axes | None = None, orders: Sequence[str] = ()) -> Axes:
        """The curves with their 95 % intervals over samples (Figure 4): of some `orders`, or of all."""
        for order in orders:
            self._refuse(order)
        means = self.means()
        with drawing(ax) as ax:
            for index, order in enumerate(orders or self.orders):
                own = means[means["order"] == order]
                shares, style = 100 * own["share"], line(index)
                several = len(self._right[order]) > 1
                label = f"{words(order)}, mean of {len(self._right[order])}" if several else words(order)
                ax.plot(shares, 100 * own["accuracy"], label=label, **style)
                ax.fill_between(shares, 100 * own["low"], 100 * own["high"], color=style["color"], alpha=0.15, lw=0)
            ax.axhline(100 * self.about["majority"], color=FAINT, linestyle=":", label="one answer for all")
            ax.set_xlabel(f"neurons perturbed, % of {'each layer' if self._of_layers else 'all'}")
            ax.set_ylabel(f"accuracy on {self.about['config']['split']}, %")
            by = "" if self.about["by"] == "prompts" else f" ({self.about['by']})"
            ax.set_title(f"{words(self.about['task'])}{by}: {words(self.about['edit'], 60)}")
            legend(ax)
        return ax

    def screen(self) -> RenderableType:
        """The curves at some shares, what each order costs more than random ones, and the verdict."""
        means = {(row["order"], row["share"]): row["accuracy"] for row in self.means().to_dict("records")}
        shown = [float(share) for share in self.shares[:: max(1, (len(self.shares) - 1) // 4)]]
        grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title_justify="left")
        grid.title = f"{self.about['task']}: accuracy on {self.about['config']['split']}, {self.about['edit']}"
        grid.add_column("neurons perturbed")
        for share in shown:
            grid.add_column(f"{100 * share:g} %", justify="right")
        grid.add_column("more than random", justify="right")
        for order in self.orders:
            cells = [f"{100 * means[order, share]:.1f} %" for share in shown]
            grid.add_row(order, *cells, "" if order == RANDOM else _told(self.advantage(order)))
        return Group(grid, Text(self.verdict))

    @property
    def _of_layers(self) -> bool:
        return bool(self.about["config"]["scope"] == "layer")

    def _refuse(self, order: str) -> None:
        if order not in self.orders:
            raise SkillNeuronsError(f"an order of these curves is one of {', '.join(self.orders)}; given: {order!r}.")


def perturb(
    model: Backbone,
    skill: SkillNeurons,
    *,
    orders: Sequence[Order] = (),
    tuned: Sequence[Tuned] = (),
    config: PerturbConfig | None = None,
    out: str | Path | None = None,
    known: Mapping[str, torch.Tensor] | None = None,
    **options: Any,
) -> Curves:
    """Perturb the neurons of `model` in the order of `skill`, and in others, under the prompts of `skill`.

    Options are those of `PerturbConfig`; `orders` stand beside the run's, its reverse and random ones. `tuned`: what
    answers in the prompts' place, such as adapters for the same task (Figures 7, 12, 13). `out`: where finished points
    are kept: the same call goes on where a killed one stopped, and returns at once where all are there. `known`: points
    that `points_of` has found by the same options, each [sample]. Raises `SkillNeuronsError` where the run is of
    another model, or two orders have one name.
    """
    config = config or PerturbConfig.make(**options)
    given = orders_of(skill, orders, config)
    found = Points(model, skill, given, config, None if out is None else Path(out), tuned, known or {})
    if out is not None and there(Path(out), Curves.name):
        kept = Curves.load(out)
        if kept.about["made"] == found.about["identity"]:
            return kept
    rows, right = [], []
    for order, trial, share, own in found.all():
        accuracy = float(own.mean())
        place = {"order": order.name, "draw": order.draw, "trial": trial, "share": share}
        rows.append({**place, "neurons": len(order.first(share)), "accuracy": accuracy})
        right.append(own)
    about = told(Curves.version, config, skill) | {
        "made": found.about["identity"],
        "model": skill.about["model"], "task": skill.about["task"], "kind": skill.about["kind"],
        "trials": len(tuned or skill.prompts), "by": tuned[0].method.method if tuned else "prompts",
        "majority": found.task.majority(config.split), "edit": _named(config),
        "shares": list(config.shares), "orders": list(dict.fromkeys(order.name for order in given)),
    }  # fmt: skip
    curves = Curves(about, rows, {"right": torch.from_numpy(np.stack(right).astype(np.uint8))})
    if out is not None:
        curves.save(out)
        found.tidy()
    return curves


def _named(config: PerturbConfig) -> str:
    where = "" if config.tokens == "all" else f" at the {config.tokens}"
    if config.edit == "noise":
        unit = " of each neuron's spread" if config.relative else ""
        return f"noise {config.std:g}{unit}{', per token' if config.per == 'token' else ''}{where}"
    return {"zero": "set to 0", "baseline": "set to the baseline", "scale": f"times {config.factor:g}"}[
        config.edit
    ] + where


def _told(found: Paired) -> str:
    p = "< 0.001" if found.p < 0.001 else f"{found.p:.3f}"
    return f"{points(found.difference, found.low, found.high)}, p {p}"
