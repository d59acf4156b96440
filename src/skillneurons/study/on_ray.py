"""The engine on a Ray cluster, where one machine is not enough; needs the extra `ray`.

    with on_ray(study, store, plan, Place(address="auto", gpus=0.5)) as engine:
        outcomes = engine(names, tell)

Ray schedules the steps after their inputs, places them by the CPUs and GPUs that each takes, and gives a step whose
worker died to another one. A worker keeps its model and tasks from one step to the next. What the driver holds are
outcomes alone: outputs go through the store, which every machine must reach under the same address, as it must the
model and the tasks.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field

from ..config import Config
from ..errors import SkillNeuronsError
from .bench import Bench
from .config import StudyConfig
from .doing import Outcome, do
from .plan import Plan
from .store import Store

if TYPE_CHECKING:
    from .local import Engine, Tell

LOST = 3
"""Workers that a step may lose."""
ANSWER = 10.0
"""Seconds in which a cluster answers."""


class Place(Config):
    """Where Ray runs, and what each step takes of a machine."""

    address: str | None = None
    """Of the cluster; auto: the one this machine belongs to; without it, one is started here."""
    cpus: Annotated[float, Field(gt=0)] = 1
    """CPUs of a step, and its threads."""
    gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs of a step; a half lets two steps share one."""


@contextmanager
def on_ray(study: StudyConfig, store: Store, plan: Plan, place: Place, device: str = "auto") -> Iterator[Engine]:
    """An engine on the cluster, which is left when the block ends.

    Raises `SkillNeuronsError` without Ray, where the address does not answer, and for a store that is a relative path
    or in memory.
    """
    try:
        import ray
    except ImportError:
        raise SkillNeuronsError(
            "the engine ray needs Ray, which is not installed. Install skillneurons[ray], or use --engine local."
        ) from None
    began = not ray.is_initialized()
    if began:
        try:
            _knock(place.address)  # for Ray itself waits for minutes
            ray.init(address=place.address, log_to_driver=False, include_dashboard=False, configure_logging=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise SkillNeuronsError(
                f"the Ray cluster {place.address or 'on this machine'} does not answer: {error}. Start it with `ray "
                "start --head`, give its --ray.address, or use --engine local."
            ) from None
    address = store.address if store.files.folder is None else str(store.files.folder.resolve())
    shared = ray.put((study.model_dump_json(), device, place.cpus, address, store.lease, plan))
    remote = ray.remote(num_cpus=place.cpus, num_gpus=place.gpus, max_retries=LOST)(_step)

    def engine(names: Sequence[str], tell: Tell) -> dict[str, Outcome]:
        waiting: dict[Any, str] = {}
        by_name: dict[str, Any] = {}
        for name in names:
            inputs = [by_name[other] for other in plan.steps[name].inputs if other in by_name]
            by_name[name] = remote.options(name=name).remote(shared, name, *inputs)
            waiting[by_name[name]] = name
        outcomes: dict[str, Outcome] = {}
        while waiting:
            [ready], _ = ray.wait(list(waiting), num_returns=1)
            name = waiting.pop(ready)
            try:
                outcomes[name] = ray.get(ready)
            except ray.exceptions.RayError as error:  # its workers died, or those of an input
                if isinstance(cause := getattr(error, "cause", None), SkillNeuronsError):
                    raise cause from None  # the store's: of no step alone
                outcomes[name] = _lost(name, plan, outcomes, str(error).splitlines()[0])
            tell(outcomes[name])
        return {name: outcomes[name] for name in names}

    try:
        yield engine
    finally:
        if began:
            ray.shutdown()


def _knock(address: str | None) -> None:
    """Raise `OSError` where nobody listens at a host:port."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), ANSWER).close()


def _lost(name: str, plan: Plan, outcomes: dict[str, Outcome], reason: str) -> Outcome:
    """What became of a step that gave no outcome: an input's loss is passed on."""
    for other in plan.steps[name].inputs:
        if other in outcomes and outcomes[other].state in ("failed", "skipped"):
            own = outcomes[other]
            return Outcome(name, "skipped", own.name if own.state == "failed" else own.reason)
    return Outcome(name, "failed", f"{LOST + 1} workers died of it: {reason}")


def _step(shared: tuple[str, str, float, str, float, Plan], name: str, *inputs: Outcome) -> Outcome:
    """One step, on a worker."""
    study, device, cpus, address, lease, plan = shared
    torch.set_num_threads(max(1, int(cpus)))
    return do(_store(address, lease), _bench(study, device), plan, name, inputs)


@lru_cache(maxsize=1)
def _bench(study: str, device: str) -> Bench:
    return Bench(StudyConfig.model_validate_json(study), device)


@lru_cache(maxsize=1)
def _store(address: str, lease: float) -> Store:
    return Store(address, lease)
