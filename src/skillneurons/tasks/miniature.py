"""The miniature's tasks, and the unlabelled text that its model was pretrained on.

    task = miniature_task("films")                     # one of MINIATURE_TASKS
    genre, document = next(documents("some seed"))     # without an end

The same words give the same task on every machine: everything follows from the names as seeds. The tasks are the
paper's seven in this language: `films`, `products` and `messages` of sentiment, `statements` and `questions` of
inference, `news` and `descriptions` of topic. Their texts never name a label. A document of the pretraining text has
another number of telling clauses than any text of a task, so that no text of a task is among them; some have a
verdict, which does name the label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random

from .document import Document
from .genres import FILMS, MESSAGES, PRODUCTS
from .grammar import Genre, pick
from .pairs import Questions, Statements
from .scenes import QUESTIONS, STATEMENTS
from .spec import Subtask
from .task import Task
from .topics import DESCRIPTIONS, NEWS

AnyGenre = Genre | Statements | Questions

GENRES: Mapping[str, AnyGenre] = {
    "films": FILMS,
    "products": PRODUCTS,
    "messages": MESSAGES,
    "statements": STATEMENTS,
    "questions": QUESTIONS,
    "news": NEWS,
    "descriptions": DESCRIPTIONS,
}
KINDS: Mapping[str, tuple[str, ...]] = {
    "sentiment": ("films", "products", "messages"),
    "inference": ("statements", "questions"),
    "topic": ("news", "descriptions"),
}
MINIATURE_TASKS: tuple[str, ...] = tuple(GENRES)
_SHARES = {"films": 2, "products": 2, "messages": 2, "statements": 4, "questions": 3, "news": 1, "descriptions": 1}
TOLD: tuple[str, ...] = tuple(name for name, share in _SHARES.items() for _ in range(share))
"""The genres of the pretraining text, as often as each is drawn: what is learned slowly is told oftener."""

_SIZES = {"train": 2000, "dev": 600, "test": 1000}
_COLUMNS = {"statements": ("premise", "hypothesis"), "questions": ("question", "sentence")}
_SUBTASKS = {
    "messages": (
        Subtask("positive-negative", positive=("positive",), negative=("negative",)),
        Subtask("neutral-rest", positive=("neutral",), negative=("negative", "positive")),
    ),
    "statements": (
        Subtask("entailment-contradiction", positive=("entailment",), negative=("contradiction",)),
        Subtask("neutral-rest", positive=("neutral",), negative=("entailment", "contradiction")),
    ),
}


def miniature_task(name: str) -> Task:
    """The miniature's task of that name, one of `MINIATURE_TASKS`: 2000 samples to train, 600 dev, 1000 test.

    Labels are equally frequent, up to one sample, and no text occurs twice in a task.
    """
    genre, columns = GENRES[name], _COLUMNS.get(name, ("text",))
    draw = Random(f"miniature {name}")
    seen: set[tuple[str, ...]] = set()
    splits = {
        split: [_row(draw, genre, columns, index, seen) for index in range(size)] for split, size in _SIZES.items()
    }
    return Task.from_rows(
        name,
        train=splits["train"],
        dev=splits["dev"],
        test=splits["test"],
        text=columns,
        words=genre.named,
        subtasks=_SUBTASKS.get(name, ()),
        kind=next(kind for kind, names in KINDS.items() if name in names),
        prompts=(genre.verdicts[-1].replace("{label} ", "") + " .",),
        source=f"miniature/{name}",
    )


def documents(seed: str, verdict: float = 0.5, names: Sequence[str] = TOLD) -> Iterator[tuple[AnyGenre, Document]]:
    """Pretraining text without end: documents of the genres `names`, a share of `verdict` with a verdict.

    A genre is the likelier the oftener `names` has it, a label the oftener it is among the genre's `told`.
    """
    draw = Random(f"miniature text {seed}")
    while True:
        genre = GENRES[pick(draw, names)]
        yield genre, genre.document(draw, pick(draw, genre.told), genre.in_text, verdict)


def vocabulary() -> list[str]:
    """Every word of the miniature's language, in alphabetical order."""
    return sorted(frozenset[str]().union(*(genre.vocabulary for genre in GENRES.values())))


def _row(
    draw: Random, genre: AnyGenre, columns: tuple[str, ...], index: int, seen: set[tuple[str, ...]]
) -> dict[str, str]:
    label = genre.labels[index % len(genre.labels)]
    while (texts := genre.document(draw, label).columns()) in seen:
        pass
    seen.add(texts)
    return {**dict(zip(columns, texts, strict=True)), "label": label}
