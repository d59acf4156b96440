"""What is done to chosen neurons while the model runs.

    with model.edit(chosen, Zero()):
        evaluate(model, task, prompt)

An edit is any callable `(layer, activations) -> activations` on the chosen neurons' activations alone, of shape
[batch, token, chosen]; it returns a new tensor of the same shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

Edit = Callable[[int, Float[Tensor, "batch token chosen"]], Float[Tensor, "batch token chosen"]]


@dataclass(frozen=True)
class Scale:
    """Multiply the chosen activations by `factor`."""

    factor: float

    def __call__(
        self, layer: int, activations: Float[Tensor, "batch token chosen"]
    ) -> Float[Tensor, "batch token chosen"]:
        """The activations times the factor."""
        return activations * self.factor


@dataclass(frozen=True)
class Zero:
    """Silence the chosen neurons: their activations become 0."""

    def __call__(
        self, layer: int, activations: Float[Tensor, "batch token chosen"]
    ) -> Float[Tensor, "batch token chosen"]:
        """Zeros of the activations' shape."""
        return activations.new_zeros(activations.shape)
