"""Tokens shaded by how active a neuron is on them, legible without colour as well.

    shades = Shades.of([activations])                # one for all texts that are shown together
    shaded(tokens, activations, shades)              # rich: a block after each token, from ▁ (lowest) to █ (highest)
    shaded_html(tokens, activations, shades)         # the same as a line under each token

What a text holds is shown, never obeyed: control characters become spaces, and in HTML everything is escaped.
"""

from __future__ import annotations

import html
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from rich.console import Console, RenderableType
from rich.style import Style
from rich.text import Text

BLOCKS = "▁▂▃▄▅▆▇█"
_INK = "#222222"
_COLOURS = ("", "#fdf2d9", "#fbe5b4", "#f8d88f", "#f4ca69", "#f0bb43", "#ebad20", "#e69f00")


@dataclass(frozen=True)
class Shades:
    """The lowest and the highest activation that are shown, between which there are eight levels."""

    low: float
    high: float

    @classmethod
    def of(cls, activations: Iterable[Float[np.ndarray, " _"]]) -> Shades:
        """The shades that reach from the lowest to the highest of all these, an array [token] a text."""
        every = np.concatenate([np.zeros(0), *activations])
        return cls(float(every.min()), float(every.max())) if len(every) else cls(0.0, 0.0)

    def levels(self, activations: Float[np.ndarray, " token"]) -> Int[np.ndarray, " token"]:
        """The level of each activation, 0 to 7."""
        share = (activations - self.low) / ((self.high - self.low) or 1.0)
        return np.clip(share * len(BLOCKS), 0, len(BLOCKS) - 1).astype(np.int64)

    def __str__(self) -> str:
        return f"{BLOCKS[0]} {self.low:.3g} to {BLOCKS[-1]} {self.high:.3g}"


def shaded(tokens: Sequence[str], activations: Float[np.ndarray, " token"], shades: Shades) -> Text:
    """The tokens as one running text, a block after each and, where there is colour, a shade behind it."""
    text = Text()
    for token, level in zip(tokens, shades.levels(activations), strict=True):
        own = printable(token)
        text.append(" " * (len(own) - len(own.lstrip())))
        text.append(own.lstrip(), Style(color=_INK, bgcolor=_COLOURS[level]) if level else None)
        text.append(BLOCKS[level], "dim")
    return text


def shaded_html(tokens: Sequence[str], activations: Float[np.ndarray, " token"], shades: Shades) -> str:
    """The tokens as one running text in HTML; under each a line, the thicker the more active, its value as a hint."""
    parts = []
    for token, value, level in zip(tokens, activations, shades.levels(activations), strict=True):
        shade = f"color:{_INK};background:{_COLOURS[level]};" if level else ""
        style = f"{shade}border-bottom:{level}px solid"
        own = printable(token)
        lead = " " * (len(own) - len(own.lstrip()))
        parts.append(f'{lead}<span style="{style}" title="{value:.3g}">{html.escape(own.lstrip())}</span>')
    return "".join(parts)


def spark(activations: Float[np.ndarray, " position"]) -> str:
    """A block for each activation, on a scale of their own."""
    return "".join(BLOCKS[level] for level in Shades.of([activations]).levels(activations))


def excerpt(
    tokens: Sequence[str],
    activations: Float[np.ndarray, " token"],
    usual: float,
    shades: Shades,
    most: int,
) -> Text:
    """As `shaded`, of at most `most` tokens in a row, around the one whose activation is farthest from `usual`."""
    if len(tokens) <= most:
        return shaded(tokens, activations, shades)
    start = min(max(int(np.abs(activations - usual).argmax()) - most // 2, 0), len(tokens) - most)
    chosen = slice(start, start + most)
    text = shaded(tokens[chosen], activations[chosen], shades)
    return Text.assemble("..." if start else "", text, " ..." if start + most < len(tokens) else "")


def printable(text: str) -> str:
    """The text on one line, without what could steer a terminal."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def plain(screen: RenderableType) -> str:
    """What a screen shows, as text without colour."""
    out = io.StringIO()
    Console(file=out, width=100, no_color=True, legacy_windows=False).print(screen)
    return out.getvalue().rstrip()
