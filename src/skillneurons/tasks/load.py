"""Tasks by name or by path: `load_task`."""

from __future__ import annotations

import difflib
from pathlib import Path

from ..errors import SkillNeuronsError, problems
from .catalogue import CATALOGUE
from .samples import checked
from .sources import open_data
from .spec import TaskFile
from .task import Task
from .taskfile import FILE, read_task_file


def load_task(source: str | Path) -> Task:
    """The task that `source` names, loaded and checked.

    `source` is a name of the catalogue (the paper's seven, from the hub), `miniature/<name>`, or the path of a task
    file or of a folder that holds a `task.toml`. A name of the catalogue comes before a folder of that name: write
    `./sst2` for the folder. Raises `SkillNeuronsError` with every problem of a task file at once, and for a name that
    is not known, with the names that are.
    """
    if isinstance(source, str):
        if source in CATALOGUE:
            return _load(CATALOGUE[source].file, Path(), f"the task {source!r}", source, [])
        if source.startswith("miniature/"):
            from .miniature import MINIATURE_TASKS, miniature_task

            name = source.removeprefix("miniature/")
            if name in MINIATURE_TASKS:
                return miniature_task(name)
            raise _unknown(source)
    path = Path(source)
    if path.is_dir():
        path /= FILE
    elif not path.exists() and isinstance(source, str) and path.suffix != ".toml":
        raise _unknown(source)
    found: list[str] = []
    file = read_task_file(path, found)
    return _load(file, path.parent, f"the task file {path}", str(path.resolve()), found)


def _load(file: TaskFile, folder: Path, title: str, source: str, found: list[str]) -> Task:
    opened = open_data(file.data, folder, found)
    splits = checked(file, opened, found, file.data.keep)
    if found:
        raise problems(title, found)
    return Task.of(file, splits, source)


def _unknown(name: str) -> SkillNeuronsError:
    from .miniature import MINIATURE_TASKS

    known = [*CATALOGUE, *(f"miniature/{task}" for task in MINIATURE_TASKS)]
    near = difflib.get_close_matches(name, known, n=3)
    guess = f" Did you mean {' or '.join(near)}?" if near else ""
    return SkillNeuronsError(
        f"there is no task {name!r}, and no file or folder of that name.{guess} "
        f"Known tasks: {', '.join(known)}; or give the path of a task file (.toml)."
    )
