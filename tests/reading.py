"""A split read without the package: one sample at a time, inputs put together by hand, a plain hook on each layer.

seen = read("roberta", model, tokenizer, task, "train", prompt)
seen.prompt[2]                             # layer 2: [sample, position, neuron], float64
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import skillneurons as sn

from .families import FAMILIES


@dataclass
class Seen:
    """A split read one sample at a time; each list has one array a layer, float64."""

    labels: list[str]
    prompt: list[np.ndarray]  # [sample, position, neuron]
    answer: list[np.ndarray]  # [sample, neuron], of an encoder-decoder nothing
    inputs: list[np.ndarray]  # [token, neuron], the tokens of all samples


def read(name: str, model: Any, tokenizer: Any, task: sn.Task, split: str, prompt: Tensor) -> Seen:
    """Run every sample through the library's own model."""
    rows = getattr(task, split).rows
    whole = [read_one(name, model, tokenizer, [row[column] for column in task.text], prompt) for row in rows]
    layers = range(FAMILIES[name].layers)

    def tokens(part: str) -> list[list[np.ndarray]]:
        return [[activations[layer][where[part]] for activations, where in whole] for layer in layers]

    return Seen(
        [task.labels[row["label"]] for row in rows],
        *([np.stack(own) for own in tokens("prompt")], [np.concatenate(own) for own in tokens("answer")]),
        [np.concatenate(own) for own in tokens("inputs")],
    )


@torch.no_grad()
def read_one(
    name: str, model: Any, tokenizer: Any, texts: list[str], prompt: Tensor
) -> tuple[list[np.ndarray], dict[str, slice]]:
    """One sample's activations [token, neuron] by layer, and which tokens are the prompt, the answer and the input."""
    family = FAMILIES[name]
    if len(texts) == 2 and name == "gpt2":  # its pair form puts nothing between the two
        texts = ["\n".join(texts)]
    encoded = tokenizer(*texts)
    embed = model.get_input_embeddings()
    text, length = embed(torch.tensor(encoded["input_ids"])), len(prompt)
    extra = {}
    if family.kind == "masked":
        embeddings = torch.cat([embed(torch.tensor([tokenizer.mask_token_id])), prompt, text])
        where = {"answer": slice(0, 1), "prompt": slice(1, 1 + length), "inputs": slice(1 + length, None)}
        if "token_type_ids" in encoded:
            extra["token_type_ids"] = torch.tensor([[0] * (1 + length) + encoded["token_type_ids"]])
    elif family.kind == "causal":
        embeddings = torch.cat([text, prompt])
        where = {"answer": slice(-1, None), "prompt": slice(len(text), None), "inputs": slice(0, len(text))}
    else:
        embeddings = torch.cat([prompt, text])
        where = {"answer": slice(0, 0), "prompt": slice(0, length), "inputs": slice(length, None)}
    found: list[np.ndarray] = []

    def keep(module: torch.nn.Module, given: tuple[Tensor, ...]) -> None:
        found.append(given[0].reshape(-1, family.width).double().numpy())

    hooks = [model.get_submodule(path).register_forward_pre_hook(keep) for path in dict.fromkeys(family.sites)]
    stack = model.get_encoder() if family.kind == "encoder-decoder" else model.base_model
    stack(inputs_embeds=embeddings[None], **extra)
    for hook in hooks:
        hook.remove()
    return found, where
