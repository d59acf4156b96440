"""How the miniature's language is made: documents of clauses that share a label which the text does not name.

    draw = random.Random(7)
    document = FILMS.document(draw, "positive")
    str(document)                          # "the plot is not dull . we saw it on friday . the hero shines ."
    FILMS.posterior(document)              # {"negative": 0.006, "positive": 0.994}

A genre draws clauses under a label. A telling clause speaks for the document's label, but with the chance `doubt` for
another one: what there is to know comes from several clauses, and is never quite certain. Fillers speak for none.
A frame is a sentence with slots, of three kinds:

    {part}      words that any label may use
    {adj}       words of the clause's own label; {adj@positive}: of the label named
    {!adj}      words of the opposite label, in a frame that turns them round: "not dull"

A word is *latent* where nothing but the label decides it: its clause holds no other of the label's words. The loss of
a reader there is computed from the chances that made the text: `blind` knows the grammar and the clause, `informed` the
whole document. Draws use `random()` only, whose sequence Python keeps from version to version.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from random import Random
from typing import TypeVar

from .document import Clause, Document, Words

T = TypeVar("T")

_SLOT = re.compile(r"\{(?P<turned>!?)(?P<name>\w+)(?:@(?P<label>\w+))?\}")


@dataclass(frozen=True)
class Genre:
    """One kind of text: its labels, words and frames.

    `words` says what fills a slot under any label, `telling` what fills it under each. A frame of `frames` serves each
    label that has words for its slots, one of `turned` each label that has an `opposite`, one of `sayings` its label
    alone. Frames of `verdicts` name the label in the slot `label`. `ends` are full stops, one kind to a document.
    A text of a task has `in_task` telling clauses, one of the pretraining text `in_text`; one of these numbers, all
    equally likely.
    """

    labels: Words
    words: Mapping[str, Words]
    telling: Mapping[str, Mapping[str, Words]]
    frames: Words
    sayings: Mapping[str, Words]
    fillers: Words
    verdicts: Words
    turned: Words = ()
    opposite: Mapping[str, str] = field(default_factory=dict)
    ends: Words = (".",)
    doubt: float = 0.07
    in_task: tuple[int, ...] = (2, 3)
    in_text: tuple[int, ...] = (4, 5, 6)

    @property
    def named(self) -> Mapping[str, str]:
        """The word that names each label: the label itself."""
        return {label: label for label in self.labels}

    @property
    def told(self) -> Words:
        """The labels of the pretraining text, as often as each is drawn: all alike."""
        return self.labels

    def document(self, draw: Random, label: str, telling: Sequence[int] = (), verdict: float = 0.0) -> Document:
        """A document under `label`.

        The number of its telling clauses is one of `telling`, without it of `in_task`; it has one filler or none;
        with the chance `verdict` one more clause names the label.
        """
        clauses = [self.clause(draw, self._spoken(draw, label)) for _ in range(pick(draw, telling or self.in_task))]
        for _ in range(pick(draw, (0, 1))):
            place = pick(draw, range(len(clauses) + 1))
            clauses.insert(place, self._fill(draw, pick(draw, self.fillers)))
        named = self._fill(draw, pick(draw, self.verdicts), label) if draw.random() < verdict else None
        return Document(label, tuple(clauses), pick(draw, self.ends), named, draw.random() < 0.5)

    def clause(self, draw: Random, label: str) -> Clause:
        """A clause that speaks for `label`, from one of its frames, all equally likely."""
        return self._fill(draw, pick(draw, self.frames_of[label]), label)

    @cached_property
    def frames_of(self) -> Mapping[str, Words]:
        """The frames that can speak for each label."""
        return {
            label: (
                *(frame for frame in self.frames if all(label in self.telling[slot] for slot in self._slots(frame))),
                *(self.turned if label in self.opposite else ()),
                *self.sayings.get(label, ()),
            )
            for label in self.labels
        }

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """Every word that the genre can write."""
        fillings = [*self.words.values(), *(words for by_label in self.telling.values() for words in by_label.values())]
        sayings = [frame for frames in self.sayings.values() for frame in frames]
        fixed = [_split(frame) for frame in (*self.frames, *self.turned, *sayings, *self.fillers, *self.verdicts)]
        plain = [word for words in fixed for word in words if not _SLOT.fullmatch(word)]
        return frozenset({*self.labels, *self.ends, *plain, *(word for words in fillings for word in words)})

    def posterior(self, document: Document) -> dict[str, float]:
        """The chance of each label given all clauses but the verdict, where all are equally likely beforehand."""
        return self._posterior(document.clauses)

    def blind(self, clause: Clause) -> float:
        """The loss, in nats, at the clause's latent word for a reader of this clause alone."""
        return self._loss(clause, dict.fromkeys(self.labels, 1 / len(self.labels)))

    def informed(self, document: Document, clause: Clause) -> float:
        """The loss, in nats, at the clause's latent word for the best reader of all the document's other words."""
        if clause is document.verdict:
            return self._loss(clause, self.posterior(document))
        if document.verdict is not None:
            return self._loss(clause, {label: float(label == document.label) for label in self.labels})
        return self._loss(clause, self._posterior(other for other in document.clauses if other is not clause))

    def _loss(self, clause: Clause, chances: Mapping[str, float]) -> float:
        assert clause.latent is not None and clause.label is not None
        if clause.frame in self.verdicts:
            return -math.log(chances[clause.label])
        weights = {
            spoken: sum(chances[label] * self._speaks(spoken, label) for label in self.labels) / len(frames)
            for spoken, frames in self.frames_of.items()
            if clause.frame in frames
        }
        (slot,) = (found for found in _SLOT.finditer(clause.frame) if found["name"] in self.telling)
        words = self._filling(slot, clause.label)
        return -math.log(weights[clause.label] / sum(weights.values()) / len(words))

    def _posterior(self, clauses: Iterable[Clause]) -> dict[str, float]:
        """Bayes' rule."""
        chances = dict.fromkeys(self.labels, 1.0)
        for clause in clauses:
            if clause.label is not None:
                chances = {label: chance * self._speaks(clause.label, label) for label, chance in chances.items()}
        total = sum(chances.values())
        return {label: chance / total for label, chance in chances.items()}

    def _speaks(self, spoken: str, label: str) -> float:
        """The chance that a telling clause of a document under `label` speaks for `spoken`."""
        return 1 - self.doubt if spoken == label else self.doubt / (len(self.labels) - 1)

    def _spoken(self, draw: Random, label: str) -> str:
        if draw.random() >= self.doubt:
            return label
        return pick(draw, [other for other in self.labels if other != label])

    def _slots(self, frame: str) -> Words:
        """The slots of a frame that the label fills."""
        return tuple(slot["name"] for slot in _SLOT.finditer(frame) if slot["name"] in self.telling)

    def _filling(self, slot: re.Match[str], label: str | None) -> Words:
        """What may stand in a slot of a clause that speaks for `label`."""
        if slot["name"] in self.words:
            return self.words[slot["name"]]
        assert label is not None
        if slot["name"] == "label":
            return (label,)
        return self.telling[slot["name"]][slot["label"] or (self.opposite[label] if slot["turned"] else label)]

    def _fill(self, draw: Random, frame: str, label: str | None = None) -> Clause:
        words, told = [], []
        for index, part in enumerate(_split(frame)):
            slot = _SLOT.fullmatch(part)
            words.append(pick(draw, self._filling(slot, label)) if slot else part)
            if slot and slot["name"] not in self.words and not slot["label"]:
                told.append(index)
        return Clause(tuple(words), frame, label, told[0] if len(told) == 1 else None)


def pick(draw: Random, things: Sequence[T]) -> T:
    """One of `things`, all equally likely."""
    return things[int(draw.random() * len(things))]


def pick_some(draw: Random, things: Sequence[T], count: int) -> tuple[T, ...]:
    """`count` different ones of `things`; every choice and order is equally likely."""
    left = list(things)
    return tuple(left.pop(int(draw.random() * len(left))) for _ in range(count))


@cache
def _split(frame: str) -> Words:
    return tuple(frame.split())
