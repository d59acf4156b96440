"""A plan: the steps of a study, each after its inputs, with their keys.

plan = Plan.of(steps, versions, prints)          # prints: fingerprints of the model ("") and of the tasks, by name
plan.steps["rank/sst2"], plan.keys["rank/sst2"]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from ..errors import SkillNeuronsError
from .step import Step

MODEL = ""
"""The name under which the model's fingerprint stands."""


@dataclass(frozen=True)
class Plan:
    """Steps by their names, in the order given but each after its inputs; keys likewise; versions by kinds."""

    steps: Mapping[str, Step]
    keys: Mapping[str, str]
    versions: Mapping[str, int]

    @classmethod
    def of(cls, steps: Iterable[Step], versions: Mapping[str, int], prints: Mapping[str, str]) -> Plan:
        """The plan of these steps. Raises `SkillNeuronsError` for two of one name, an input that is none, a cycle."""
        given = list(steps)
        named = {step.name: step for step in given}
        if len(named) < len(given):
            twice = sorted({step.name for step in given if sum(own.name == step.name for own in given) > 1})
            raise SkillNeuronsError(f"each step has a name of its own; given twice: {', '.join(twice)}. Rename one.")
        if lost := sorted({f"{name} (of {step.name})" for step in given for name in step.inputs if name not in named}):
            raise SkillNeuronsError(f"an input is a step of the plan; there is no {', '.join(lost)}. Add it.")
        try:
            TopologicalSorter({step.name: step.inputs for step in given}).prepare()
        except CycleError as error:
            circle = " -> ".join(error.args[1][::-1])
            raise SkillNeuronsError(
                f"a step comes after its inputs; these wait for each other: {circle}. Take one input out."
            ) from None
        keys: dict[str, str] = {}

        def place(name: str) -> None:
            step = named[name]
            for other in step.inputs:
                if other not in keys:
                    place(other)
            own = [prints[MODEL], *(prints[task] for task in step.tasks)]
            keys[name] = step.key(versions[step.kind], own, [keys[other] for other in step.inputs])

        for step in given:
            if step.name not in keys:
                place(step.name)
        return cls({name: named[name] for name in keys}, keys, versions)
