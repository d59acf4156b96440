"""Run a study: plan it, do what is missing, publish what came of it.

    result = run_study("studies/miniature.toml", store="runs/store", out="runs/miniature")
    result.failed                                 # {} where all went well
    planned(Bench(read_study("studies/miniature.toml")))         # its steps and their keys

Steps whose outputs are in the store are not done again, whoever made them: the same call goes on where a killed one
stopped. A step that another process is at is waited for; an output that is not what it was is made anew.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from ..errors import SkillNeuronsError
from ..progress import progress, say
from ..tuning.bitfit import suits
from .bench import Bench
from .config import read_study
from .draft import Sizes, draft
from .kinds import VERSIONS
from .local import Engine, Local
from .on_ray import Place, on_ray
from .plan import Plan
from .result import StudyResult, publish
from .store import Spoiled, Store
from .work import Outcome

WAITS = (0.3, 5.0)
"""Seconds after which steps that other processes were at are tried again: at first, and at most."""
OFTEN = 3
"""Times that one output may be made anew in a study's course."""


def run_study(
    file: str | Path,
    *,
    store: str | Path = "runs/store",
    out: str | Path | None = None,
    engine: Literal["local", "ray"] = "local",
    place: Place | None = None,
    device: str = "auto",
    assets: str | Path | None = None,
) -> StudyResult:
    """Do what is missing of the study in `file`, and write its folder (`runs/<name>` unless told).

    `store`: a folder, or any address that fsspec knows; `place`: where Ray runs and what a step takes. A step that
    fails is told in the result, with its reason, and what does not need it goes on. Raises `SkillNeuronsError` for
    mistakes in the file, a task or model that cannot be loaded, a Ray that does not answer, and a store or a folder
    that cannot be used, also where its room ends on the way: what was finished before is kept.
    """
    study = read_study(file, assets)
    bench, kept = Bench(study, device), Store(store)
    plan = planned(bench)
    kept.remember(study.name, plan.keys)
    outcomes: dict[str, Outcome] = {}
    with _engine(engine, kept, bench, plan, place or Place()) as work:
        for _ in range(OFTEN):
            settle(kept, plan, work, outcomes)
            try:
                return publish(study, plan, outcomes, kept, out or Path("runs") / study.name)
            except Spoiled as error:
                forget(plan, outcomes, error.key)
    raise _broken(kept)


def settle(store: Store, plan: Plan, engine: Engine, outcomes: dict[str, Outcome]) -> None:
    """Have the engine do what has no outcome yet, until every step has one that will not change.

    Raises `SkillNeuronsError` where an output is spoiled again and again.
    """
    spoiled: Counter[str] = Counter()
    wait, most = WAITS
    with progress("study", len(plan.steps), "steps", done=len(outcomes)) as advance:

        def tell(own: Outcome) -> None:
            if own.state == "failed":
                say(f"{own.name} failed: {own.reason}", style="red")
            if own.state not in ("busy", "spoiled"):
                advance(1, note=f"{own.name}, {own.seconds:.1f} s" if own.state == "made" else None)

        while left := [name for name in plan.steps if name not in outcomes]:
            found = engine(left, tell)
            outcomes |= {name: own for name, own in found.items() if own.state not in ("busy", "spoiled")}
            for own in found.values():
                if own.state == "spoiled":
                    spoiled[own.reason] += 1
                    forget(plan, outcomes, own.reason)
            if spoiled and max(spoiled.values()) > OFTEN * len(plan.steps):
                raise _broken(store)
            if any(own.state in ("made", "kept", "spoiled") for own in found.values()):
                wait = WAITS[0]
            elif len(outcomes) < len(plan.steps):
                time.sleep(wait)
                wait = min(2 * wait, most)


def forget(plan: Plan, outcomes: dict[str, Outcome], key: str) -> None:
    """An output is to be made anew."""
    for name, own in plan.keys.items():
        if own == key:
            outcomes.pop(name, None)


def _broken(store: Store) -> SkillNeuronsError:
    return SkillNeuronsError(
        f"what is written into {store.address} is not what is read from it, again and again. See to the disk or the "
        "connection, or choose another store."
    )


def planned(bench: Bench) -> Plan:
    """The steps of a study and their keys; its model and tasks are loaded for it."""
    biases = suits(bench.model)
    if "bitfit" in bench.study.chosen and not biases:
        say("The model's layers have no biases: BitFit is left out.")
    sizes = {name: Sizes.of(task) for name, task in bench.used.items()}
    return Plan.of(draft(bench.study, sizes, biases), VERSIONS, bench.prints)


@contextmanager
def _engine(name: str, store: Store, bench: Bench, plan: Plan, place: Place) -> Iterator[Engine]:
    if name == "local":
        yield Local(store, bench, plan)
        return
    with on_ray(bench.study, store, plan, place, bench.device) as engine:
        yield engine
