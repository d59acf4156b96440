"""The tiny models as backbones, and what the tests of models do with them.

model = backbone("opt")                            # float64: what should be equal is, to many digits
batch = placed(model, TEXTS)                       # beside a random prompt; pairs where the texts are pairs
layers, logits = passed(model, batch)              # activations of each layer, and the answer
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skillneurons.models import Backbone, Batch, load_model

from .families import tiny

PROMPT = 5  # positions
TEXTS = (
    " the film is bright and warm", " positive", " we won today",
    " a quiet scene , but the story was not grand . never again",
)  # fmt: skip
PAIRS = (
    (" the shop is bright", " we sold the phone today ."),
    (" negative", " it was"),
    (" a match", " cold and very"),
)


def fresh(name: str, seed: int = 0) -> tuple[Any, Any]:
    """`tiny`, untyped: a new model and its tokenizer, of which a test may change what it likes."""
    return tiny(name, seed)


def without_dropout(model: nn.Module) -> nn.Module:
    """The model with every rate of dropout at 0, whether a module has it or an attention an attribute."""
    for module in model.modules():
        for name, value in vars(module).items():
            if (name == "p" and isinstance(module, nn.Dropout)) or ("dropout" in name and isinstance(value, float)):
                setattr(module, name, 0.0)
    return model


@cache
def backbone(name: str, dtype: torch.dtype = torch.float64) -> Backbone:
    """A family's tiny model; shared between tests, which leave it as it was."""
    model, tokenizer = fresh(name)
    return load_model(model.to(dtype), tokenizer=tokenizer)


def prompt(model: Backbone, positions: int = PROMPT, seed: int = 0) -> Tensor:
    """A random prompt as large as the model's embeddings, float32 as prompts are."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(positions, model.embedding_size, generator=draw) * model.embedding_scale


def encoded(model: Backbone, texts: Any = TEXTS) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """Token ids of texts or pairs, and their types where the tokenizer tells types."""
    rows = [model.tokenizer(*([text] if isinstance(text, str) else text)) for text in texts]
    types = [np.array(row["token_type_ids"]) for row in rows] if "token_type_ids" in rows[0] else None
    return [np.array(row["input_ids"]) for row in rows], types


def placed(model: Backbone, texts: Any = TEXTS, soft: Tensor | None = None) -> Batch:
    """The texts beside a prompt, `prompt(model)` unless another is given."""
    return model.place(prompt(model) if soft is None else soft, *encoded(model, texts))


@torch.no_grad()
def passed(model: Backbone, batch: Batch) -> tuple[list[Tensor], Tensor]:
    """Each layer's activations [batch, token, neuron] in one pass, and the logits [batch, vocabulary]."""
    layers: list[Tensor] = []
    with model.observe(lambda layer, activations: layers.append(activations.clone())):
        logits = model.answer(batch)
    return layers, logits


def hooks(model: nn.Module) -> int:
    """The number of hooks on all modules."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)
