"""Arrays of a run in a safetensors file, with what it says about itself.

store(path, {"mean.0": mean}, {"identity": identity})
tensors, about = stored(path, remedy="Remove it and ...")
tensors["mean.0"]                                              # read when asked for
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import SkillNeuronsError
from ..files import replacing, unwritable

_KEY = "skillneurons"  # one key of metadata, as safetensors writes several in no fixed order


class Stored(Mapping[str, Tensor]):
    """A safetensors file's tensors, read when asked for."""

    def __init__(self, path: Path, remedy: str) -> None:
        self.path = path.absolute()
        self.remedy = remedy
        with _opened(path, remedy) as file:
            self._names = sorted(file.keys())
            self.metadata: Mapping[str, str] = file.metadata() or {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        with _opened(self.path, self.remedy) as file:
            return file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def store(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors, whole or not at all; the same content gives the same bytes."""
    with replacing(path) as temporary:
        try:
            save_file(
                {name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, {_KEY: json.dumps(about)}
            )
        except SafetensorError as error:
            raise unwritable(path, error) from error


def stored(path: Path, remedy: str) -> tuple[Stored, dict[str, Any]]:
    """A file's tensors and what it says about itself.

    Raises `SkillNeuronsError`, with `remedy`, where the file is missing, truncated or none of ours.
    """
    tensors = Stored(path, remedy)
    try:
        return tensors, dict(json.loads(tensors.metadata[_KEY]))
    except (KeyError, TypeError, ValueError) as error:
        raise foreign(path, remedy) from error


def foreign(path: Path, remedy: str) -> SkillNeuronsError:
    """The error for a file that this program did not write, or not for this run."""
    return SkillNeuronsError(f"{path} is truncated, or not what this run wrote there. {remedy}")


def _opened(path: Path, remedy: str) -> Any:
    try:
        return safe_open(path, "pt")
    except FileNotFoundError:
        raise SkillNeuronsError(f"{path} is missing from its run. {remedy}") from None
    except (OSError, SafetensorError) as error:
        raise foreign(path, remedy) from error
