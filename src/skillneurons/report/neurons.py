"""The neurons that a page can look up: for each task their rank, predictivity, q, positions and signs, compactly.

    Neurons.of([Finding(about, table)], words)          # of one run, or of several tasks of one model
    neurons.data                                        # what the page embeds, base64

Columns are typed arrays, one after another, in the order of the ranking (which packs well), deflated together:

    index, rank        uint32    a neuron's number, the layers' one after another; its rank
    predictivity, std  uint16    of 65534; std is 65535 where there is one trial
    q                  uint16    - 1000 log10 q
    subtask            uint8     whose ranking this is
    spots              uint16    one column a trial: 2 position + (1 where above the baseline means positive)

A task of more than `MOST` subtasks has a neuron's best subtask alone.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

MOST = 4
"""The most subtasks of a task whose rankings are all told."""
TOP = 5
"""How many of the best neurons are named to begin with."""
NONE = 65535


@dataclass(frozen=True)
class Finding:
    """What a run found on one task: `about` is run.json, `table` as of neurons.parquet."""

    about: Mapping[str, Any]
    table: pd.DataFrame

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.about["task"])


@dataclass(frozen=True)
class Neurons:
    """What is embedded: `data` (base64) and `about` (JSON), which says how to read it.

    `best` has (layer, neuron) of the best ones by task and subtask.
    """

    about: Markup
    data: str
    best: Mapping[str, Sequence[tuple[int, int]]]
    widths: tuple[int, ...]

    @classmethod
    def of(cls, findings: Sequence[Finding], words: Sequence[Mapping[str, Any]] = ()) -> Neurons:
        """Of the findings on one model; `words` are those of `words_of`."""
        widths = findings[0].about["layers"]
        starts = np.cumsum([0, *widths])
        tasks, parts = [], []
        for own in findings:
            names = [part["name"] for part in own.about["subtasks"]]
            rankings = [_ranking(own.table, name) for name in names]
            if len(names) > MOST:
                every = pd.concat(rankings).sort_values("rank", kind="stable")
                rankings = [every.drop_duplicates(["layer", "neuron"])]
            for ranking in rankings:
                tasks.append({"task": own.task, "subtasks": names, "rows": len(ranking), "trials": own.about["trials"]})
                parts += _columns(ranking, names, starts)
        about: dict[str, Any] = {
            "starts": starts.tolist(), "rankings": tasks, "tested": [row for own in findings for row in _tested(own)],
            "words": [dict(row) for row in words],
        }  # fmt: skip
        best: dict[str, list[tuple[int, int]]] = {}
        for row in about["tested"]:
            if row["rank"] <= TOP:
                best.setdefault(_named(row["task"], row["subtask"]), []).append((row["layer"], row["neuron"]))
        data = base64.b64encode(zlib.compress(b"".join(parts), 9)).decode()
        return cls(_json(about), data, best, tuple(widths))


def words_of(table: pd.DataFrame, task: str | None = None) -> list[dict[str, Any]]:
    """The words of neurons by task, as `Neurons.of` takes them, from the table of the experiment on words."""
    given = table if task is None else table.assign(task=task)
    found: dict[tuple[Any, ...], list[str]] = {}
    for row in given[given["way"] == "activation"].to_dict("records"):
        found.setdefault((row["task"], row["layer"], row["neuron"], row["end"]), []).append(str(row["text"]).strip())
    names = ("task", "layer", "neuron", "end")
    return [dict(zip(names, key, strict=True)) | {"texts": texts} for key, texts in found.items()]


def _ranking(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return table[table["subtask"] == name].sort_values("rank", kind="stable")


def _columns(ranking: pd.DataFrame, names: Sequence[str], starts: np.ndarray) -> list[bytes]:
    std, q = ranking["std"].to_numpy(), np.clip(ranking["q_value"].to_numpy(), 1e-65, 1)
    spots = 2 * np.stack(ranking["position"].to_list()) + (np.stack(ranking["sign"].to_list()) > 0)
    columns = [
        (starts[ranking["layer"]] + ranking["neuron"]).to_numpy().astype("<u4"),
        ranking["rank"].to_numpy().astype("<u4"),
        _share(ranking["predictivity"].to_numpy()),
        np.where(np.isnan(std), NONE, _share(np.nan_to_num(std))).astype("<u2"),
        np.round(-1000 * np.log10(q)).astype("<u2"),
        ranking["subtask"].map(names.index).to_numpy().astype("u1"),
        *spots.T.astype("<u2"),
    ]
    return [column.tobytes() for column in columns]


def _share(values: np.ndarray) -> np.ndarray:
    return np.round(values * (NONE - 1)).astype("<u2")


def _tested(own: Finding) -> Iterator[dict[str, Any]]:
    """The figures on test, of the best neurons."""
    keys = ("subtask", "layer", "neuron", "rank", "test_accuracy", "low", "high")
    for row in own.about["results"]["top_neurons"]:
        yield {"task": own.task} | {key: row[key] for key in keys}


def _named(task: str, subtask: str) -> str:
    return task if subtask == task else f"{task}: {subtask}"


def _json(value: Any) -> Markup:
    """JSON that may stand in a page's script element: no sign in it ends one."""
    return Markup(json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"))
