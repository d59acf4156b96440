"""What a finding is worth beside its nulls, in one sentence.

    rows = [Against("sst2", "input length", 0.55, 0.87, advantage=0.31, low=0.28, high=0.34), ...]
    verdict(rows)

The rule. The neurons of a finding are called more predictive than anything the nulls produce where, on every subtask,
the top neuron's shuffled p is at most 0.05, and on test its advantage over the random-weight model's top neuron and
over input length has a 95 % interval above 0. A null that was not tried leaves no claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .least import LEVEL

NullName = Literal["shuffled labels", "random-weight model", "input length"]
NULLS: dict[NullName, str] = {
    "shuffled labels": "--permutations 1000",
    "random-weight model": "--null random-model",
    "input length": "",
}
"""The nulls, and the option by which each is tried."""


@dataclass(frozen=True)
class Against:
    """One subtask's top neuron against one null.

    `predictivity` is the null's on dev: the 95 % threshold of shuffled labels, the random-weight model's top neuron,
    input length; `top` is the top neuron's. Shuffled labels have a `p_value` and the number of neurons `above` the
    threshold; the others the top neuron's `advantage` in accuracy on test, with its 95 % interval.
    """

    subtask: str
    null: NullName
    predictivity: float
    top: float
    p_value: float | None = None
    above: int | None = None
    advantage: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def beaten(self) -> bool:
        """Whether the top neuron is more predictive, by the rule above."""
        return self.p_value <= LEVEL if self.p_value is not None else self.low is not None and self.low > 0

    @property
    def margin(self) -> float:
        """How clearly, for comparing subtasks: the more the better."""
        return -self.p_value if self.p_value is not None else self.low or 0.0

    def told(self) -> str:
        """The figures that decide."""
        if self.p_value is not None:
            return f"p {self.p_value:.2g}"
        return f"{points(self.advantage)} points on test, 95 % interval {points(self.low)} to {points(self.high)}"


def verdict(rows: Sequence[Against]) -> str:
    """One plain sentence: more predictive than anything the nulls produce, or not, or not all was tried."""
    tried = [name for name in NULLS if any(row.null == name for row in rows)]
    several = len({row.subtask for row in rows}) > 1
    worst = {name: min((row for row in rows if row.null == name), key=lambda row: row.margin) for name in tried}
    if equal := [name for name in tried if not worst[name].beaten]:
        parts = []
        for name in equal:
            count = sum(row.null == name and not row.beaten for row in rows)
            where = f" in {worst[name].subtask}" if several else ""
            where += f", and so in {count - 1} more" if count > 1 else ""
            parts.append(f"{_the(name)} {_does(worst[name])} ({worst[name].told()}{where})")
        return f"These neurons are not more predictive than everything the nulls produce: {_and(parts)}."
    closest = "the closest of the subtasks, " if several else ""
    beaten = _and([f"{_the(name)} ({closest}{worst[name].told()})" for name in tried])
    if missing := [name for name in NULLS if name not in tried]:
        untried = _and([f"{_the(name)} ({NULLS[name]})" for name in missing])
        verb = "was" if missing == ["random-weight model"] else "were"
        return f"No claim yet: these neurons are more predictive than {beaten}, but {untried} {verb} not tried."
    return f"These neurons are more predictive than anything the nulls produce: {beaten}."


def points(value: float | None) -> str:
    """A difference of two shares in percentage points, with its sign."""
    return f"{100 * (value or 0.0):+.1f}"


def _the(name: NullName) -> str:
    return f"the {name}" if name == "random-weight model" else name


def _does(row: Against) -> str:
    if row.null == "shuffled labels":
        return "do as well"
    return "does better" if row.high is not None and row.high < 0 else "does as well"


def _and(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]
