"""Multiplications: the counter against the formula, of whole, cut and frozen, and against a product of matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from skillneurons import Backbone, NeuronSet
from skillneurons.pruning.cut import cut
from skillneurons.pruning.head import words_alone
from skillneurons.pruning.multiplications import multiplications
from skillneurons.pruning.prefix import means
from skillneurons.pruning.prefixed import prefixed
from skillneurons.tuning.prompt import nothing

from .backbones import backbone, prompt
from .families import HIDDEN

INPUT = np.arange(5, 14)  # 9 tokens
PROMPT = 5
SMALL = 11  # neurons that a cut layer keeps
WORDS = [6, 8, 9]


def expected(widths: tuple[int, ...], tokens: int, constants: int = 0) -> int:
    """The formula of the module's page."""
    n, d, c = tokens, HIDDEN, constants
    attention = len(widths) * (4 * n * d**2 + 2 * n * (n + c) * d) - 2 * (n - 1) * d**2
    return attention + 2 * d * (n * sum(widths[:-1]) + widths[-1]) + d**2 + d * len(WORDS)


def counted(model: Backbone, positions: int) -> int:
    """Of one pass of one sample, with the head for some words alone."""
    small, columns = words_alone(model, WORDS)
    assert columns == [0, 1, 2]
    soft = prompt(model, positions) if positions else nothing(model)
    batch = small.place(soft, [INPUT])
    return multiplications(lambda: small.answer(batch))


def pruned(model: Backbone) -> Backbone:
    layers = (1, 2)
    kept = NeuronSet(tuple((layer, neuron) for layer in layers for neuron in range(SMALL)), model.widths)
    return cut(model, kept, layers, [torch.zeros(PROMPT + 2, width) for width in model.widths], one=False)


def test_a_matrix_product_is_the_product_of_its_sizes() -> None:
    layer, given = nn.Linear(7, 5), torch.randn(3, 7)
    assert multiplications(lambda: layer(given)) == 3 * 7 * 5
    assert multiplications(lambda: given + 1) == 0


def test_a_masked_model_takes_what_the_formula_says() -> None:
    model = backbone("roberta")
    assert counted(model, PROMPT) == expected(model.widths, 1 + PROMPT + len(INPUT))
    assert counted(model, 0) == expected(model.widths, 1 + len(INPUT))


def test_a_cut_model_takes_less_by_its_neurons() -> None:
    model = backbone("roberta")
    small = pruned(model)
    assert small.widths == (model.widths[0], SMALL, SMALL)
    assert counted(small, PROMPT) == expected(small.widths, 1 + PROMPT + len(INPUT))


@pytest.mark.parametrize("cuts", [False, True])
def test_a_frozen_prompt_costs_no_more_than_being_looked_at(cuts: bool) -> None:
    model = pruned(backbone("roberta")) if cuts else backbone("roberta")
    inside = prefixed(model, *means(model, [model.place(prompt(model), [INPUT])]))
    assert counted(inside, 0) == expected(model.widths, 1 + len(INPUT), constants=PROMPT)


def test_a_batch_takes_as_many_as_its_samples() -> None:
    model = backbone("bert")
    one, two = (model.place(prompt(model), [INPUT] * samples) for samples in (1, 2))
    assert multiplications(lambda: model.answer(two)) == 2 * multiplications(lambda: model.answer(one))


@pytest.mark.parametrize("name", ["deberta-v2", "modernbert", "gpt2", "opt", "llama", "t5", "bart"])
def test_every_kind_of_model_takes_more_beside_a_longer_prompt(name: str) -> None:
    model = backbone(name)
    batches = [model.place(prompt(model, positions), [INPUT]) for positions in (2, 6)]
    short, long = (multiplications(lambda batch=batch: model.answer(batch)) for batch in batches)  # type: ignore[misc]
    weights = sum(HIDDEN * width for width in model.widths[:-1])  # of the FFNs' up-projections, but for the last
    assert long - short > 4 * weights
