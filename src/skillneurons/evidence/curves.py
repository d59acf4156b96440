"""Perturbation curves: accuracy against the share of neurons perturbed (paper, section 4.2, Figures 4 and 11).

    curves = perturb(model, skill)                                # the run's order, its reverse, five random ones
    curves = perturb(model, sst2, orders=[of_run("imdb", imdb)])  # and another run's
    curves.means(); curves.advantage(); curves.verdict; curves.plot()
    curves.save("runs/sst2"); Curves.load("runs/sst2")

Neurons are perturbed in the given order while the trial's own prompt answers, on all tokens: Gaussian noise by default.
Sets are nested, samples and prompts the same for every order. With `out` points are kept as they are found: the same
call goes on after the last one, or that of a second before where it was killed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
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
from scipy.stats import t as student

from ..errors import SkillNeuronsError
from ..figures import FAINT, drawing, legend, line, words
from ..files import digest
from ..finding.beside import there
from ..finding.measure import interval
from ..finding.skill import SkillNeurons
from ..finding.standing import refuse_foreign
from ..finding.stored import store, stored
from ..models import Backbone, Baseline, Noise, Scale, Zero
from ..models.edits import AddedEdit, Edit, PlacedEdit
from ..progress import progress, say
from ..tuning.evaluate import evaluate_inputs
from ..tuning.inputs import Inputs
from ..tuning.prompt import seed_of
from ..tuning.tuned import Tuned
from .claims import Paired, paired
from .config import PerturbConfig
from .orders import Order, drawn, of_run
from .result import Evidence, told
from .spread import spread
from .verdict import POINT, judged, points, untold, verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SKILL, BOTTOM, RANDOM = "skill", "bottom", "random"
UNKEPT = 1.0
"""Seconds of points that a kill may cost, for a file takes longer to write than a small model to answer."""


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
    **options: Any,
) -> Curves:
    """Perturb the neurons of `model` in the order of `skill`, and in others, under the prompts of `skill`.

    Options are those of `PerturbConfig`; `orders` stand beside the run's, its reverse and random ones. `tuned`: what
    answers in the prompts' place, such as adapters for the same task (Figures 7, 12, 13). `out`: where finished points
    are kept: the same call goes on where a killed one stopped, and returns at once where all are there. Raises
    `SkillNeuronsError` where the run is of another model, or two orders have one name.
    """
    config = config or PerturbConfig.make(**options)
    refuse_foreign(model, skill)
    given = _orders(skill, orders, config)
    if tuned and config.edit == "baseline":
        raise SkillNeuronsError(
            "baselines are means beside a prompt, which other methods do not have. Choose another --edit for them."
        )
    points = _Points(model, skill, given, config, None if out is None else Path(out), tuned)
    if out is not None and there(Path(out), Curves.name):
        kept = Curves.load(out)
        if kept.about["made"] == points.about["identity"]:
            return kept
    rows, right = [], []
    for order, trial, share, found in points.all():
        accuracy = float(found.mean())
        place = {"order": order.name, "draw": order.draw, "trial": trial, "share": share}
        rows.append({**place, "neurons": len(order.first(share)), "accuracy": accuracy})
        right.append(found)
    about = told(Curves.version, config, skill) | {
        "made": points.about["identity"],
        "model": skill.about["model"], "task": skill.about["task"], "kind": skill.about["kind"],
        "trials": len(tuned or skill.prompts), "by": tuned[0].method.method if tuned else "prompts",
        "majority": points.task.majority(config.split), "edit": _named(config),
        "shares": list(config.shares), "orders": list(dict.fromkeys(order.name for order in given)),
    }  # fmt: skip
    curves = Curves(about, rows, {"right": torch.from_numpy(np.stack(right).astype(np.uint8))})
    if out is not None:
        curves.save(out)
        points.tidy()
    return curves


def _orders(skill: SkillNeurons, others: Sequence[Order], config: PerturbConfig) -> list[Order]:
    """The run's, its reverse, the others, the random ones."""
    own = of_run(SKILL, skill, config.scope)
    named = [own, *([of_run(BOTTOM, skill, config.scope, bottom=True)] if config.bottom else []), *others]
    for order in named:
        if tuple(map(len, order.layers)) != skill.widths:
            raise SkillNeuronsError(
                f"an order belongs to the model it was made in: {order.name} has layers of "
                f"{list(map(len, order.layers))} neurons, this run has {list(skill.widths)}. Take one of this model."
            )
    names = [order.name for order in named] + [RANDOM]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SkillNeuronsError(f"each order has a name of its own; given twice: {', '.join(twice)}.")
    return [*named, *(drawn(own, config.seed, draw) for draw in range(config.draws))]


