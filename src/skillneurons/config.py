"""The base of every configuration: frozen, validated, told in full when wrong.

The same object is the command's options, a study file's section and the cache key.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import SkillNeuronsError, problems


class Config(BaseModel):
    """A frozen set of options; unknown names and wrong values are refused, all at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def make(cls, **options: Any) -> Self:
        """Validate `options`; a `SkillNeuronsError` tells every problem with its option's name."""
        try:
            return cls(**options)
        except ValidationError as error:
            raise explain(error, "these options do not fit") from None

    def fingerprint(self) -> str:
        """A key that two configurations share only when all their options are the same."""
        from .files import digest

        return digest(type(self).__name__, self.model_dump_json())


def explain(error: ValidationError, title: str) -> SkillNeuronsError:
    """A validation error in the user's words: one line a problem, each with the option's name."""
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or "options"
        given = "" if problem["type"] == "missing" else f" (given: {problem['input']!r})"
        lines.append(f"{where}: {problem['msg'].removeprefix('Value error, ')}{given}")
    return problems(title, lines)
