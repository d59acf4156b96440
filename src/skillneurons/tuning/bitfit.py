"""BitFit (Ben-Zaken et al., 2022): the biases of a model are tuned, nothing else.

    tensors = begin(model)                            # copies of all biases
    with replaced(model, tensors):                    # in force while the block runs
        model.answer(batch)

The model's own biases are never written: while the block runs others stand in their places.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from ..errors import SkillNeuronsError
from ..models import Backbone


def begin(model: Backbone) -> dict[str, Tensor]:
    """Copies of the model's biases, by their paths; each a vector [output], in the model's dtype, on its device.

    Raises `SkillNeuronsError` for a model whose layers have none.
    """
    if not suits(model):
        raise SkillNeuronsError(
            f"BitFit tunes biases; the layers of {model.name} have none. Use adapters for this model."
        )
    return {path: own.detach().clone() for path, own in model.model.named_parameters() if _is_bias(path, own)}


def suits(model: Backbone) -> bool:
    """Whether the layers have biases."""
    return any(_is_bias(path, own) for path, own in model.stack.named_parameters())


@contextlib.contextmanager
def replaced(model: Backbone, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """The biases `tensors` in the places of the model's own while the block runs, wherever these are used."""
    own = dict(model.model.named_parameters())
    others = {id(own[path]): tensor for path, tensor in tensors.items()}
    places = [
        (module, name, parameter)
        for module in model.model.modules()
        for name, parameter in module._parameters.items()
        if id(parameter) in others
    ]
    try:
        for module, name, parameter in places:
            _put(module, name, others[id(parameter)])
        yield
    finally:
        for module, name, parameter in places:
            _put(module, name, parameter)


def _is_bias(path: str, parameter: Tensor) -> bool:
    return path.rpartition(".")[2].endswith("bias") and parameter.ndim == 1


def _put(module: nn.Module, name: str, tensor: Tensor | None) -> None:
    # past the module's own setter, which takes parameters alone: these are leaves that are being tuned
    module._parameters[name] = tensor  # type: ignore[assignment]
