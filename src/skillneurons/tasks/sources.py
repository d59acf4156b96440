"""Where samples come from: the files and hub datasets that a task file names, opened through `datasets`.

    found = []
    opened = open_data(file.data, folder, found)     # {"train": Dataset, "test": Dataset}, and what could not be read

They become Arrow files in the cache of `datasets`, memory-mapped. A file's content is part of the cache's key, so an
edited file is never served stale. Only that it can be read is checked here; columns and labels are checked in
`samples`. Conventions of the files:

- `.jsonl`: one object a line.
- `.csv`: a header, commas, double quotes where needed. Every value is text: `NA` and `null` are words, not gaps.
- `.tsv`: a header, tabs; a line is a sample and quotes are ordinary characters, as in GLUE's files.
- `.parquet`: as it is; the names of a label's classes are read where `datasets` wrote them.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import glob
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SkillNeuronsError
from ..files import inside
from ..progress import say
from .spec import Data, unknown

if TYPE_CHECKING:
    import datasets

FORMATS = {".jsonl": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
_CACHE_REFUSES = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}


def open_data(data: Data, folder: Path, found: list[str]) -> dict[str, datasets.Dataset]:
    """The splits (train, dev, test) that `data` names, where they can be read; what cannot is told in `found`."""
    opened = {}
    if data.hub is not None:
        if not data.mistakes():
            with _reporting("data.hub", found):
                opened = _open_hub(data)
    else:
        for split, name in data.splits().items():
            with _reporting(f"data.{split}", found):
                opened[split] = _open_file(name, folder)
    return opened


def _open_file(name: str, folder: Path) -> datasets.Dataset:
    import datasets

    path = inside(folder, name)
    if path.suffix.lower() not in FORMATS:
        raise SkillNeuronsError(f"{name!r} ends in {path.suffix!r}; files end in {', '.join(FORMATS)}")
    if not path.is_file():
        beside = sorted(file.name for file in path.parent.glob("*") if file.suffix.lower() in FORMATS)
        raise SkillNeuronsError(unknown("file", name, beside))
    with _calm():
        return datasets.load_dataset(
            FORMATS[path.suffix.lower()],
            name=_content(path),
            data_files={"train": glob.escape(str(path))},
            split="train",
            **_options(path),
        )


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise SkillNeuronsError(f"{path.name!r} cannot be read: {error.strerror}; check its permissions") from None


def _options(path: Path) -> dict[str, Any]:
    """What `datasets` is told about a file besides its path. Raises `SkillNeuronsError` for a file without rows."""
    import datasets
    import pandas as pd
    import pyarrow.parquet as pq

    options: dict[str, Any] = {}
    ending = path.suffix.lower()
    if ending == ".jsonl":
        options = {"on_mixed_types": None, "parse_agent_traces": False}
        with path.open("rb") as file:
            empty = not any(line.strip() for line in file)
    elif ending == ".parquet":
        empty = pq.read_metadata(path).num_rows == 0
    else:
        options = {"encoding": "utf-8-sig", "keep_default_na": False}
        if ending == ".tsv":
            options |= {"sep": "\t", "quoting": csv.QUOTE_NONE}
        head = pd.read_csv(path, nrows=1, dtype=str, **options)
        empty = head.empty
        options["features"] = datasets.Features({str(name): datasets.Value("string") for name in head.columns})
        if not empty and not isinstance(head.index, pd.RangeIndex):
            raise SkillNeuronsError(
                f"{path.name!r}: row 1 has more values than the header has columns; "
                "put texts that hold a comma in double quotes, or use .jsonl"
            )
    if empty:
        raise SkillNeuronsError(f"{path.name!r} is empty: a split needs samples")
    return options


def _open_hub(data: Data) -> dict[str, datasets.Dataset]:
    import datasets

    where = f"the dataset {data.hub!r}" + (f", configuration {data.config!r}" if data.config else "")
    say(f"loading {where} from the hub")
    with _calm():
        try:
            builder = datasets.load_dataset_builder(
                f"hf://datasets/{data.hub}", name=data.config, revision=data.revision
            )
            if type(builder).__module__.endswith(".cache"):  # what `datasets` falls back on, whatever the revision
                _kept(where, data.revision, builder.hash)
            builder.download_and_prepare()
            loaded = builder.as_dataset()
        except datasets.exceptions.DatasetNotFoundError as error:
            raise SkillNeuronsError(f"{error} Check the id and the revision; some datasets need a login.") from None
        except Exception as error:  # the client lets its transport's own errors through
            if isinstance(error, SkillNeuronsError) or _refused(error):
                raise
            raise SkillNeuronsError(
                f"{where} cannot be loaded from the hub: {_told(error)}. Check the network (and HF_ENDPOINT, "
                "HF_HUB_OFFLINE) and data.config; or download its files and name them in a task file."
            ) from error
    names = data.splits()
    lines = [unknown("split", name, loaded) for name in names.values() if name not in loaded]
    if lines:
        raise SkillNeuronsError(f"{where}: {'; '.join(lines)}")
    return {split: loaded[name] for split, name in names.items()}


def _kept(where: str, revision: str | None, commit: str) -> None:
    """Say that a kept copy stands in for the hub; refuse it where another revision was asked for."""
    if revision is not None and revision != commit:
        raise SkillNeuronsError(
            f"{where}: the hub cannot be reached for revision {revision!r}, and the copy kept here is of {commit}. "
            "Check the network, or name that commit as the revision."
        )
    say(f"the hub cannot be reached: {where} is the copy kept of it (commit {commit})")


@contextlib.contextmanager
def _reporting(where: str, found: list[str]) -> Iterator[None]:
    """Put what goes wrong inside into `found` as one line; a full or closed cache ends everything instead."""
    import datasets

    try:
        yield
    except SkillNeuronsError as error:
        found.append(f"{where}: {error}")
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        refused = _refused(error)
        if refused is not None:
            raise SkillNeuronsError(
                f"{where}: {refused.strerror}: {refused.filename or datasets.config.HF_DATASETS_CACHE}. Loaded data "
                "are kept in HF_DATASETS_CACHE; free some space or set it to a folder that can be written."
            ) from error
        found.append(f"{where} cannot be read: {_told(error)}")


def _cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _told(error: BaseException) -> str:
    """What the first cause of an error says, on one line."""
    return " ".join(str(_cause(error)).split()).removesuffix(".")


def _refused(error: BaseException) -> OSError | None:
    """The system's refusal to write that caused an error, if that is what it was."""
    cause = _cause(error)
    return cause if isinstance(cause, OSError) and cause.errno in _CACHE_REFUSES else None


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Without the libraries' bars and log lines; what matters of them is in our own messages."""
    import datasets
    from huggingface_hub.utils import logging as hub_logging

    bars = datasets.are_progress_bars_disabled()
    levels = [(library, library.get_verbosity()) for library in (datasets.logging, hub_logging)]
    datasets.disable_progress_bars()
    for library, _ in levels:
        library.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        for library, level in levels:
            library.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()
