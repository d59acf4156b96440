"""One step done: its inputs fetched, its output put into the store.

    outcome = do(store, bench, plan, "score/sst2/0", [])        # Outcome(name, "made", ...)

An output is made in a folder of its own and put into the store when it is whole; what a killed step kept in `state`
serves the next one, as long as the code is the same. Whatever goes wrong in a step is its outcome; a store that cannot
be read or written is the study's end.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import SkillNeuronsError, Unwritable
from ..files import unwritable
from ..finding.find import code
from .bench import Bench
from .kinds import KINDS
from .plan import Plan
from .store import Spoiled, Store
from .work import Work


@dataclass(frozen=True)
class Outcome:
    """What became of a step.

    `made`: done now; `kept`: there already; `busy`: another process is at it, or at an input; `spoiled`: the input
    whose key is the `reason` was not what it should be, and is to be made anew; `failed`, for the `reason`;
    `skipped`: it rests on the failed step that the `reason` names.
    """

    name: str
    state: Literal["made", "kept", "busy", "spoiled", "failed", "skipped"]
    reason: str = ""
    seconds: float = 0.0

    @property
    def there(self) -> bool:
        """Whether the output is in the store."""
        return self.state in ("made", "kept")


def do(store: Store, bench: Bench, plan: Plan, name: str, inputs: Sequence[Outcome]) -> Outcome:
    """Do a step, unless its output is there, another process is at it, or an input is wanting.

    `inputs`: what became of those that were not known to be there. Raises `SkillNeuronsError` where the store cannot be
    read or written.
    """
    if any(own.state in ("busy", "spoiled") for own in inputs):
        return Outcome(name, "busy")  # the store is not asked: it may be far away
    if store.has(plan.keys[name]):
        return Outcome(name, "kept")
    for own in inputs:
        if own.state in ("failed", "skipped"):
            return Outcome(name, "skipped", own.name if own.state == "failed" else own.reason)
    return _done(store, bench, plan, name)


def _done(store: Store, bench: Bench, plan: Plan, name: str) -> Outcome:
    step, key = plan.steps[name], plan.keys[name]
    with store.leased(key) as ours:
        if not ours:
            return Outcome(name, "busy")
        if store.has(key):  # made between the two
            return Outcome(name, "kept")
        began = time.monotonic()
        try:
            folders = {other: store.fetch(plan.keys[other]) for other in step.inputs}
        except Spoiled as error:
            return Outcome(name, "spoiled", error.key)
        scratch = store.scratch(key)
        with _places(scratch) as (state, out):
            try:
                KINDS[step.kind].does(Work(bench, plan, name, folders, out, state))
                about = {"kind": step.kind, "name": name, "inputs": {other: plan.keys[other] for other in step.inputs}}
                store.put(key, out, about)
            except Exception as error:  # of any kind: other steps do not need this one
                if store.has(key):  # a process that took the lease over was quicker, and has tidied up
                    return Outcome(name, "kept")
                if isinstance(error, Unwritable):  # the store's disk, where a step's own files lie as well
                    raise
                return Outcome(name, "failed", _reason(error), time.monotonic() - began)
        seconds = time.monotonic() - began
        shutil.rmtree(scratch, ignore_errors=True)
        store.log(key, {"seconds": round(seconds, 3), "machine": platform.node(), "process": os.getpid()})
        return Outcome(name, "made", "", seconds)


@contextmanager
def _places(scratch: Path) -> Iterator[tuple[Path, Path]]:
    """A folder for state, and one for the output that is gone after the block; of the state none by other code."""
    state = scratch / f"state-{code()[:12]}"
    try:
        state.mkdir(parents=True, exist_ok=True)
        out = tempfile.TemporaryDirectory(prefix="out-", dir=scratch, ignore_cleanup_errors=True)
    except OSError as error:
        raise unwritable(scratch, error) from error
    with out:
        yield state, Path(out.name)


def _reason(error: Exception) -> str:
    """The user's mistake in its own words; a fault of the program with the way to it."""
    return str(error) if isinstance(error, SkillNeuronsError) else "".join(traceback.format_exception(error)).strip()
