"""What an experiment says of its claim, in plain words.

    outcome = judged(found.low, found.high)
    verdict(outcome, "skill neurons matter more than random ones", "random neurons matter as much", "+3.1 points")

A claim is that some quantity lies above 0, and `low` to `high` is its 95 % interval:

    Holds                                  the interval lies above 0
    Does not hold                          it reaches nowhere beyond `within`, which is too little to matter
    Cannot be told with this much data     neither, for the interval is too wide

`within` is one point of accuracy unless told otherwise. A claim of several quantities holds where all of them do, and
does not where one of them does not. Where something else than the data is missing, the verdict says what (`untold`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np

from ..errors import SkillNeuronsError
from ..finding.nulls.least import LEVEL
from .groupings import Grouped

Outcome = Literal["holds", "fails", "open"]
POINT = 0.01
"""One point of accuracy."""
_FIRST = {"holds": "Holds", "fails": "Does not hold", "open": "Cannot be told with this much data"}


def judged(low: float, high: float, within: float = POINT) -> Outcome:
    """What the 95 % interval of a quantity says of the claim that it is above 0; NaN says nothing."""
    if low > 0:
        return "holds"
    return "fails" if high <= within else "open"


def joint(outcomes: Iterable[Outcome]) -> Outcome:
    """What several quantities say of one claim."""
    found = set(outcomes)
    return "fails" if "fails" in found else "open" if "open" in found else "holds"


def verdict(outcome: Outcome, claim: str, otherwise: str, figures: str) -> str:
    """The sentence: `claim` where it holds or cannot be told, `otherwise` where it does not, and the figures."""
    said = {"holds": claim, "fails": otherwise, "open": f"whether {claim}"}[outcome]
    return f"{_FIRST[outcome]}: {said}; {figures}."


def untold(reason: str) -> str:
    """Why there is no verdict, where more data would not help."""
    return f"Cannot be told: {reason}"


def points(value: float, low: float, high: float) -> str:
    """A difference of two accuracies with its interval."""
    return f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}) points"


def of_kinds(test: Callable[[], Grouped], claim: str, otherwise: str) -> str:
    """What the test over kinds of tasks says of the claim that those of one kind belong together.

    It holds with p at most 0.05. It does not where other kinds do as well on the mean, or half of all groupings would
    do as well as the observed one. With fewer than 20 groupings no p can be so small.
    """
    try:
        found = test()
    except SkillNeuronsError as error:
        return untold(f"there is no test over kinds, for {error}")
    figures = f"same kind {found.same:.2f}, other kind {found.other:.2f}; p {found.p:.2g} over "
    figures += f"{found.groupings} groupings" if found.exact else f"{found.groupings} groupings drawn"
    outcome: Outcome = "open"
    if 1 / found.groupings > LEVEL:
        figures += f", which allow no p below {1 / found.groupings:.2g}: it takes more tasks"
    elif found.p <= LEVEL:
        outcome = "holds"
    elif not np.isnan(found.difference) and (found.difference <= 0 or found.p >= 0.5):
        outcome = "fails"
    return verdict(outcome, claim, otherwise, figures)
