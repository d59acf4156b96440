"""ON, the overlap of activated neurons: which neurons two prompts activate by themselves (section 6.2).

    one, other = (states(model, prompt) for prompt in prompts)
    overlaps([one_task, other_task])                               # over all neurons
    overlaps([one_task, other_task], [chosen_one, chosen_other])   # over each target's own

The model is fed a prompt and an empty text, and read at the answer token. A neuron's state s is 1 where its activation
is above 0, else 0 (Su et al. 2022, "On Transferability of Prompt Tuning for Natural Language Processing"):

    ON(target, source) = mean over their trials i, j of  s_i . s_j / (|s_i| |s_j|)

over all neurons, or over chosen ones of the target. The empty text is what the tokenizer makes of "": of two special
tokens in RoBERTa, of nothing in GPT-2. An encoder has no answer token: there the last position of the prompt is read,
as in a causal model, whose answer token it is. With ReLU and GELU a state says whether the FFN's first layer gave more
than 0. A gated neuron's activation is a product, above 0 where gate and value have one sign.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from ..models import Backbone, NeuronSet
from ..tasks.tokens import encode
from ..tuning.prompt import Prompt

States = Bool[np.ndarray, "_ neuron"]
"""Of a task's trials, whose number is its own."""


@torch.no_grad()
def states(model: Backbone, prompt: Prompt) -> Bool[np.ndarray, " neuron"]:
    """Whether each neuron's activation is above 0 beside an empty text; the layers' neurons one after another."""
    encoded, _ = encode(model.tokenizer, [[""]])
    rows = {name: [np.array(row, np.int64) for row in own] for name, own in encoded.items()}
    batch = model.place(prompt.embedding.to(model.device), rows["input_ids"], rows.get("token_type_ids"))
    token = batch.prompt.stop - 1 if batch.answer is None else batch.answer
    found = [np.zeros(0, bool)] * model.layers

    def watch(layer: int, activations: torch.Tensor) -> None:
        found[layer] = (activations[0, token] > 0).cpu().numpy()

    with model.observe(watch):
        model.read(batch)
    return np.concatenate(found)


def overlaps(
    every: Sequence[States], chosen: Sequence[Int[np.ndarray, " _"]] | None = None
) -> Float[np.ndarray, "target source"]:
    """ON of every two tasks: over all neurons, or over those whose indices are `chosen` for each target.

    `every` has each task's states. That of a task with itself is over different trials, NaN where there is one. Without
    an active neuron it is 0.
    """
    found = np.full((len(every), len(every)), np.nan)
    for target, own in enumerate(every):
        for source, other in enumerate(every):
            one, two = (own, other) if chosen is None else (own[:, chosen[target]], other[:, chosen[target]])
            pairs = cosines(one, two)
            told = pairs[~np.eye(len(own), dtype=bool)] if source == target else pairs
            if told.size:
                found[target, source] = told.mean()
    return found


def cosines(one: States, other: States) -> Float[np.ndarray, "_ _"]:
    """The cosine of every two 0/1 vectors, a row for each of `one`; 0 where either is 0 throughout."""
    both = one.astype(np.float64) @ other.T.astype(np.float64)
    lengths = np.sqrt(np.outer(one.sum(1), other.sum(1)))
    return both / np.maximum(lengths, 1.0)


def indices(chosen: NeuronSet) -> Int[np.ndarray, " chosen"]:
    """Where the chosen neurons stand when the layers' neurons stand one after another."""
    begins = np.cumsum([0, *chosen.widths])
    return np.array([begins[layer] + neuron for layer, neuron in chosen])
