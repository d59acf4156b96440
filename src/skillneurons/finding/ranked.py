"""A run's table as arrays: what predictivity says of every neuron, the layers' neurons one after another.

own = ranked(skill)
own.predictivity[0, own.best[0, :10]]       # the first subtask's ten best
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

if TYPE_CHECKING:
    from .skill import SkillNeurons


@dataclass(frozen=True, eq=False)
class Ranked:
    """Eq. 6 of all neurons, and where each trial reads them: `best` are indices, the best first."""

    predictivity: Float[np.ndarray, "subtask neuron"]
    best: Int[np.ndarray, "subtask neuron"]
    position: Int[np.ndarray, "subtask neuron trial"]
    sign: Int[np.ndarray, "subtask neuron trial"]


def ranked(skill: SkillNeurons) -> Ranked:
    """The run's table by subtask and index."""
    table = skill.table()
    names = [own["name"] for own in skill.about["subtasks"]]
    parts = [table[table["subtask"] == name].sort_values(["layer", "neuron"]) for name in names]
    return Ranked(
        np.stack([part["predictivity"].to_numpy() for part in parts]),
        np.stack([part["rank"].to_numpy().argsort() for part in parts]),
        *(np.stack([np.stack(part[column].to_list()) for part in parts]) for column in ("position", "sign")),
    )