class _Points:
    """The points of the curves, each evaluated once, kept in a file as they are found."""

    def __init__(
        self,
        model: Backbone,
        skill: SkillNeurons,
        orders: Sequence[Order],
        config: PerturbConfig,
        out: Path | None,
        tuned: Sequence[Tuned],
    ) -> None:
        self.model, self.skill, self.orders, self.config, self.tuned = model, skill, orders, config, tuned
        self.prompts = [own.prompt for own in tuned] or skill.prompts
        self.task = skill.task.limited(**{config.split: config.limit})
        self.inputs = [Inputs.beside(model, self.task, prompt) for prompt in self.prompts]
        self.spreads: dict[int, list[torch.Tensor]] = {}
        self.path = None if out is None else out / "curves.unfinished.safetensors"
        parts = (skill.about["identity"], config.fingerprint(), *(order.fingerprint for order in orders))
        parts += tuple(own.identity for own in tuned)
        self.about = {"identity": digest(*parts)}
        self.right = self._kept()
        self.stored, self.when = len(self.right), time.monotonic()

    def all(self) -> Iterator[tuple[Order, int, float, Bool[np.ndarray, " sample"]]]:
        """Every (order, trial, share) with the samples that were right."""
        config, trials, shares = self.config, range(len(self.inputs)), self.config.shares
        total = len(trials) * (1 + len(self.orders) * (len(shares) - 1))
        began, before = time.monotonic(), len(self.right)
        with progress(f"perturbing {self.skill.about['task']}", total, "points", done=before) as advance:
            for trial in trials:
                self._point(self.orders[0], trial, 0.0, advance)
            if (more := len(self.right) - before) and total > len(trials):
                seconds = (time.monotonic() - began) / more
                say(f"{total} points of about {seconds:.2g} s: {_duration(seconds * (total - len(trials)))}")
            areas: list[float] = []
            for order in self.orders:
                if order.name == RANDOM and _known(areas, config.narrow):
                    say(f"{len(areas)} random orders are enough for {config.narrow:g} points")
                    break
                try:
                    own = [[self._point(order, trial, share, advance) for share in shares] for trial in trials]
                finally:
                    self._keep()
                if order.name == RANDOM:
                    curve = np.mean(own, axis=(0, 2))
                    areas.append(100 * float(np.trapezoid(curve, shares)) / (shares[-1] - shares[0]))
                for trial, curves in zip(trials, own, strict=True):
                    for share, found in zip(shares, curves, strict=True):
                        yield order, trial, share, found

    def tidy(self) -> None:
        """Everything is known: the file of points is no longer needed."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _point(self, order: Order, trial: int, share: float, advance: Any) -> Bool[np.ndarray, " sample"]:
        key = f"{trial}/{order.name}/{order.draw}/{share}" if share else f"{trial}"
        if key not in self.right:
            inputs, prompt = self.inputs[trial], self.prompts[trial]
            with self.tuned[trial].applied(self.model) if self.tuned else nullcontext():
                edit = self._edit(trial, order.draw, share)
                with self.model.edit(order.first(share), edit, self.config.tokens):
                    found = evaluate_inputs(inputs, prompt.embedding, self.config.split, label=None)
            self.right[key] = found.correct
            advance(1, note=f"{order.name}, {share:.0%}: {found.accuracy:.3f}" if share else None)
            if time.monotonic() > self.when + UNKEPT:
                self._keep()
        return self.right[key]

    def _keep(self) -> None:
        """Write the points that are known to the file, unless it has them."""
        if self.path is not None and len(self.right) > self.stored:
            store(self.path, {name: torch.from_numpy(own) for name, own in self.right.items()}, self.about)
            self.stored, self.when = len(self.right), time.monotonic()

    def _edit(self, trial: int, draw: int, share: float) -> Edit | PlacedEdit | AddedEdit:
        config = self.config
        if config.edit == "zero":
            return Zero()
        if config.edit == "scale":
            return Scale(config.factor)
        if config.edit == "baseline":
            return Baseline([self.skill.scores[trial].mean(layer) for layer in range(self.model.layers)])
        if config.relative and trial not in self.spreads:
            self.spreads[trial] = spread(self.model, self.skill.task, self.prompts[trial])
        seed = seed_of(config.seed, trial, draw, round(1e6 * share))
        return Noise(config.std, config.per, self.spreads[trial] if config.relative else None, seed)

    def _kept(self) -> dict[str, Bool[np.ndarray, " sample"]]:
        """The points that an earlier call for the same curves found."""
        if self.path is None or not self.path.exists():
            return {}
        try:
            tensors, about = stored(self.path, "")
            return {name: tensors[name].numpy() for name in tensors} if about == self.about else {}
        except SkillNeuronsError:
            return {}  # half a file costs its points and no more


def _known(areas: Sequence[float], narrow: float | None) -> bool:
    """Whether 95 % of Student's t around the mean of the draws' areas is narrow enough."""
    if narrow is None or len(areas) < 2:
        return False
    return bool(student.ppf(0.975, len(areas) - 1) * np.std(areas, ddof=1) / np.sqrt(len(areas)) <= narrow)


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


def _duration(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {seconds:.0f} s"
