"""Run a study: plan it, do what is missing, publish what came of it.

    result = run_study("studies/miniature.toml", store="runs/store", out="runs/miniature")
    result.failed                                 # {} where all went well
    planned(Bench(read_study("studies/miniature.toml")))         # its steps and their keys

Steps whose outputs are in the store are not done again, whoever made them: the same call goes on where a killed one
stopped. A step that another process is at is waited for; an output that is not what it was is made anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from ..progress import say
from ..tuning.bitfit import suits
from .bench import Bench
from .config import read_study
from .doing import Outcome
from .draft import Sizes, draft
from .kinds import VERSIONS
from .local import Engine, Local
from .on_ray import Place, on_ray
from .plan import Plan
from .result import StudyResult, publish
from .settle import OFTEN, broken, forget, settle
from .store import Spoiled, Store
from .workers import beside


def run_study(
    file: str | Path,
    *,
    store: str | Path = "runs/store",
    out: str | Path | None = None,
    engine: Literal["local", "ray"] = "local",
    workers: int | None = 1,
    place: Place | None = None,
    device: str = "auto",
    assets: str | Path | None = None,
) -> StudyResult:
    """Do what is missing of the study in `file`, and write its folder (`runs/<name>` unless told).

    `store`: a folder, or any address that fsspec knows; `workers`: processes that share the steps of the engine local
    (see `workers`); `place`: where Ray runs and what a step of its takes. A step that
    fails is told in the result, with its reason, and what does not need it goes on. Raises `SkillNeuronsError` for
    mistakes in the file, a task or model that cannot be loaded, a Ray that does not answer, and a store or a folder
    that cannot be used, also where its room ends on the way: what was finished before is kept.
    """
    study = read_study(file, assets)
    bench, kept = Bench(study, device), Store(store)
    plan = planned(bench)
    kept.remember(study.name, plan.keys)
    outcomes: dict[str, Outcome] = {}
    with _engine(engine, kept, bench, plan, workers, place or Place()) as work:
        for _ in range(OFTEN):
            settle(kept, plan, work, outcomes)
            try:
                return publish(study, plan, outcomes, kept, out or Path("runs") / study.name)
            except Spoiled as error:
                forget(plan, outcomes, error.key)
    raise broken(kept)


def planned(bench: Bench) -> Plan:
    """The steps of a study and their keys; its model and tasks are loaded for it."""
    biases = suits(bench.model)
    if "bitfit" in bench.study.chosen and not biases:
        say("The model's layers have no biases: BitFit is left out.")
    sizes = {name: Sizes.of(task) for name, task in bench.used.items()}
    return Plan.of(draft(bench.study, sizes, biases), VERSIONS, bench.prints)


@contextmanager
def _engine(name: str, store: Store, bench: Bench, plan: Plan, workers: int | None, place: Place) -> Iterator[Engine]:
    if name == "local":
        with beside(store, bench, plan, workers):
            yield Local(store, bench, plan)
        return
    with on_ray(bench.study, store, plan, place, bench.device) as engine:
        yield engine
