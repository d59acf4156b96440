"""Samples in memory, rows or a DataFrame, as a `datasets.Dataset`.

    found = []
    opened = open_rows([{"text": "a fine day", "label": 1}], spec, "train", found)

Labels become strings, as they stand in [words]: 1, numpy's 1 and 1.0 are "1", True is "true"; None and NaN are none.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .spec import Spec

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa


def open_frame(frame: Any, spec: Spec, split: str, found: list[str]) -> datasets.Dataset | None:
    """A DataFrame's text and label columns as a Dataset in memory; None, with lines in `found`, where that fails."""
    import pandas as pd
    import pyarrow as pa

    if not isinstance(frame, pd.DataFrame):
        found.append(f"{split} is a {type(frame).__name__}, not a pandas DataFrame; rows go to Task.from_rows")
        return None
    if lines := spec.missing([column for column in frame.columns if isinstance(column, str)], split):
        found.extend(lines)
        return None
    try:
        table = pa.Table.from_pandas(frame[[*dict.fromkeys((*spec.text, spec.label))]], preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        found.append(f"{split}: a column mixes kinds of values: {'; '.join(map(str, error.args))}")
        return None
    for index, column in enumerate(table.columns):
        if pa.types.is_dictionary(column.type):  # of a categorical column
            table = table.set_column(index, table.column_names[index], column.cast(column.type.value_type))
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
    if kept and (lines := spec.missing(present, split)):
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


def _label(value: Any) -> str | None:
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
