"""Files that are whole or absent, and paths that stay in their folder.

A write goes to a temporary file beside the target, is flushed to the disk and then renamed over it: whoever
reads sees the old file or the new one, never half of either.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import SkillNeuronsError, Unwritable


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed and renamed to `path`, else removed.

    Raises `Unwritable` where the folder cannot be written or the disk is full; what stood at `path` stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def unwritable(path: Path, error: Exception) -> Unwritable:
    """The error for a file that could not be written, with what the system said."""
    reason = getattr(error, "strerror", None) or str(error)
    return Unwritable(
        f"cannot write {path}: {reason}. What was finished before is kept; "
        "free some space or choose a folder that can be written, and run the same command again."
    )


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path, remedy: str) -> Any:
    """Read a JSON file; a `SkillNeuronsError` with `remedy` where it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SkillNeuronsError(f"there is no {path}. {remedy}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SkillNeuronsError(f"{path} cannot be read as JSON: {error}. {remedy}") from error


def inside(folder: Path, name: str) -> Path:
    """`folder / name`, refused where it would leave `folder` (absolute paths, `..`, links that lead out)."""
    target = (folder / name).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise SkillNeuronsError(f"{name!r} leaves the folder {folder}; put the file inside it and name it from there.")
    return target


def cache_folder() -> Path:
    """Where tokenised texts are kept: `SKILLNEURONS_CACHE`, or `skillneurons` in the user's cache folder."""
    chosen = os.environ.get("SKILLNEURONS_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skillneurons"


def digest(*parts: str | bytes) -> str:
    """A short hexadecimal fingerprint (32 digits) of the parts and of where each ends."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()[:32]
