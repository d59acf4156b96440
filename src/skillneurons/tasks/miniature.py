"""The miniature's tasks, and the unlabelled text that its model was pretrained on.

    task = miniature_task("films")                     # "films", "products" or "messages"
    genre, document = next(documents("some seed"))     # without an end

The same words give the same task on every machine: everything follows from the names as seeds. A task's texts
have two or three telling clauses and never name a label; a document of the pretraining text has four to six, so that no
text of a task is among them, and every other one has a verdict.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from .genres import GENRES
from .grammar import Document, Genre, pick
from .spec import Subtask
from .task import Task

MINIATURE_TASKS: tuple[str, ...] = tuple(GENRES)

_SIZES = {"train": 2000, "dev": 600, "test": 1000}
_SUBTASKS = (
    Subtask("positive-negative", positive=("positive",), negative=("negative",)),
    Subtask("neutral-rest", positive=("neutral",), negative=("negative", "positive")),
)


def miniature_task(name: str) -> Task:
    """The miniature's task of that name, one of `MINIATURE_TASKS`: 2000 samples to train, 600 dev, 1000 test.

    Labels are equally frequent, up to one sample, and no text occurs twice in a task.
    """
    genre = GENRES[name]
    draw = Random(f"miniature {name}")
    seen: set[str] = set()
    splits = {split: [_row(draw, genre, index, seen) for index in range(size)] for split, size in _SIZES.items()}
    return Task.from_rows(
        name,
        train=splits["train"],
        dev=splits["dev"],
        test=splits["test"],
        words={label: label for label in genre.labels},
        subtasks=_SUBTASKS if len(genre.labels) > 2 else (),
        kind="sentiment",
        prompts=("is how it sounds to me .",),
        source=f"miniature/{name}",
    )


def documents(seed: str, verdict: float = 0.5) -> Iterator[tuple[Genre, Document]]:
    """Pretraining text without end: documents of all genres and labels, a share of `verdict` with a verdict."""
    draw = Random(f"miniature text {seed}")
    genres = tuple(GENRES.values())
    while True:
        genre = pick(draw, genres)
        yield genre, genre.document(draw, pick(draw, genre.labels), telling=(4, 5, 6), verdict=verdict)


def vocabulary() -> list[str]:
    """Every word of the miniature's language, in alphabetical order."""
    return sorted(frozenset[str]().union(*(genre.vocabulary for genre in GENRES.values())))


def _row(draw: Random, genre: Genre, index: int, seen: set[str]) -> dict[str, str]:
    label = genre.labels[index % len(genre.labels)]
    while (text := str(genre.document(draw, label))) in seen:
        pass
    seen.add(text)
    return {"text": text, "label": label}
