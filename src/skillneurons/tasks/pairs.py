"""Pairs of texts whose relation is the label: statements about a thing, questions and sentences.

    draw = random.Random(7)
    STATEMENTS.document(draw, "contradiction").columns()
    # ("the battery is dull . we hated this lamp .", "what a superb kettle it is .")
    QUESTIONS.document(draw, "entailment").columns()
    # ("tell me when .", "we met last friday . it was on monday .")

A premise judges things of one genre, all its clauses alike. The hypothesis judges things of the same genre as the
premise does (entailment), or the other way round (contradiction), or it is about another genre (neutral). A question
asks for a kind of fact, a place or a day; it is entailed where the sentence tells that kind. Neither text alone says
anything of the label. A verdict before or after the pair names the label by a word of its own, and stands in
pretraining text alone; its word is the only *latent* one, and the pair decides it with certainty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

from .document import Clause, Document, Words
from .grammar import Genre, pick, pick_some


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """What both genres of pairs share.

    `named` has the label words, `verdicts` the frames that name the label in the slot `label`. A premise, or a
    sentence, has one of `in_task` numbers of clauses in a text of a task, one of `in_text` in the pretraining text.
    There the last label, entailment, is drawn 1 + `oftener` times as often as another: texts agree as a rule.
    """

    named: Mapping[str, str]
    verdicts: Words
    end: str = "."
    in_task: tuple[int, ...] = (2,)
    in_text: tuple[int, ...] = (1, 3)
    oftener: int = 0

    @property
    def labels(self) -> Words:
        """The relations."""
        return tuple(self.named)

    @property
    def told(self) -> Words:
        """The labels of the pretraining text, as often as each is drawn."""
        return (*self.labels, *self.oftener * self.labels[-1:])

    def blind(self, clause: Clause) -> float:
        """The loss, in nats, at the verdict's word for a reader of this clause alone, all labels equally likely."""
        assert clause.frame in self.verdicts
        return math.log(len(self.labels))

    def informed(self, document: Document, clause: Clause) -> float:
        """The loss, in nats, at the verdict's word for the best reader of all the document's other words."""
        assert clause is document.verdict
        return 0.0

    def posterior(self, document: Document) -> dict[str, float]:
        """The chance of each label given all clauses but the verdict: certainty."""
        return {label: float(label == document.label) for label in self.labels}

    @cached_property
    def _own(self) -> frozenset[str]:
        """The words of verdicts and full stops."""
        plain = (word for frame in self.verdicts for word in frame.split() if word != "{label}")
        return frozenset({*plain, *self.named.values(), self.end})

    def _pair(
        self, draw: Random, label: str, first: Sequence[Clause], second: Sequence[Clause], verdict: float
    ) -> Document:
        """The two texts as one document; with the chance `verdict` a clause names the label."""
        told = None
        if draw.random() < verdict:
            frame = pick(draw, self.verdicts)
            parts = frame.split()
            place = parts.index("{label}")
            told = Clause((*parts[:place], self.named[label], *parts[place + 1 :]), frame, label, place)
        return Document(label, (*first, *second), self.end, told, draw.random() < 0.5, len(first))


@dataclass(frozen=True, kw_only=True)
class Statements(Pairs):
    """Premises and hypotheses of clauses of `genres`, each of which has an `opposite` to every label."""

    genres: tuple[Genre, ...]

    @property
    def vocabulary(self) -> frozenset[str]:
        """Every word that the genre can write."""
        return self._own.union(*(genre.vocabulary for genre in self.genres))

    def document(self, draw: Random, label: str, telling: Sequence[int] = (), verdict: float = 0.0) -> Document:
        """A pair under `label`, the number of the premise's clauses one of `telling`, without it of `in_task`."""
        genre = pick(draw, self.genres)
        mood = pick(draw, genre.labels)
        premise = [self._clause(draw, genre, mood) for _ in range(pick(draw, telling or self.in_task))]
        if label == "neutral":
            genre = pick(draw, [other for other in self.genres if other is not genre])
            mood = pick(draw, genre.labels)
        elif label == "contradiction":
            mood = genre.opposite[mood]
        return self._pair(draw, label, premise, [self._clause(draw, genre, mood)], verdict)

    def _clause(self, draw: Random, genre: Genre, mood: str) -> Clause:
        """A clause that speaks for `mood`; none of the sayings, which do not tell their genre. It has no label here."""
        while (clause := genre.clause(draw, mood)).frame in genre.sayings[mood]:
            pass
        return Clause(clause.words, clause.frame)


@dataclass(frozen=True, kw_only=True)
class Questions(Pairs):
    """Questions, and sentences that answer them or do not.

    `words` has the words for each kind of fact, `facts` the frames that tell one with a word in place of `{}`, `asked`
    the questions for one.
    """

    words: Mapping[str, Words]
    facts: Mapping[str, Words]
    asked: Mapping[str, Words]

    @property
    def vocabulary(self) -> frozenset[str]:
        """Every word that the genre can write."""
        frames = [frame for group in (*self.facts.values(), *self.asked.values()) for frame in group]
        plain = (word for frame in frames for word in frame.split() if word != "{}")
        return self._own.union(plain, *self.words.values())

    def document(self, draw: Random, label: str, telling: Sequence[int] = (), verdict: float = 0.0) -> Document:
        """A pair under `label`, the number of the sentence's clauses one of `telling`, without it of `in_task`."""
        kinds = tuple(self.words)
        kind = pick(draw, kinds)
        asked = kind if label == "entailment" else pick(draw, [other for other in kinds if other != kind])
        question = pick(draw, self.asked[asked])
        words = pick_some(draw, self.words[kind], pick(draw, telling or self.in_task))
        sentence = [self._fact(draw, kind, word) for word in words]
        return self._pair(draw, label, [Clause(tuple(question.split()), question)], sentence, verdict)

    def _fact(self, draw: Random, kind: str, word: str) -> Clause:
        frame = pick(draw, self.facts[kind])
        return Clause(tuple(word if part == "{}" else part for part in frame.split()), frame)
