"""What stands beside a finding in its folder: figures as JSON, arrays as safetensors, two files that go together.

    keep(folder, "nulls", about, {"rows": rows}, {"found": values})     # nulls.json, nulls.safetensors
    about, content, tensors = kept(folder, "nulls", FORMAT)

`about` goes into both and says of which run they are, by its `identity`: they are read together or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import SkillNeuronsError
from ..files import read_json, write_json
from .run import Run
from .stored import Stored, foreign, store, stored


def keep(
    folder: Path, name: str, about: Mapping[str, Any], content: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Write both files, in place of earlier ones.

    Raises `SkillNeuronsError` where the folder holds another run, or cannot be written.
    """
    if _identity(folder) not in (None, about["identity"]):
        raise SkillNeuronsError(
            f"{name} belong to the run that they were worked out for; {folder} holds another. Choose that run's folder."
        )
    figures, arrays = _paths(folder, name)
    figures.unlink(missing_ok=True)  # or a kill between the two writes would leave a pair that does not fit
    store(arrays, tensors, about)
    write_json(figures, {**about, **content})
    Run(folder).tidy()


def kept(folder: Path, name: str, version: int) -> tuple[dict[str, Any], dict[str, Any], Stored]:
    """What `keep` wrote: what it is of, its content, its tensors.

    Raises `SkillNeuronsError` where it is missing, truncated, of another version, or not of the folder's run.
    """
    figures, arrays = _paths(folder, name)
    content = read_json(figures, remedy(name))
    tensors, about = stored(arrays, remedy(name))
    if not isinstance(content, dict) or any(content.get(key) != value for key, value in about.items()):
        raise foreign(figures, remedy(name))
    if about.get("format") != version:
        raise foreign(arrays, remedy(name))
    if _identity(folder) not in (None, about.get("identity")):
        raise SkillNeuronsError(f"{figures} is of another run than that in {folder}. {remedy(name)}")
    return about, content, tensors


def there(folder: Path, name: str) -> bool:
    """Whether a folder keeps such files, whole."""
    return _paths(folder, name)[0].exists()


def remedy(name: str) -> str:
    """What to do about files that cannot be used."""
    return f"Remove {name}.json and {name}.safetensors there and ask for the {name} again."


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.json", folder / f"{name}.safetensors"


def _identity(folder: Path) -> str | None:
    """Of the run that a folder holds; None where it holds none."""
    return Run(folder).read()["identity"] if (folder / "run.json").exists() else None
