"""The least p that a dev split can give: where it is large, no neuron can be significant, however good.

    least_p((3, 4), positions=16)           # 0.46: 16 times the exact p of a neuron that tells all seven apart
    too_small(skill.about)                  # one sentence for each subtask of which this is so

The p-values of `significance` are exact ones times the number of positions, doubled where there are several trials. The
smallest exact p is that of a neuron which fires for one side alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..significance import exact_p

LEVEL = 0.05
"""What is called significant."""


def least_p(totals: tuple[int, int], positions: int, trials: int = 1) -> float:
    """The smallest p of a neuron that a dev split with `totals` samples on the two sides allows, at most 1."""
    negatives, positives = totals
    telling = exact_p(np.array([0, negatives]), np.array([positives, 0]), totals).min()
    return float(min(1.0, telling * positions * (2 if trials > 1 else 1)))


def too_small(about: Mapping[str, Any]) -> list[str]:
    """A sentence for each subtask whose dev samples are too few for any significance; `about` is run.json's content."""
    found = []
    for subtask, (negative, positive) in zip(about["subtasks"], about["totals"], strict=True):
        least = least_p((negative, positive), about["positions"], about["trials"])
        if least > LEVEL:
            found.append(
                f"The dev split is too small for any significance in {subtask['name']}: with {negative} negative and "
                f"{positive} positive samples and {about['positions']} positions the least p is {least:.2g}."
            )
    return found
