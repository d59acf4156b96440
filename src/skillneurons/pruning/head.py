"""The head for the label words alone: exact, for of the vocabulary's logits no others are read.

    small, columns = words_alone(model, [word.token for word in model.label_words(task.words)])
    small.answer(batch)[:, columns]               # [batch, label]

Whatever of the head goes before the vocabulary (a transform, a norm) stays. A head that multiplies with the table of
embeddings itself (DeBERTa-v2's newer one) stays whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ..models import Backbone
from ..models.sites import linear_shape
from ..tuning.prompt import nothing
from .cut import as_linear, copied, weight_of


@torch.no_grad()
def words_alone(model: Backbone, tokens: Sequence[int]) -> tuple[Backbone, list[int]]:
    """A copy of `model` with a logit for each of `tokens` in the vocabulary's place, and where each one's logit is.

    Where the head cannot be told, or two short inputs get other answers so, it is `model`, with `tokens` themselves.
    """
    small = copied(model)
    head: Any = small.get_output_embeddings()
    table: Any = small.get_input_embeddings()
    vocabulary = table.weight.shape[0]
    shape = linear_shape(head)
    if shape is None or shape[1] != vocabulary:
        return model, list(tokens)
    chosen = torch.tensor(tokens, device=head.weight.device)
    path = next(path for path, module in small.named_modules() if module is head)
    small.set_submodule(path, as_linear(weight_of(head)[chosen], None if head.bias is None else head.bias[chosen]))
    for owner in small.modules():  # biases and the like that stand beside
        for name, tensor in (*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False)):
            if tensor.ndim and tensor.numel() == tensor.shape[-1] == vocabulary:
                own = tensor[..., chosen]
                setattr(owner, name, nn.Parameter(own, False) if isinstance(tensor, nn.Parameter) else own)
    found = replace(model, model=small)
    return (found, list(range(len(tokens)))) if _same(model, found, tokens) else (model, list(tokens))


def _same(model: Backbone, small: Backbone, tokens: Sequence[int]) -> bool:
    """Whether two short inputs, beside no prompt, get the same logits."""
    batch = model.place(nothing(model), [np.array([2]), np.array([3, 4])])
    expected = model.answer(batch)[:, tokens].float()
    try:
        found = small.answer(batch).float()
    except RuntimeError:  # something else that goes with the vocabulary stands behind the head
        return False
    limit = 1e-4 if model.model.dtype.itemsize > 2 else 0.02
    return found.shape == expected.shape and bool((found - expected).abs().max() <= limit * expected.abs().max())
