"""The one error that is the user's to mend.

Everything that a user can put right (a missing file, an unknown label, a model without a head) raises a
`SkillNeuronsError` whose message says the rule, what was given and the remedy. The command line prints the
message alone and exits with status 2.
"""

from __future__ import annotations

from collections.abc import Iterable


class SkillNeuronsError(ValueError):
    """A mistake that the user can mend. The message names the thing and the remedy."""


class Unwritable(SkillNeuronsError):
    """A place that cannot be written: no room, no rights, no such disk."""


def problems(title: str, found: Iterable[str]) -> SkillNeuronsError:
    """One error that tells all problems at once: a title, then a line for each."""
    lines = list(found)
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    return SkillNeuronsError("\n".join([f"{title}: {count}", *(f"  - {line}" for line in lines)]))
