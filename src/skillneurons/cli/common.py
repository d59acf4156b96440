"""What several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rich.console import Console

if TYPE_CHECKING:
    from ..models import Backbone

Dtype = Literal["float32", "bfloat16", "float16", "float64"]


def load(name: str, device: str, dtype: str, random_weights: bool, sites: str | None) -> Backbone:
    """The model that a command names."""
    from ..models import load_model

    return load_model(name, device=device, dtype=dtype, random_weights=random_weights, sites=sites)


def console() -> Console:
    """Where answers go."""
    return Console(highlight=False)
