"""Where samples come from: files, the hub, a DataFrame, rows in memory; each becomes a `datasets.Dataset`.

    found = []
    opened = open_data(file.data, folder, found)     # {"train": Dataset, "test": Dataset}, and what could not be read

Files and the hub go through `datasets`: Arrow files in its own cache, memory-mapped. A file's content is part of the
cache's key, so an edited file is never served stale. Only that it can be read is checked here; columns and labels are
checked in `samples`. Conventions of the files:

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
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SkillNeuronsError
from ..files import inside
from ..progress import say
from .taskfile import Data, Spec, unknown

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

FORMATS = {".jsonl": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
_CACHE_REFUSES = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def open_data(data: Data, folder: Path, found: list[str]) -> dict[str, datasets.Dataset]:
    """The splits (train, dev, test) that `data` names, where they can be read; what cannot is told in `found`."""
    opened = {}
    if data.hub is not None:
        with _reporting("data.hub", found):
            opened = _open_hub(data)
    else:
        for split, name in data.splits().items():
            with _reporting(f"data.{split}", found):
                opened[split] = _open_file(name, folder)
    return opened


def open_frame(frame: Any, spec: Spec, split: str, found: list[str]) -> datasets.Dataset | None:
    """A DataFrame's text and label columns as a Dataset in memory; None, with lines in `found`, where that fails."""
    import pandas as pd
    import pyarrow as pa

    if not isinstance(frame, pd.DataFrame):
        found.append(f"{split} is a {type(frame).__name__}, not a pandas DataFrame; rows go to Task.from_rows")
        return None
    if lines := missing_columns(spec, [str(column) for column in frame.columns], split):
        found.extend(lines)
        return None
    try:
        table = pa.Table.from_pandas(frame[[*spec.text, spec.label]], preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        found.append(f"{split}: a column mixes kinds of values: {'; '.join(map(str, error.args))}")
        return None
    return _in_memory(table)


def open_rows(rows: Iterable[Any], spec: Spec, split: str, found: list[str]) -> datasets.Dataset | None:
    """Rows as a Dataset in memory, labels as strings; None, with lines in `found`, where they are no such rows."""
    import pyarrow as pa

    kept = list(rows)
    for number, row in enumerate(kept, start=1):
        if not isinstance(row, Mapping):
            found.append(f"{split}: row {number} is a {type(row).__name__}, not a mapping of columns to values")
            return None
    present = dict.fromkeys(str(column) for row in kept for column in row)
    if kept and (lines := missing_columns(spec, present, split)):
        found.extend(lines)
        return None
    columns = {}
    for column in spec.text:
        values = [row.get(column) for row in kept]
        wrong = next((n for n, value in enumerate(values, start=1) if not isinstance(value, str | None)), None)
        if wrong is not None:
            kind = type(values[wrong - 1]).__name__
            found.append(f"{split}: column {column!r} holds texts, but row {wrong} has a {kind}")
            return None
        columns[column] = pa.array(values, type=pa.string())
    columns[spec.label] = pa.array([_label(row.get(spec.label)) for row in kept], type=pa.string())
    return _in_memory(pa.table(columns))


def missing_columns(spec: Spec, columns: Iterable[str], split: str) -> list[str]:
    """A line for each column that the task names and that is not among `columns`."""
    present = list(columns)
    return [f"{split}: {unknown('column', name, present)}" for name in (*spec.text, spec.label) if name not in present]


def _label(value: Any) -> str | None:
    """A label as written in [words]: 1, numpy's 1 and 1.0 are "1", True is "true", None and NaN are no label."""
    if hasattr(value, "item"):
        value = value.item()
    if value is None or value != value:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _in_memory(table: pa.Table) -> datasets.Dataset:
    import datasets

    # Without a fingerprint given, `datasets` would pickle and hash the whole table.
    return datasets.Dataset(datasets.table.InMemoryTable(table), fingerprint=uuid.uuid4().hex)


def _open_file(name: str, folder: Path) -> datasets.Dataset:
    import datasets

    path = inside(folder, name)
    if path.suffix.lower() not in FORMATS:
        raise SkillNeuronsError(f"{name!r} ends in {path.suffix!r}; files end in {', '.join(FORMATS)}")
    if not path.is_file():
        beside = sorted(file.name for file in path.parent.glob("*") if file.suffix.lower() in FORMATS)
        raise SkillNeuronsError(unknown("file", name, beside))
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    if not path.stat().st_size:
        raise SkillNeuronsError(f"{name!r} is empty")
    with _calm():
        return datasets.load_dataset(
            FORMATS[path.suffix.lower()],
            name=content,
            data_files={"train": glob.escape(str(path))},
            split="train",
            **_options(path),
        )


def _options(path: Path) -> dict[str, Any]:
    """What `datasets` is told about a file besides its path."""
    import datasets
    import pandas as pd

    ending = path.suffix.lower()
    if ending == ".jsonl":
        return {"on_mixed_types": None, "parse_agent_traces": False}
    if ending == ".parquet":
        return {}
    layout: dict[str, Any] = {"encoding": "utf-8-sig", "keep_default_na": False}
    if ending == ".tsv":
        layout |= {"sep": "\t", "quoting": csv.QUOTE_NONE}
    head = pd.read_csv(path, nrows=1, dtype=str, **layout)
    if len(head) and not isinstance(head.index, pd.RangeIndex):
        raise SkillNeuronsError(
            f"{path.name!r}: row 1 has more values than the header has columns; "
            "put texts that hold a comma in double quotes, or use .jsonl"
        )
    return layout | {"features": datasets.Features({str(name): datasets.Value("string") for name in head.columns})}


def _open_hub(data: Data) -> dict[str, datasets.Dataset]:
    import datasets

    where = f"{data.hub!r}" + (f", configuration {data.config!r}" if data.config else "")
    say(f"loading {where} from the hub, or from the copy kept of it")
    with _calm():
        try:
            loaded = datasets.load_dataset(f"hf://datasets/{data.hub}", name=data.config, revision=data.revision)
        except datasets.exceptions.DatasetNotFoundError as error:
            raise SkillNeuronsError(
                f"{error} Check the id and the revision; some datasets ask to log in first."
            ) from None
        except ConnectionError as error:
            raise SkillNeuronsError(
                f"the hub cannot be reached for the dataset {where}: {error}. Check the network (and HF_ENDPOINT, "
                "HF_HUB_OFFLINE), or download its files and name them in a task file."
            ) from None
    names = data.splits()
    lines = [unknown("split", name, loaded) for name in names.values() if name not in loaded]
    if lines:
        raise SkillNeuronsError(f"the dataset {where}: {'; '.join(lines)}")
    return {split: loaded[name] for split, name in names.items()}


@contextlib.contextmanager
def _reporting(where: str, found: list[str]) -> Iterator[None]:
    """Put what goes wrong inside into `found` as one line; a full or closed cache ends everything instead."""
    import datasets

    try:
        yield
    except SkillNeuronsError as error:
        found.append(f"{where}: {error}")
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, OSError) and cause.errno in _CACHE_REFUSES:
            raise SkillNeuronsError(
                f"{where}: {cause.strerror}: {cause.filename or datasets.config.HF_DATASETS_CACHE}. Loaded data are "
                "kept in HF_DATASETS_CACHE; free some space or set it to a folder that can be written."
            ) from error
        found.append(f"{where} cannot be read: {' '.join(str(cause).split())}")


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Without the bars and log lines of `datasets`; what matters of them is in our own messages."""
    import datasets

    bars, verbosity = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not bars:
            datasets.enable_progress_bars()
