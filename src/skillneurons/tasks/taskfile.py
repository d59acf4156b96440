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

Read here with every mistake collected, and written. Its sections as objects are in `spec`; the samples are opened in
`sources` and checked in `samples`.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from ..config import Config
from ..errors import SkillNeuronsError
from .spec import Data, Spec, TaskFile, unknown

FILE = "task.toml"
S = TypeVar("S", bound=Spec)


def validate(form: type[S], raw: Mapping[str, Any], found: list[str]) -> S:
    """`raw` as a `form`; what does not fit is told in `found` and left out, so that the rest is still checked."""
    try:
        spec = form.model_validate(raw)
    except ValidationError as error:
        values = _copied(raw)
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
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{where}: {unknown('key', str(place[-1]), _keys(form, place))}"
    if problem["type"] == "missing":
        return f"{where} is missing"
    return f"{where}: {problem['msg'].lower()} (given: {problem['input']!r})"


def _keys(form: type[Config], place: tuple[int | str, ...]) -> Iterable[str]:
    if place[0] == "subtasks":
        return ("name", "positive", "negative")
    return Data.model_fields if place[0] == "data" and len(place) > 1 else form.model_fields


def _copied(value: Any) -> Any:
    """A copy with plain tables and lists, which can be taken apart."""
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


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
