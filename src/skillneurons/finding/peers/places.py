"""Chosen neurons of a split, each read at a place of its own, in a pass that others share.

columns = Columns([Place(3, 77, 12), Place(3, 78, "maximum")], len(test))      # sweep test with it, then
columns.activations                                                            # [sample, place]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...models import Batch
from ..statistics import at_least_float32
from .pooled import POOLS, pool


@dataclass(frozen=True)
class Place:
    """A neuron and where it is read: a prompt position, or pooled over the input's tokens."""

    layer: int
    neuron: int
    at: int | str


class Columns:
    """The activations of places for every sample of a split, float32."""

    def __init__(self, places: Sequence[Place], samples: int) -> None:
        self.activations = np.zeros((samples, len(places)), dtype=np.float32)
        self._at: dict[int, list[tuple[int, Place]]] = {}
        for column, place in enumerate(places):
            self._at.setdefault(place.layer, []).append((column, place))

    def begin(self, batch: Batch, samples: Int[np.ndarray, " sample"]) -> None:
        """Tell of the batch, and which samples it holds."""
        self._batch, self._samples = batch, samples

    def __call__(self, layer: int, activations: Float[Tensor, "sample token neuron"]) -> None:
        """Keep what is asked of one layer."""
        if layer not in self._at:
            return
        columns, places = zip(*self._at[layer], strict=True)
        own = at_least_float32(activations[:, :, [place.neuron for place in places]])
        rows = torch.cat([own[:, self._batch.prompt], pool(own, self._batch.inputs)], 1)
        positions = rows.shape[1] - len(POOLS)
        at = [place.at if isinstance(place.at, int) else positions + POOLS.index(place.at) for place in places]
        values = rows[:, at, range(len(at))].float().cpu().numpy()
        self.activations[np.ix_(self._samples, columns)] = values
