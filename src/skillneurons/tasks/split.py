"""A split: the samples of a task's train, dev or test, in order.

    len(task.train), task.train.labels[:5]
    task.train.rows[0]                      # {"text": "...", "label": 1}
    task.train.take([0, 17, 3]).fingerprint

Rows are a `datasets.Dataset`: its Arrow file is memory-mapped, so a split costs little memory however many samples
it has. A choice of samples (`take`) keeps indices into what was loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..files import digest, replacing

if TYPE_CHECKING:
    import datasets

LABEL = "label"
_BATCH = 10_000  # samples read at once


@dataclass(frozen=True, eq=False)
class Split:
    """The samples of one split.

    `loaded` has the task's text columns (strings) and `label` (an integer, the index into the task's labels); the
    samples are all its rows, or those at the indices `chosen`, in that order. Two splits are equal when they hold the
    same texts and labels in the same order, wherever they came from.
    """

    loaded: datasets.Dataset
    chosen: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return self.loaded.num_rows if self.chosen is None else len(self.chosen)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Split) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"Split({len(self)} samples)"

    @cached_property
    def rows(self) -> datasets.Dataset:
        """The samples as a `datasets.Dataset`."""
        return self.loaded if self.chosen is None else self.loaded.select(self.chosen)

    @property
    def text(self) -> tuple[str, ...]:
        """The text columns: one, or two for a pair."""
        return tuple(column for column in self.loaded.column_names if column != LABEL)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The labels [samples] int64, as indices into the task's labels; read-only."""
        labels = self.column(LABEL).to_numpy().astype(np.int64)
        labels.flags.writeable = False
        return labels

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the texts and labels in order; how and from where they were loaded does not matter."""
        parts = [self.labels.astype("<i8").tobytes()]
        for name in self.text:
            lengths, content = hashlib.sha256(), hashlib.sha256()
            for start in range(0, len(self), _BATCH):
                column = self.column(name, start, start + _BATCH)
                lengths.update(pc.binary_length(column).to_numpy().astype("<i8").tobytes())
                for chunk in column.chunks:
                    content.update(_content(chunk))
            parts += [lengths.digest(), content.digest()]
        return digest("split", *parts)

    def take(self, indices: Sequence[int] | NDArray[np.integer]) -> Split:
        """The samples at `indices`, in that order."""
        picked = np.asarray(indices, dtype=np.int64)
        return Split(self.loaded, picked if self.chosen is None else self.chosen[picked])

    def column(self, name: str, start: int = 0, stop: int | None = None) -> pa.ChunkedArray:
        """The values of samples `start` to `stop` in one column, as Arrow; of the file only what is asked is read."""
        column = self.loaded.data.column(name)
        stop = len(self) if stop is None else min(stop, len(self))
        if self.chosen is None:
            return column.slice(start, stop - start)
        picked = self.chosen[start:stop]
        if not len(picked):
            return column.slice(0, 0)
        low, high = int(picked.min()), int(picked.max()) + 1
        return column.slice(low, high - low).take(pa.array(picked - low))

    def write(self, path: Path, names: Sequence[str]) -> None:
        """Write a Parquet file: the text columns and `label`, as the label's name in `names`."""
        schema = pa.schema([*((column, pa.large_string()) for column in self.text), (LABEL, pa.string())])
        with replacing(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
            for start in range(0, len(self), _BATCH):
                texts = [self.column(name, start, start + _BATCH).cast(pa.large_string()) for name in self.text]
                labels = pa.array(names, pa.string()).take(pa.array(self.labels[start : start + _BATCH]))
                writer.write_table(pa.table([*texts, labels], schema=schema))


def hold_out(count: int, seed: int | tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of 80 % and of 20 % of `count` samples at random by `seed`, each in ascending order.

    The 20 % are rounded up, which gives the sizes of the paper's Table 5 (67 349 become 53 879 and 13 470).
    """
    order = np.random.default_rng(seed).permutation(count)
    held = -(-count // 5)
    return np.sort(order[held:]), np.sort(order[:held])


def _content(chunk: pa.Array) -> bytes | memoryview:
    """The bytes of a string array's values, one after the other."""
    large = chunk.cast(pa.large_binary())
    _, offsets, data = large.buffers()
    if data is None or not len(large):
        return b""
    ends = np.frombuffer(offsets, dtype=np.int64)
    return memoryview(data)[ends[large.offset] : ends[large.offset + len(large)]]
