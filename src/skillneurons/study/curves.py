"""Curves as steps: what is tuned in the prompts' place, the points of each order, all of them, what they tell.

    tune_method(work); points(work); curves(work); importance(work)

Each order's points are a step of their own, which machines may share, and begin from those of `start`. They come
together to the very curves that one call of `perturb` gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from ..evidence.config import PerturbConfig
from ..evidence.curves import Curves, perturb
from ..evidence.importance import Importance, mean_importance, of_curves
from ..evidence.orders import Order, of_run, of_scores
from ..evidence.points import points_of
from ..evidence.selectivity import Selectivity
from ..files import digest
from ..finding.stored import store, stored
from ..tuning.config import AdapterConfig, BitFitConfig, TuneConfig
from ..tuning.tuned import Method, Tuned, tune_weights
from .work import REMEDY, Work

METHODS: Mapping[str, type[Method]] = {"adapter": AdapterConfig, "bitfit": BitFitConfig}
POINTS = "points.safetensors"


def tune_method(work: Work) -> None:
    """Adapters or biases of all trials."""
    method = METHODS[work.step.config["method"]["method"]].make(**work.step.config["method"])
    config = TuneConfig.make(**work.step.config["tuning"])
    for trial, tuned in enumerate(tune_weights(work.model, work.task, method, config=config, out=work.state)):
        own = replace(tuned, identity=digest(work.key, str(trial)))
        own.save(work.out / f"{method.method}-{trial}.safetensors")


def points(work: Work) -> None:
    """A part of the points of curves; kept as they are found."""
    config, part = PerturbConfig.make(**work.step.config["curves"]), work.step.config["part"]
    found = points_of(
        work.model, work.skill(), part, orders=_orders(work, config), tuned=_tuned(work), config=config, out=work.state,
        known=_known(work),
    )  # fmt: skip
    store(work.out / POINTS, found, {})


def curves(work: Work) -> None:
    """Perturbation curves of points that are known."""
    config = work.options(PerturbConfig)
    orders, tuned = _orders(work, config), _tuned(work)
    perturb(work.model, work.skill(), orders=orders, tuned=tuned, config=config, known=_known(work)).save(work.out)


def importance(work: Work) -> None:
    """The importance that curves tell; of several ways of tuning, their mean."""
    found: list[Importance] = []
    for of in work.step.config["of"]:
        own = {task: Curves.load(work.inputs[f"{of}/{task}"]) for task in work.step.tasks}
        found.append(of_curves(own, *work.skills()))
    (found[0] if len(found) == 1 else mean_importance(*found)).save(work.out)


def _orders(work: Work, config: PerturbConfig) -> list[Order]:
    """Those of the other tasks among the inputs, then by index."""
    own, *others = work.step.tasks
    orders = [of_run(other, work.skill(other), config.scope) for other in others]
    if (folder := work.inputs.get(f"selectivity/{own}")) is not None:
        found = Selectivity.load(folder)
        widths = work.skill().widths
        orders += [of_scores(name, by, widths, config.seed, config.scope) for name, by in found.orders().items()]
    return orders


def _tuned(work: Work) -> list[Tuned]:
    """What answers in the prompts' place, by trials; nothing where prompts do."""
    return [
        Tuned.load(path)
        for name, folder in work.inputs.items()
        if name.startswith("tuned-")
        for path in sorted(folder.glob("*.safetensors"), key=lambda path: int(path.stem.rpartition("-")[2]))
    ]


def _known(work: Work) -> dict[str, Tensor]:
    """The points that the inputs have."""
    files = [folder / POINTS for name, folder in work.inputs.items() if work.plan.steps[name].kind == "points"]
    return {name: own for file in files for name, own in stored(file, REMEDY)[0].items()}
