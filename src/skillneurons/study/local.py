"""The engine in this process: the steps of a plan, one after another.

outcomes = Local(store, bench, plan)(names, tell)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .bench import Bench
from .doing import Outcome, do
from .plan import Plan
from .store import Store

Tell = Callable[[Outcome], None]
Engine = Callable[[Sequence[str], Tell], dict[str, Outcome]]
"""Does the steps of these names, which are in the plan's order, once at most; tells of each as soon as it is over.

An input that is not among them is there already.
"""


@dataclass(frozen=True)
class Local:
    """Does steps here."""

    store: Store
    bench: Bench
    plan: Plan

    def __call__(self, names: Sequence[str], tell: Tell) -> dict[str, Outcome]:
        """Do these, in this order."""
        outcomes: dict[str, Outcome] = {}
        for name in names:
            inputs = [outcomes[other] for other in self.plan.steps[name].inputs if other in outcomes]
            outcomes[name] = do(self.store, self.bench, self.plan, name, inputs)
            tell(outcomes[name])
        return outcomes
