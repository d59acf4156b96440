"""A step of a study: a pure function of its configuration, the model, its tasks' data and what its inputs gave.

    step = Step("score/sst2/0", "score", {"trial": 0, ...}, tasks=("sst2",), inputs=("tune/sst2/0",), cost=Cost(...))
    step.key(version=1, prints=[...], inputs=[...])

Its key is a hash of all that its output follows from: its kind and that kind's version, its configuration, fingerprints
of the model and of its tasks, its inputs' keys. Its name is for people, and no part of the key: studies share steps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..files import digest


@dataclass(frozen=True)
class Cost:
    """What a step asks of the model, at most: samples of its first task beside so many positions.

    `passed` go forward, `tuned` forward and back.
    """

    positions: int
    passed: int
    tuned: int = 0


@dataclass(frozen=True)
class Step:
    """What is to be done: `kind` says by which function, `config` holds plain values, `inputs` name other steps."""

    name: str
    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    costs: tuple[Cost, ...] = ()

    def key(self, version: int, prints: Sequence[str], inputs: Sequence[str]) -> str:
        """The hash of all that the output follows from."""
        told = json.dumps([self.kind, version, dict(self.config)], sort_keys=True)
        return digest("step", told, *prints, "inputs", *inputs)
