"""More processes at the steps of one plan, on this machine.

    with beside(store, bench, plan, workers=2):           # one more process works while the block runs
        settle(store, plan, Local(store, bench, plan), outcomes)

They do what this process does: take the next step that nobody has leased. A small model's matrix products do not keep
several threads busy, but several steps do; so without a number it is one process a core where the model is small, and
one alone where it is large or runs on a GPU. A worker ends with the block, and with the process that began it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from ..models import Backbone
from ..progress import quiet
from .bench import Bench
from .config import StudyConfig
from .local import Local
from .plan import Plan
from .settle import settle
from .store import Store

SMALL = 50_000_000
"""Parameters of a model below which steps share a machine better than threads do."""


@contextmanager
def beside(store: Store, bench: Bench, plan: Plan, workers: int | None) -> Iterator[None]:
    """Further processes work on the plan while the block runs, `workers` together with this one; None: see above."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = suited(bench.model, cores) if workers is None else workers
    missing = sum(not store.has(key) for key in plan.keys.values()) if count > 1 else 0
    if missing < 2:
        yield
        return
    threads, before = max(1, cores // count), torch.get_num_threads()
    address = store.address if store.files.folder is None else str(store.files.folder.resolve())
    given = (bench.study.model_dump_json(by_alias=True), bench.device, address, store.lease, plan, threads)
    context = multiprocessing.get_context("spawn")
    helpers = [context.Process(target=_work, args=given, daemon=True) for _ in range(count - 1)]
    torch.set_num_threads(threads)
    try:
        for own in helpers:
            own.start()
        yield
    finally:
        torch.set_num_threads(before)
        for own in helpers:
            own.terminate()
        for own in helpers:
            own.join()


def suited(model: Backbone, cores: int) -> int:
    """How many processes share a machine best."""
    size = sum(weight.numel() for weight in model.model.parameters())
    return cores if model.device.type == "cpu" and size < SMALL else 1


def _work(study: str, device: str, address: str, lease: float, plan: Plan, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that began this one hears it, and ends it
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_follow, daemon=True).start()
    quiet()
    torch.set_num_threads(threads)
    store = Store(address, lease)
    bench = Bench(StudyConfig.model_validate_json(study), device)
    settle(store, plan, Local(store, bench, plan), {})


def _leave(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)  # as an exception, so that leases are given back


def _follow() -> None:
    """End where the process that began this one has ended, however it did."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)
