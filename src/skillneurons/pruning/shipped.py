"""A pruned model at work: texts in, labels with probabilities out.

    model = load_pruned("small")
    model.predict(["a warm , bright film", ("first of a pair", "second")])     # a Prediction each, in their order
    for found in model.stream(open("lines.txt")):                              # as they come, in constant memory
        found.label, found.probabilities, found.note

Probabilities are the softmax over the label words' logits. A text that is longer than the model takes is cut from the
right, as in tuning, and its note says so.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import SkillNeuronsError
from ..models import Backbone
from ..tasks.tokens import encode
from ..tuning.inputs import alike, most_tokens
from .about import About

if TYPE_CHECKING:
    from .session import Session

WINDOW = 1024
"""Texts that are held at once, of which those of like length run together."""
SIGNS = 1 << 20
"""Of fewer texts where they have more signs than this."""

Text = str | Sequence[str]


@dataclass(frozen=True)
class Prediction:
    """The likeliest label, every label's probability, and what is to be known about the text."""

    label: str
    probabilities: Mapping[str, float]
    note: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Shipped:
    """A pruned model with its prompt and its labels: `backbone` answers with the label words' logits in `columns`.

    Where there is a `session`, the exported model in it answers in the place of both.
    """

    backbone: Backbone
    prompt: Float[Tensor, "position embedding"]
    about: About
    session: Session | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """What is told apart."""
        return tuple(self.about.words)

    @torch.no_grad()
    def logits(
        self, ids: Sequence[np.ndarray], types: Sequence[np.ndarray] | None = None
    ) -> Float[Tensor, "batch label"]:
        """The label words' logits of a batch of inputs, each its token ids and token types [token]."""
        if self.session is not None:
            return self.session(ids, types)
        return self.backbone.answer(self.backbone.place(self.prompt, ids, types))[:, list(self.about.columns)]

    def predict(self, texts: Iterable[Text]) -> list[Prediction]:
        """The label of every text, or pair of texts; see `stream`."""
        return list(self.stream(texts))

    def stream(self, texts: Iterable[Text], window: int = WINDOW) -> Iterator[Prediction]:
        """The label of every text in their order, `window` texts or fewer at a time, whatever their number.

        Raises `SkillNeuronsError` for what is no text, or no pair where the task is of pairs, and passes on what
        `texts` raises; whatever came before has been answered then.
        """
        if isinstance(texts, (str, bytes)):
            raise SkillNeuronsError(
                "texts are a list, or anything else that yields them; given: one text. Put it in []."
            )
        for some in self._windows(texts, window):
            yield from self._answers(some)

    def __repr__(self) -> str:
        about = self.about
        return (
            f"Shipped({about.task}: {' or '.join(self.labels)}; {about.model} in "
            f"{about.parameters / 1e6:.3g} M parameters)"
        )

    def _windows(self, texts: Iterable[Text], size: int) -> Iterator[list[tuple[str, ...]]]:
        window: list[tuple[str, ...]] = []
        signs = 0
        try:
            for number, text in enumerate(texts, 1):
                window.append(self._columns(text, number))
                signs += sum(map(len, window[-1]))
                if len(window) >= size or signs > SIGNS:
                    full, window, signs = window, [], 0
                    yield full
        except Exception:
            if window:
                yield window
            raise
        if window:
            yield window

    def _columns(self, text: Any, number: int) -> tuple[str, ...]:
        columns = tuple(text) if isinstance(text, (list, tuple)) else (text,)
        if len(columns) != self.about.texts or not all(isinstance(column, str) for column in columns):
            wanted = "one text each, a str" if self.about.texts == 1 else "a pair of texts each: (first, second)"
            raise SkillNeuronsError(
                f"the task {self.about.task} takes {wanted}; given as number {number}: {reprlib.repr(text)}. Mend it."
            )
        return columns

    def _answers(self, texts: Sequence[tuple[str, ...]]) -> list[Prediction]:
        model = self.backbone
        sound = [tuple(_readable(column) for column in text) for text in texts]
        encoded, cut = encode(model.tokenizer, [list(column) for column in zip(*sound, strict=True)], self.about.limit)
        ids = [np.array(row, dtype=np.int64) for row in encoded["input_ids"]]
        types = [np.array(row, dtype=np.int64) for row in encoded.get("token_type_ids", [])]
        probabilities = np.zeros((len(texts), len(self.labels)))
        lengths = np.array([len(row) for row in ids]) + len(self.prompt) + 1
        for part in alike(lengths, most_tokens(model.device)):
            logits = self.logits([ids[i] for i in part], [types[i] for i in part] if types else None)
            probabilities[part] = logits.double().softmax(1).cpu().numpy()
        notes = [_notes(text, own) for text, own in zip(texts, sound, strict=True)]
        for i in cut:
            notes[i].append(f"cut to {self.about.limit} tokens")
        return [
            Prediction(
                self.labels[int(own.argmax())], dict(zip(self.labels, own.tolist(), strict=True)), "; ".join(note)
            )
            for own, note in zip(probabilities, notes, strict=True)
        ]


def _readable(text: str) -> str:
    """The text with the replacement character where a sign stands for no character (half a surrogate pair)."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _notes(text: tuple[str, ...], sound: tuple[str, ...]) -> list[str]:
    notes = [] if all(column.strip() for column in text) else ["empty text" if len(text) == 1 else "empty text in it"]
    return notes if text == sound else [*notes, "unreadable signs replaced"]
