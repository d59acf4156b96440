"""From what was opened to checked splits: columns, texts, labels and sizes, with every problem told at once.

    found = []
    splits = checked(spec, opened, keep=(), found=found)     # {"train": Split, "dev": Split, "test": Split}

Labels may be strings, integers (1 stands for "1" in [words]) or a hub dataset's named classes. Rows are counted
from 1 in messages, headers not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..files import digest
from .spec import Spec, unknown
from .split import LABEL, Split, hold_out

if TYPE_CHECKING:
    import datasets

_SHOWN = 5  # unknown labels told one by one


def checked(
    spec: Spec, opened: Mapping[str, datasets.Dataset], found: list[str], keep: Sequence[str] = ()
) -> dict[str, Split]:
    """The splits of a task, `train`, `dev` and `test`; what is wrong goes to `found`, one line each.

    Where `test` was not opened, and then where `dev` was not, 20 % of what is left of train are set apart, at random by
    the task's seed. `keep` keeps the rows of these labels. Without a problem in `found` all three are there.
    """
    found.extend(f"data.keep: {unknown('label', label, spec.words)}" for label in keep if label not in spec.words)
    read = {name: _read(spec, rows, keep, name, found) for name, rows in opened.items()}
    if found:
        return {}
    splits = {}
    for name, (codes, kept) in read.items():
        key = digest(opened[name]._fingerprint, *spec.text, spec.label)
        rows = opened[name].select_columns(list(spec.text)).add_column(LABEL, codes, new_fingerprint=key)
        splits[name] = Split(rows, None if kept.all() else np.flatnonzero(kept))
    for name, seed in (("test", (spec.seed, 1)), ("dev", (spec.seed,))):
        if name not in splits:
            rest, held = hold_out(len(splits["train"]), seed)
            splits[name], splits["train"] = splits["train"].take(held), splits["train"].take(rest)
            lines = [line for part in (name, "train") for line in lacking(spec.labels, part, splits[part].labels)]
            found.extend(f"{line}, after 20 % of train were set apart as {name}" for line in lines)
        if found:
            break
    return splits


def _read(
    spec: Spec, rows: datasets.Dataset, keep: Sequence[str], name: str, found: list[str]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The labels [rows] as indices into the task's labels, and which rows [rows] are kept; problems go to `found`."""
    if lines := spec.missing(rows.column_names, name):
        found.extend(lines)
        return np.zeros(0, np.int64), np.zeros(0, np.bool_)
    before = len(found)
    codes, kept = _codes(spec, rows, keep, name, found)
    if len(found) == before:
        found.extend(lacking(spec.labels, name, codes[kept]))
    for column in spec.text:
        kind = rows.data.schema.field(column).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            found.append(f"{name}: column {column!r} holds {kind}, not text")
            continue
        missing = rows.data.column(column).is_null().to_numpy() & kept
        if missing.any():
            where = _where(int(missing.sum()), int(missing.argmax()))
            found.append(f"{name}: {where} no text in {column!r}")
    return codes, kept


def _codes(
    spec: Spec, rows: datasets.Dataset, keep: Sequence[str], name: str, found: list[str]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The labels [rows] as indices into the task's labels, and which rows [rows] are kept, whatever their texts."""
    labels = _names(spec, rows)
    everything = np.ones(len(rows), np.bool_)
    if labels is None:
        found.append(f"{name}: column {spec.label!r} holds {rows.features[spec.label]}, not labels")
        return np.zeros(len(rows), np.int64), everything
    kept = pc.is_in(labels, value_set=pa.array(keep, pa.string())).to_numpy() if keep else everything
    codes = pc.index_in(labels, value_set=pa.array(spec.labels, pa.string()))
    none = labels.is_null().to_numpy() & kept
    if none.any():
        where = _where(int(none.sum()), int(none.argmax()))
        found.append(f"{name}: {where} no label; leave them out, or name a split that has its labels")
    strange = codes.is_null().to_numpy() & kept & ~none
    if strange.any():
        found.extend(_strange(spec, name, labels, strange))
    return codes.fill_null(0).to_numpy().astype(np.int64), kept


def _names(spec: Spec, rows: datasets.Dataset) -> pa.ChunkedArray | None:
    """The labels as strings, null where there is none (-1 too, unless [words] has it); None where they cannot be."""
    column = rows.data.column(spec.label)
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind):
        return column.cast(pa.string())
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), None, column)
        if not pc.all(pc.equal(column, pc.floor(column))).as_py():
            return column.cast(pa.string())
    elif not pa.types.is_integer(kind):
        return None
    column = column.cast(pa.int64())
    classes = getattr(rows.features[spec.label], "names", None)
    if classes and not set(spec.words) <= {str(number) for number in range(len(classes))}:
        column = pc.if_else(pc.less(column, 0), None, column)
        return pc.take(pa.array(classes, pa.string()), column)
    if "-1" not in spec.words:
        column = pc.if_else(pc.equal(column, -1), None, column)
    return column.cast(pa.string())


def _strange(spec: Spec, name: str, labels: pa.ChunkedArray, strange: NDArray[np.bool_]) -> list[str]:
    """A line for each label that has no label word, the commonest first."""
    numbers = np.flatnonzero(strange)
    names = labels.take(numbers).to_pylist()
    first = dict(zip(reversed(names), reversed(numbers.tolist()), strict=True))
    lines = [
        f"{name}: {unknown('label', label, spec.words)}; {_where(count, first[label])} it. "
        "Give it a word in [words], or list the labels you want in data.keep"
        for label, count in Counter(names).most_common(_SHOWN)
    ]
    if len(first) > _SHOWN:
        lines.append(f"{name}: {len(first) - _SHOWN} more labels without a word; is {spec.label!r} the right column?")
    return lines


def lacking(names: Sequence[str], split: str, labels: NDArray[np.int64]) -> list[str]:
    """What a split needs and does not have: samples at all, and for train and dev some of every label.

    `labels` [samples] are indices into the task's labels `names`.
    """
    if not len(labels):
        return [f"{split} is empty: a split needs samples"]
    counts = np.bincount(labels, minlength=len(names))
    absent = [name for name, count in zip(names, counts, strict=True) if not count]
    if split == "test" or not absent:
        return []
    only = f" (all are {names[int(counts.argmax())]!r})" if len(absent) == len(names) - 1 else ""
    return [f"{split} has no sample of {', '.join(map(repr, absent))}{only}: it needs some of every label in [words]"]


def _where(count: int, first: int) -> str:
    """`row 17 has`, or `3 rows (the first is row 17) have`; `first` counts from 0."""
    return f"row {first + 1} has" if count == 1 else f"{count} rows (the first is row {first + 1}) have"
