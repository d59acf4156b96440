"""The parts of a task file as validated objects: what a task is (`Spec`) and where its samples are (`Data`).

    file = TaskFile(name="mood", words={"bad": "negative", "good": "positive"}, data=Data(train="a.csv", test="b.csv"))
    file.labels, file.parts(), file.mistakes()

Types are checked when an object is made; `mistakes` tells what else contradicts itself or is missing, all of it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, ConfigDict, Field

from ..config import Config

HUB_SPLITS = {"train": "train", "dev": None, "test": "test"}
Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]


@dataclass(frozen=True)
class Subtask:
    """One binary split of a task's labels: `positive` count as 1 in Eq. 4, `negative` as 0, others are left out."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    positive: Names
    negative: Names


class Data(Config):
    """Where the samples are: files beside the task file, or the splits of a dataset on the hub.

    For files `train` and `test` are file names; for a hub they are split names and default to `train` and `test`.
    Without `dev`, 20 % of train are set apart. `keep` keeps the rows of these labels only.
    """

    train: str | None = None
    dev: str | None = None
    test: str | None = None
    hub: str | None = None
    config: str | None = None
    revision: str | None = None
    keep: Names = ()

    def splits(self) -> dict[str, str]:
        """What is named for train, dev and test; a split that is not given is left out."""
        given = {"train": self.train, "dev": self.dev, "test": self.test}
        if self.hub is not None:
            given = {split: name or HUB_SPLITS[split] for split, name in given.items()}
        return {split: name for split, name in given.items() if name}

    def mistakes(self) -> list[str]:
        """What contradicts itself or is missing, one line each."""
        if self.hub is not None:
            named = re.fullmatch(r"[\w.-]+/[\w.-]+", self.hub)
            return [] if named else [f"data.hub is 'owner/name' of a dataset on the hub (given: {self.hub!r})"]
        lines = [
            f"data.{split} is missing: name a file beside the task file, or set data.hub to a dataset's id"
            for split in ("train", "test")
            if split not in self.splits()
        ]
        return lines + [
            f"data.{key} is for a dataset on the hub, and data.hub is not set"
            for key in ("config", "revision")
            if getattr(self, key) is not None
        ]


class Spec(Config):
    """What a task is, apart from its samples. `positive` is for two labels and defaults to the last of `words`."""

    name: str = ""
    text: Names = ("text",)
    label: str = "label"
    kind: str | None = None
    positive: str | None = None
    seed: int = Field(default=0, ge=0)
    prompts: Names = ()
    words: dict[str, str] = Field(default_factory=dict)
    subtasks: tuple[Subtask, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of `words`."""
        return tuple(self.words)

    def parts(self) -> tuple[Subtask, ...]:
        """The subtasks: the task itself for two labels; else those given, or each label against the rest."""
        if len(self.labels) == 2:
            positive = self.positive if self.positive is not None else self.labels[1]
            negative = next(label for label in self.labels if label != positive)
            return (Subtask(self.name, (positive,), (negative,)),)
        return self.subtasks or tuple(
            Subtask(f"{label}-rest", (label,), tuple(other for other in self.labels if other != label))
            for label in self.labels
        )

    def missing(self, columns: Iterable[str], split: str) -> list[str]:
        """A line for each column that the task names and that is not among a split's `columns`."""
        there = list(columns)
        named = (*self.text, self.label)
        return [f"{split}: {unknown('column', name, there)}" for name in named if name not in there]

    def mistakes(self) -> list[str]:
        """What contradicts itself or is missing, one line each."""
        return [*self._naming(), *self._wording(), *self._splitting()]

    def _naming(self) -> Iterable[str]:
        if not self.name.strip():
            yield "name is missing: give the task a short name"
        if not 1 <= len(self.text) <= 2 or len(set(self.text)) < len(self.text):
            yield f"text names one column, or two different ones for a pair (given: {list(self.text)})"
        if self.label in self.text:
            yield f"label names a column of its own, but {self.label!r} is a text column too"
        elif "label" in self.text:
            yield "a text column cannot be called 'label', which is what a split calls its labels; rename the column"

    def _wording(self) -> Iterable[str]:
        if len(self.words) < 2:
            yield f"words gives at least two labels a label word each (given: {len(self.words)})"
        holders: dict[str, list[str]] = {}
        for label, word in self.words.items():
            holders.setdefault(word.strip(), []).append(label)
        for word, labels in holders.items():
            if not word:
                yield f"words.{labels[0]} is empty: a label word is one token of the model's vocabulary"
            elif len(labels) > 1:
                yield f"words: the labels {', '.join(labels)} share the label word {word!r}; give each its own"

    def _splitting(self) -> Iterable[str]:
        if len(self.words) == 2:
            if self.positive is not None and self.positive not in self.words:
                yield f"positive: {unknown('label', self.positive, self.words)}"
            if self.subtasks:
                yield "subtasks are for more than two labels: a task of two is its own subtask; remove them"
            return
        if self.positive is not None:
            yield "positive is for two labels: with more, say it in [[subtasks]]"
        names = [part.name for part in self.subtasks]
        for part in self.subtasks:
            if not part.name.strip():
                yield "subtasks: one has no name"
            if part.name == self.name or names.count(part.name) > 1:
                yield f"subtasks: the name {part.name!r} is taken; each has its own, other than the task's"
            for side in ("positive", "negative"):
                labels = getattr(part, side)
                if not labels:
                    yield f"subtask {part.name!r}: {side} names no label"
                for label in labels:
                    if label not in self.words:
                        yield f"subtask {part.name!r}: {side}: {unknown('label', label, self.words)}"
            if both := sorted(set(part.positive) & set(part.negative)):
                yield f"subtask {part.name!r}: {', '.join(both)} cannot be on both sides"


class TaskFile(Spec):
    """A whole task file: what the task is, and where its samples are."""

    data: Data = Data()

    def mistakes(self) -> list[str]:
        """What contradicts itself or is missing, one line each."""
        return [*super().mistakes(), *self.data.mistakes()]


def unknown(what: str, given: str, known: Iterable[str]) -> str:
    """`there is no label 'x'`, with the nearest of the known names and all of them."""
    names = list(known)
    near = difflib.get_close_matches(given, names, n=1)
    guess = f"; did you mean {near[0]!r}?" if near else ""
    return f"there is no {what} {given!r}{guess} ({what}s here: {', '.join(map(repr, names)) or 'none'})"
