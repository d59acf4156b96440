"""A task: what a model is asked, with its samples, its labels and the words that stand for them.

    task = Task.from_rows("mood", train=rows, test=more, words={"bad": "negative", "good": "positive"})
    task.sizes, task.majority()
    task.limited(train=1000, dev=500)

A task with two labels is binary: its one subtask is named after it. One with more labels is taken apart into binary
subtasks (section 3.2 of the paper), by default each label against the rest. Without a dev split, 20 % of train are
set apart as dev, at random by the task's `seed`: one split for all trials and for every later command.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Required, TypedDict, Unpack

import numpy as np
from jaxtyping import Int

from ..errors import problems
from ..files import digest, replacing
from .memory import open_frame, open_rows
from .samples import checked, lacking
from .spec import Data, Spec, Subtask, TaskFile
from .split import Split
from .taskfile import FILE, to_toml, validate

if TYPE_CHECKING:
    import datasets
    import pandas as pd

__all__ = ["SPLITS", "Options", "Split", "SplitName", "Subtask", "Task"]

SplitName = Literal["train", "dev", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "dev", "test")


class Options(TypedDict, total=False):
    """What `Task.from_rows` and `Task.from_frame` take besides the samples; as in a task file.

    `words` (needed) maps each label to its label word and gives the order of the labels; `text` is one column, or two
    for a pair; `label` the column of labels, strings or integers (1 stands for "1" in `words`); `positive` the label
    of two that counts as 1 in Eq. 4, by default the last; `subtasks` are for more than two labels.
    """

    words: Required[Mapping[str, str]]
    text: str | Sequence[str]
    label: str
    positive: str | None
    subtasks: Sequence[Subtask | Mapping[str, Any]]
    kind: str | None
    seed: int
    prompts: Sequence[str]


@dataclass(frozen=True, repr=False)
class Task:
    """A classification task with its three splits.

    `text` names the text columns (one, or two for a pair); `labels` are in the order of `words`, which maps each label
    to its label word as written; `kind` groups tasks in comparisons; `seed` decided the split; `source` says where it
    was loaded from; `prompts` are hard prompts that suit it. Made by `load_task`, `from_rows` or `from_frame`, which
    check everything. Two tasks are equal when all but their source is.
    """

    name: str
    text: tuple[str, ...]
    labels: tuple[str, ...]
    words: Mapping[str, str]
    subtasks: tuple[Subtask, ...]
    train: Split
    dev: Split
    test: Split
    kind: str | None = None
    seed: int = 0
    source: str | None = field(default=None, compare=False)
    prompts: tuple[str, ...] = ()

    @classmethod
    def from_rows(
        cls,
        name: str,
        *,
        train: Iterable[Mapping[str, Any]],
        dev: Iterable[Mapping[str, Any]] | None = None,
        test: Iterable[Mapping[str, Any]],
        source: str | None = None,
        **options: Unpack[Options],
    ) -> Task:
        """A task from rows in memory, each a mapping from column names to values; `Options` says the rest.

        Without `dev`, 20 % of train are set apart. Raises `SkillNeuronsError` with every problem.
        """
        found: list[str] = []
        spec = validate(Spec, {"name": name, **options}, found)
        given = {"train": train, "dev": dev, "test": test}
        opened = {split: open_rows(rows, spec, split, found) for split, rows in given.items() if rows is not None}
        return cls._checked(spec, opened, found, source)

    @classmethod
    def from_frame(
        cls,
        name: str,
        train: pd.DataFrame,
        *,
        dev: pd.DataFrame | None = None,
        test: pd.DataFrame | None = None,
        source: str | None = None,
        **options: Unpack[Options],
    ) -> Task:
        """A task from pandas DataFrames, one a split; `Options` says the rest.

        Without `test`, 20 % of train are set apart as test first, and then, without `dev`, 20 % of what is left as
        dev, both at random by `seed`. Raises `SkillNeuronsError` with every problem.
        """
        found: list[str] = []
        spec = validate(Spec, {"name": name, **options}, found)
        given = {"train": train, "dev": dev, "test": test}
        opened = {split: open_frame(frame, spec, split, found) for split, frame in given.items() if frame is not None}
        return cls._checked(spec, opened, found, source)

    @classmethod
    def _checked(
        cls, spec: Spec, opened: Mapping[str, datasets.Dataset | None], found: list[str], source: str | None
    ) -> Task:
        usable = {split: rows for split, rows in opened.items() if rows is not None}
        splits = checked(spec, usable, found)
        if found:
            raise problems(f"the task {spec.name!r} cannot be made", found)
        return cls.of(spec, splits, source)

    @classmethod
    def of(cls, spec: Spec, splits: Mapping[str, Split], source: str | None) -> Task:
        """A task of checked parts: `spec` without mistakes and the splits that `samples.checked` made for it."""
        return cls(
            name=spec.name,
            text=spec.text,
            labels=spec.labels,
            words=dict(spec.words),
            subtasks=spec.parts(),
            train=splits["train"],
            dev=splits["dev"],
            test=splits["test"],
            kind=spec.kind,
            seed=spec.seed,
            source=source,
            prompts=spec.prompts,
        )

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{split} {size}" for split, size in self.sizes.items())
        return f"Task({self.name!r}: {', '.join(self.labels)}; {sizes})"

    @property
    def binary(self) -> bool:
        """Whether there are two labels, and so one subtask: the task itself."""
        return len(self.labels) == 2

    @property
    def sizes(self) -> dict[SplitName, int]:
        """The number of samples of each split."""
        return {split: len(getattr(self, split)) for split in SPLITS}

    def majority(self, split: SplitName = "test") -> float:
        """The share of the commonest label in a split: the accuracy of always giving that answer."""
        labels = getattr(self, split).labels
        return float(np.bincount(labels).max() / len(labels))

    def limited(self, train: int | None = None, dev: int | None = None, test: int | None = None) -> Task:
        """The task with at most so many samples in each split.

        A random choice by the task's seed, in the samples' own order; a smaller limit takes a part of what a larger
        one takes. Raises `SkillNeuronsError` where a limit leaves train or dev without a sample of some label.
        """
        found: list[str] = []
        chosen: dict[str, Any] = {}
        for name, limit in {"train": train, "dev": dev, "test": test}.items():
            split: Split = getattr(self, name)
            if limit is None or limit >= len(split):
                continue
            if limit < 1:
                found.append(f"a limit is at least 1 sample (given for {name}: {limit})")
                continue
            chosen[name] = split.take(self.some(name, limit))
            lines = lacking(self.labels, name, chosen[name].labels)
            found.extend(f"{line}; raise its limit of {limit}" for line in lines)
        if found:
            raise problems(f"the task {self.name!r} cannot be limited so", found)
        return replace(self, **chosen)

    def some(self, split: str, limit: int | None) -> Int[np.ndarray, " sample"]:
        """The places in a split of the samples that a limit leaves, ascending."""
        size = len(getattr(self, split))
        order = np.random.default_rng((self.seed, 2, SPLITS.index(split))).permutation(size)
        return np.sort(order[:limit])

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the name, labels, label words, subtasks and all samples in order."""
        said = [self.name, self.labels, list(self.words.items()), [asdict(part) for part in self.subtasks]]
        prints = [getattr(self, split).fingerprint for split in SPLITS]
        return digest("task", json.dumps(said, ensure_ascii=False), *prints)

    @cached_property
    def split_fingerprint(self) -> str:
        """A hash of which samples are in train and which in dev."""
        return digest("train and dev", self.train.fingerprint, self.dev.fingerprint)

    def save(self, folder: Path) -> Path:
        """Write the task to `folder`: a task file and a Parquet file a split. `load_task(folder)` gives an equal task.

        Returns the task file's path. Raises `SkillNeuronsError` where the folder cannot be written.
        """
        for split in SPLITS:
            getattr(self, split).write(folder / f"{split}.parquet", self.labels)
        file = TaskFile(
            name=self.name,
            text=self.text,
            kind=self.kind,
            positive=self.subtasks[0].positive[0] if self.binary else None,
            seed=self.seed,
            prompts=self.prompts,
            data=Data(train="train.parquet", dev="dev.parquet", test="test.parquet"),
            words=dict(self.words),
            subtasks=() if self.binary else self.subtasks,
        )
        with replacing(folder / FILE) as temporary:
            temporary.write_text(to_toml(file), encoding="utf-8")
        return folder / FILE
