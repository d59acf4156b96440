"""A document of the miniature's language: clauses, one after the other or as a pair of texts, and the label they share.

    str(document)            # "the plot is not dull . we saw it on friday . the hero shines ."
    document.columns()       # each text as a string
    document.latent()        # the words that only the label decides: where they stand, and their clauses

A pair is written as RoBERTa reads one. `grammar` makes documents of one text, `pairs` those of two.
"""

from __future__ import annotations

from dataclasses import dataclass

Words = tuple[str, ...]

BREAK: Words = ("</s>", "</s>")
"""What RoBERTa puts between the two texts of a pair."""


@dataclass(frozen=True)
class Clause:
    """A sentence without its full stop, the label it speaks for and the frame it was made from.

    `latent` is the index among `words` of the one that only the label decides; None where there is no such word.
    """

    words: Words
    frame: str
    label: str | None = None
    latent: int | None = None


@dataclass(frozen=True)
class Document:
    """Clauses under one label, as one text or, with `first`, as a pair whose first text has so many of them.

    A `verdict`, where there is one, names the label in a clause before or after all others.
    """

    label: str
    clauses: tuple[Clause, ...]
    end: str
    verdict: Clause | None = None
    verdict_first: bool = False
    first: int | None = None

    @property
    def texts(self) -> tuple[tuple[Clause, ...], ...]:
        """The clauses of each text, the verdict among them."""
        told = [self.clauses] if self.first is None else [self.clauses[: self.first], self.clauses[self.first :]]
        if self.verdict is not None and self.verdict_first:
            told[0] = (self.verdict, *told[0])
        elif self.verdict is not None:
            told[-1] = (*told[-1], self.verdict)
        return tuple(told)

    @property
    def sentences(self) -> tuple[Clause, ...]:
        """All clauses in the order of the text, the verdict among them."""
        return tuple(clause for text in self.texts for clause in text)

    @property
    def words(self) -> Words:
        """The document as words, a full stop after each clause and `BREAK` between two texts."""
        return tuple(f" {' '.join(BREAK)} ".join(self.columns()).split())

    def columns(self) -> tuple[str, ...]:
        """Each text as a string."""
        return tuple(" ".join(word for clause in text for word in (*clause.words, self.end)) for text in self.texts)

    def __str__(self) -> str:
        return " ".join(self.words)

    def latent(self) -> list[tuple[int, Clause]]:
        """The latent words: the index of each among `words`, with its clause."""
        found, start = [], 0
        for text in self.texts:
            for clause in text:
                if clause.latent is not None:
                    found.append((start + clause.latent, clause))
                start += len(clause.words) + 1
            start += len(BREAK)
        return found
