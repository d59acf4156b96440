"""What may make a model faster: FFNs pruned in more or fewer layers, beside a prompt in one form or another.

    ways = candidates(config, layers=12, positions=127)   # every combination once, the model as it is left out
    ways[0].ffns, ways[0].beside                          # in words

FFNs: whole; `keep` of the neurons of all layers that may be pruned, five times as many of them; `keep` in the upper two
thirds and in the upper third of these layers. Prompts: whole; frozen into keys and values; a half and a quarter of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from .config import PruneConfig

MORE = 5
"""Times as many neurons, where `keep` is too few."""


@dataclass(frozen=True)
class Candidate:
    """`keep` of the neurons stay in `layers`, if any; the prompt is whole, frozen, or that many positions of it."""

    layers: tuple[int, ...] = ()
    keep: float = 1.0
    prompt: Literal["whole", "frozen"] | int = "whole"

    @property
    def ffns(self) -> str:
        """What becomes of the FFNs."""
        if not self.layers:
            return "whole"
        first, last = self.layers[0], self.layers[-1]
        if len(self.layers) == 1:
            return f"{100 * self.keep:g} % in layer {first}"
        run = len(self.layers) > 2 and self.layers == tuple(range(first, last + 1))
        return f"{100 * self.keep:g} % in layers {f'{first} to {last}' if run else ', '.join(map(str, self.layers))}"

    @property
    def beside(self) -> str:
        """What becomes of the prompt."""
        if isinstance(self.prompt, str):
            return self.prompt
        return f"{self.prompt} position{'s' if self.prompt > 1 else ''}"


def candidates(config: PruneConfig, layers: int, positions: int) -> list[Candidate]:
    """Every combination but the model as it is, for a model of so many layers and a prompt of so many positions.

    Raises `SkillNeuronsError` for layers that the model does not have.
    """
    ffns = [Candidate(), *_pruned(config, config.chosen(layers))]
    shorter = [count for count in (positions // 2, positions // 4) if count]
    prompts: list[Literal["whole", "frozen"] | int] = ["whole", "frozen", *shorter]
    found = (replace(own, prompt=prompt) for own, prompt in product(ffns, prompts))
    return [own for own in dict.fromkeys(found) if own != Candidate()]


def _pruned(config: PruneConfig, layers: tuple[int, ...]) -> list[Candidate]:
    upper = [layers[-max(1, round(len(layers) * third / 3)) :] for third in (3, 2, 1)]
    ways = [(layers, MORE * config.keep), *((some, config.keep) for some in upper)]
    return [Candidate(some, keep) for some, keep in ways if keep < 1]
