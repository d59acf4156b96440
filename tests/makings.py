"""Small tasks for the tiny models: a word of each text tells its label.

    task = make("single")                       # two labels
    task = make("pair", train=40)               # two texts a sample; the second tells
    task = make("three")                        # three labels of unequal counts, four subtasks
    task = easy()                               # one that any model can learn

Texts of `make` have 1 to 12 words and one of `TELLING` among them. Labels are drawn unevenly, so that the two sides of
a subtask differ in their number of samples.
"""

from __future__ import annotations

import random
from typing import Any, Literal

from skillneurons import Task

from .families import sentences

Form = Literal["single", "pair", "three"]

TELLING = {
    "negative": ("dull", "slow", "cold"),
    "neutral": ("bank", "river", "town"),
    "positive": ("bright", "quick", "warm"),
}
SUBTASKS = [
    {"name": "good-rest", "positive": ["positive"], "negative": ["negative", "neutral"]},
    {"name": "good-bad", "positive": ["positive"], "negative": ["negative"]},
    {"name": "neutral-rest", "positive": ["neutral"], "negative": ["negative", "positive"]},
    {"name": "bad-neutral", "positive": ["negative"], "negative": ["neutral"]},
]


def rows(form: Form, count: int, seed: int) -> list[dict[str, Any]]:
    """`count` samples; the first ones take the labels in turn, so that none is missing."""
    draw = random.Random(seed)
    labels = [label for label in TELLING if form == "three" or label != "neutral"]
    found = []
    for index, text in enumerate(sentences(count, seed)):
        label = labels[index] if index < len(labels) else draw.choices(labels, [3, 2, 4][: len(labels)])[0]
        words = text.split()
        words.insert(draw.randrange(len(words) + 1), draw.choice(TELLING[label]))
        sample = {"label": label, "text": " ".join(words)}
        if form == "pair":
            sample["before"] = " ".join(draw.choices(words, k=draw.randint(1, 6)))
        found.append(sample)
    return found


def make(form: Form, train: int = 60, dev: int = 40, test: int = 30, seed: int = 0, **options: Any) -> Task:
    """A task in memory, named after its form."""
    sizes = {"train": train, "dev": dev, "test": test}
    splits: dict[str, Any] = {
        split: rows(form, size, 3 * seed + part) for part, (split, size) in enumerate(sizes.items())
    }
    if form == "three":
        options = {"subtasks": SUBTASKS, **options}
    text = ["before", "text"] if form == "pair" else ["text"]
    words = {label: label for label in TELLING if form == "three" or label != "neutral"}
    return Task.from_rows(form, **splits, text=text, words=words, seed=seed, **options)


def easy(train: int = 96, dev: int = 48, test: int = 48) -> Task:
    """A task that any model can learn: each text is one word, again and again."""
    draw = random.Random(0)

    def some(count: int) -> list[dict[str, Any]]:
        labels = [*draw.choices(["negative", "positive"], k=count - 2), "negative", "positive"]
        return [{"label": label, "text": " ".join([TELLING[label][0]] * draw.randint(2, 6))} for label in labels]

    words = {"negative": "negative", "positive": "positive"}
    return Task.from_rows("easy", train=some(train), dev=some(dev), test=some(test), words=words)
