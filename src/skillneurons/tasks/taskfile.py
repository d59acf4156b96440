"""The task file: a small TOML file that says what a task is and where its samples are.

    name = "sst2"
    text = ["text"]              # one column, or two for a pair of sentences
    label = "label"
    [data]
    train = "train.jsonl"        # beside this file: .jsonl, .csv, .tsv, .parquet
    test = "test.jsonl"          # no dev: 20 % of train, at random, by `seed`
    [words]                      # label -> label word; the order of the labels
    negative = "negative"
    positive = "positive"

Here are its sections as validated objects (`TaskFile`, `Data`, `Subtask`), reading them from TOML with every mistake
collected, and writing them. The samples themselves are opened in `sources` and checked in `samples`.
"""

from __future__ import annotations

import copy
import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from ..config import Config
from ..errors import SkillNeuronsError

FILE = "task.toml"
HUB_SPLITS = {"train": "train", "dev": None, "test": "test"}
S = TypeVar("S", bound="Spec")
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
            named = re.fullmatch(r"[\w.-]+/[\w.-]+|[\w.-]+", self.hub)
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


def validate(form: type[S], raw: Mapping[str, Any], found: list[str]) -> S:
    """`raw` as a `form`; what does not fit is told in `found` and left out, so that the rest is still checked."""
    try:
        spec = form.model_validate(raw)
    except ValidationError as error:
        values = copy.deepcopy(dict(raw))
        for problem in error.errors():
            place = problem["loc"]
            found.append(_explain(form, place, problem))
            _drop(values, place[:-1] if problem["type"] == "missing" else place)
        spec = form.model_validate(_without_holes(values))
    found.extend(spec.mistakes())
    return spec


def read_task_file(path: Path, found: list[str]) -> TaskFile:
    """The task file at `path`, with its mistakes in `found`. Raises `SkillNeuronsError` where it is no TOML at all."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or error
        raise SkillNeuronsError(f"the task file {path} cannot be read: {reason}. Check the path.") from None
    except UnicodeDecodeError as error:
        raise SkillNeuronsError(f"the task file {path} is not UTF-8: {error}. Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise SkillNeuronsError(
            f"the task file {path} is not valid TOML: {error}. Strings stand in quotes, lists in brackets."
        ) from None
    return validate(TaskFile, raw, found)


def to_toml(file: TaskFile) -> str:
    """The TOML of a task file; reading it back gives an equal one."""
    values = file.model_dump(exclude_defaults=True)
    data, words, subtasks = (values.pop(key, {}) for key in ("data", "words", "subtasks"))
    lines = [*_pairs(values), "", "[data]", *_pairs(data), "", "[words]", *_pairs(words)]
    for part in subtasks:
        lines += ["", "[[subtasks]]", *_pairs(part)]
    return "\n".join(lines) + "\n"


def _pairs(values: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in values.items()]


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: str | int | tuple[str, ...]) -> str:
    # TOML's basic strings and JSON's agree but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _explain(form: type[Config], place: tuple[int | str, ...], problem: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in place)
    if problem["type"] == "extra_forbidden":
        return f"{where}: {unknown('key', str(place[-1]), _keys(form, place))}"
    if problem["type"] == "missing":
        return f"{where} is missing"
    return f"{where}: {problem['msg'].lower()} (given: {problem['input']!r})"


def _keys(form: type[Config], place: tuple[int | str, ...]) -> Iterable[str]:
    if place[0] == "subtasks":
        return ("name", "positive", "negative")
    return Data.model_fields if place[0] == "data" and len(place) > 1 else form.model_fields


def _drop(values: Any, place: tuple[Any, ...]) -> None:
    """Remove what stands at `place`, or the innermost list or table on the way to it; a list keeps a hole."""
    for depth, part in enumerate(place):
        if values is None:
            return
        inner = values[part] if isinstance(values, list) else values.get(part)
        if depth == len(place) - 1 or not isinstance(inner, list | dict):
            if isinstance(values, list):
                values[part] = None
            else:
                values.pop(part, None)
            return
        values = inner


def _without_holes(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: [entry for entry in value if entry is not None] if isinstance(value, list) else value
        for key, value in values.items()
    }
