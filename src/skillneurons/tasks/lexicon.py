"""Words that all genres of the miniature's language share, whatever the label.

COMMON["place"]            # ("paris", "london", ...)
words("red blue")          # ("red", "blue")
"""

from __future__ import annotations

from collections.abc import Mapping

from .document import Words


def words(line: str) -> Words:
    """The words of a line."""
    return tuple(line.split())


COMMON: Mapping[str, Words] = {
    "very": words("really very so quite truly"),
    "number": words("two three four five six seven eight nine"),
    "day": words("monday tuesday wednesday thursday friday saturday sunday"),
    "place": words("paris london rome berlin madrid vienna lisbon prague"),
    "people": words("friends colleagues neighbours parents children cousins"),
    "colour": words("red blue green black white grey"),
}
