"""Small tasks for the tiny models: a word of each text tells its label.

    task = make("single")                       # two labels
    task = make("pair", train=40)               # two texts a sample; the second tells
    task = make("three")                        # three labels of unequal counts, four subtasks

Texts have 1 to 12 words and one of `TELLING` among them. Labels are drawn two to one to ... so that no two sides of
a subtask have the same number of samples.
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
