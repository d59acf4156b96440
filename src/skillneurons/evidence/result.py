"""The base of every experiment's result: frozen, a table, a picture, two files.

    @dataclass(frozen=True, eq=False, repr=False)
    class Curves(Evidence):
        name: ClassVar[str] = "curves"

        def plot(self, ax=None): ...

    found.table()                           # a row for every figure
    found.verdict                           # what came of its claim
    found.save("runs/sst2"); Curves.load("runs/sst2")

A folder keeps `<name>.json`, what it is of and the table, and `<name>.safetensors`, the arrays that it rests on. Both
carry the `identity` of the run, or of the runs together, and are read together or not at all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pandas as pd
from torch import Tensor

from ..config import Config
from ..files import digest
from ..finding.beside import keep, kept
from ..finding.skill import SkillNeurons

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class Evidence(ABC):
    """What an experiment came to.

    `about` says of what: `identity`, `format`, the configuration, and whatever the pictures name; `rows` are the
    table's records; `arrays` what they rest on, such as which samples were right.
    """

    name: ClassVar[str]
    """Of the files."""
    version: ClassVar[int] = 1
    """Of the files' format."""

    about: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    arrays: Mapping[str, Tensor] = field(default_factory=dict)

    def table(self) -> pd.DataFrame:
        """One row for every figure."""
        return pd.DataFrame(list(self.rows))

    @property
    @abstractmethod
    def verdict(self) -> str:
        """What came of the experiment's claim, in plain words with the figures; see `verdict.py`."""

    @abstractmethod
    def plot(self, ax: Axes | None = None) -> Axes:
        """The picture that tells the most, on `ax` or on new axes."""

    def save(self, folder: str | Path) -> None:
        """Write both files, in place of earlier ones.

        Raises `SkillNeuronsError` where the folder holds another run, or cannot be written.
        """
        keep(Path(folder), self.name, self.about, {"rows": list(self.rows)}, self.arrays)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises `SkillNeuronsError` where it is missing, truncated, of another version, or not of the folder's run.
        """
        about, content, arrays = kept(Path(folder), cls.name, cls.version)
        return cls(about, content["rows"], arrays)

    def __repr__(self) -> str:
        return self.table().round(3).to_string(index=False)

    def _repr_html_(self) -> str:
        return str(self.table().round(3).to_html(index=False))


@dataclass(frozen=True, eq=False, repr=False)
class BetweenTasks(Evidence):
    """What an experiment came to on several runs of one model together."""

    @property
    def tasks(self) -> list[str]:
        """What tells the runs apart, in the order in which they were given."""
        return list(self.about["tasks"])

    @property
    def kinds(self) -> list[str | None]:
        """The kind of each run's task, None where it has none."""
        return list(self.about["kinds"])


def told(version: int, config: Config, *skills: SkillNeurons) -> dict[str, Any]:
    """The beginning of every `about`: format, identity (of the one run, or of all together) and configuration."""
    own = [skill.about["identity"] for skill in skills]
    return {
        "format": version,
        "identity": own[0] if len(own) == 1 else digest(*own),
        "config": config.model_dump(mode="json"),
    }
