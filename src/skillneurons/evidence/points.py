"""The points of perturbation curves: which samples are right while some share of an order is perturbed.

    known = points_of(model, skill, "start")                            # the answers as they are
    known |= points_of(model, skill, "own", known=known)                # the run's order, its reverse, random ones
    known |= points_of(model, skill, "others", orders=orders, known=known)
    perturb(model, skill, orders=orders, known=known)                   # the curves, as one call makes them

The parts may be found in any processes; each needs `start`. A point is named after its trial, order, draw and share.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool
from scipy.stats import t as student

from ..errors import SkillNeuronsError
from ..files import digest
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
from .config import PerturbConfig
from .orders import Order, drawn, of_run
from .spread import spread

SKILL, BOTTOM, RANDOM = "skill", "bottom", "random"
SPREAD = "spread."
"""Before the names of spreads, among those of points."""
UNKEPT = 1.0
"""Seconds of points that a kill may cost, for a file takes longer to write than a small model to answer."""


def points_of(
    model: Backbone,
    skill: SkillNeurons,
    part: Literal["start", "own", "others"],
    *,
    orders: Sequence[Order] = (),
    tuned: Sequence[Tuned] = (),
    config: PerturbConfig | None = None,
    out: str | Path | None = None,
    known: Mapping[str, torch.Tensor] | None = None,
    **options: Any,
) -> dict[str, torch.Tensor]:
    """A part of the points of curves, for `perturb`, whose options it takes: which samples were right, each [sample].

    `start`: nothing perturbed, and the spreads [neuron] of the layers where the noise is relative to them, which the
    other parts begin from; `own`: the run's order, its reverse and random ones; `others`: `orders`. Points of `known`
    are not found again, and not returned.
    """
    config = config or PerturbConfig.make(**options)
    given = list(orders) if part == "others" else orders_of(skill, (), config)
    points = Points(model, skill, given, config, None if out is None else Path(out), tuned, known or {})
    if part == "start":
        points.begin()
    else:
        for _ in points.all():
            pass
    return {name: own for name, own in points.tensors().items() if name not in (known or {})}


def orders_of(skill: SkillNeurons, others: Sequence[Order], config: PerturbConfig) -> list[Order]:
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


class Points:
    """The points of the curves, each evaluated once, kept in a file as they are found."""

    def __init__(
        self,
        model: Backbone,
        skill: SkillNeurons,
        orders: Sequence[Order],
        config: PerturbConfig,
        out: Path | None,
        tuned: Sequence[Tuned],
        known: Mapping[str, torch.Tensor],
    ) -> None:
        refuse_foreign(model, skill)
        if tuned and config.edit == "baseline":
            raise SkillNeuronsError(
                "baselines are means beside a prompt, which other methods do not have. Choose another --edit for them."
            )
        self.model, self.skill, self.orders, self.config, self.tuned = model, skill, orders, config, tuned
        self.prompts = [own.prompt for own in tuned] or skill.prompts
        self.task = skill.task.limited(**{config.split: config.limit})
        self.inputs = [Inputs.beside(model, self.task, prompt) for prompt in self.prompts]
        self.spreads: dict[int, list[torch.Tensor]] = {
            trial: [known[f"{SPREAD}{trial}.{layer}"] for layer in range(model.layers)]
            for trial in range(len(self.inputs))
            if f"{SPREAD}{trial}.0" in known
        }
        self.path = None if out is None else out / "curves.unfinished.safetensors"
        parts = (skill.about["identity"], config.fingerprint(), *(order.fingerprint for order in orders))
        parts += tuple(own.identity for own in tuned)
        self.about = {"identity": digest(*parts)}
        self.right = {name: known[name].numpy() for name in known if not name.startswith(SPREAD)} | self._kept()
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

    def begin(self) -> None:
        """What all orders begin from."""
        for trial in range(len(self.inputs)):
            self._point(self.orders[0], trial, 0.0, lambda *_, **__: None)
            if self.config.relative:
                with self._applied(trial):
                    self._spread(trial)

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that is known."""
        found = {name: torch.from_numpy(own) for name, own in self.right.items()}
        for trial, layers in self.spreads.items():
            found |= {f"{SPREAD}{trial}.{layer}": own for layer, own in enumerate(layers)}
        return found

    def tidy(self) -> None:
        """Everything is known: the file of points is no longer needed."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _point(self, order: Order, trial: int, share: float, advance: Any) -> Bool[np.ndarray, " sample"]:
        key = f"{trial}/{order.name}/{order.draw}/{share}" if share else f"{trial}"
        if key not in self.right:
            inputs, prompt = self.inputs[trial], self.prompts[trial]
            with self._applied(trial):
                edit = self._edit(trial, order.draw, share)
                with self.model.edit(order.first(share), edit, self.config.tokens):
                    found = evaluate_inputs(inputs, prompt.embedding, self.config.split, label=None)
            self.right[key] = found.correct
            advance(1, note=f"{order.name}, {share:.0%}: {found.accuracy:.3f}" if share else None)
            if time.monotonic() > self.when + UNKEPT:
                self._keep()
        return self.right[key]

    def _applied(self, trial: int) -> AbstractContextManager[None]:
        return self.tuned[trial].applied(self.model) if self.tuned else nullcontext()

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
        seed = seed_of(config.seed, trial, draw, round(1e6 * share))
        return Noise(config.std, config.per, self._spread(trial) if config.relative else None, seed)

    def _spread(self, trial: int) -> list[torch.Tensor]:
        if trial not in self.spreads:
            self.spreads[trial] = spread(self.model, self.skill.task, self.prompts[trial])
        return self.spreads[trial]

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


def _duration(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {seconds:.0f} s"
