"""Have an engine do all of a plan: what others are at is waited for, what was spoiled is made anew.

settle(store, plan, Local(store, bench, plan), outcomes)        # until each step has an outcome that will not change
"""

from __future__ import annotations

import time
from collections import Counter

from ..errors import SkillNeuronsError
from ..progress import progress, say
from .doing import Outcome
from .local import Engine
from .plan import Plan
from .store import Store

WAITS = (0.3, 5.0)
"""Seconds after which steps that other processes were at are tried again: at first, and at most."""
OFTEN = 3
"""Times that one output may be made anew in a study's course."""


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
                raise broken(store)
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


def broken(store: Store) -> SkillNeuronsError:
    """What to raise where outputs are spoiled again and again."""
    return SkillNeuronsError(
        f"what is written into {store.address} is not what is read from it, again and again. See to the disk or the "
        "connection, or choose another store."
    )
