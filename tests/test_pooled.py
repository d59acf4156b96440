"""Pooled activations: mean and maximum over the input's own tokens, scored as Eq. 3 to 5 score a position."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import skillneurons as sn
from skillneurons.finding.peers.passes import trial_peers
from skillneurons.finding.peers.pooled import pool
from skillneurons.tuning.inputs import Inputs
from skillneurons.tuning.prompt import Prompt

from .backbones import fresh
from .makings import Form, make
from .reading import read_one

CASES: list[tuple[str, Form]] = [("bert", "pair"), ("roberta", "three"), ("gpt2", "three"), ("opt", "single"),
                                 ("t5", "pair"), ("bart", "single")]  # fmt: skip


def test_padding_is_no_input() -> None:
    draw = torch.Generator().manual_seed(0)
    activations = torch.randn(6, 9, 4, generator=draw) - 3  # a maximum with padding's zeros in it would be 0
    lengths = [1, 4, 2, 6, 3, 0]
    inputs = torch.zeros(6, 9, dtype=torch.bool)
    for sample, length in enumerate(lengths):
        inputs[sample, 2 : 2 + length] = True
    found = pool(activations, inputs)
    for sample, length in enumerate(lengths[:5]):
        own = activations[sample, 2 : 2 + length].double()
        assert torch.allclose(found[sample, 0].double(), own.mean(0), rtol=1e-6)
        assert torch.equal(found[sample, 1].double(), own.amax(0))
    assert not found[5].any()


def test_half_precision_is_widened_before_it_is_summed() -> None:
    values = torch.tensor([256.0] + [1.0] * 255, dtype=torch.bfloat16)  # bfloat16 cannot tell 257 from 256
    found = pool(values[None, :, None], torch.ones(1, 256, dtype=torch.bool))
    assert found.dtype == torch.float32 and found.flatten().tolist() == [511 / 256, 256]


def pooled(name: str, model: Any, tokenizer: Any, task: sn.Task, split: str, prompt: Tensor) -> list[np.ndarray]:
    """Each layer's [sample, pool, neuron], one sample at a time."""
    rows = getattr(task, split).rows
    layers: list[list[np.ndarray]] = []
    for row in rows:
        activations, where = read_one(name, model, tokenizer, [row[column] for column in task.text], prompt)
        own = [layer[where["inputs"]] for layer in activations]
        layers.append([np.stack([layer.mean(0), layer.max(0)]) for layer in own])
    return [np.stack(own) for own in zip(*layers, strict=True)]


@pytest.mark.parametrize(("name", "form"), CASES)
def test_pooled_predictivity_is_the_equations(name: str, form: Form) -> None:
    model, tokenizer = fresh(name)
    model.double()
    task = make(form)
    width = model.get_input_embeddings().weight.shape[1]
    embedding = torch.randn(5, width, generator=torch.Generator().manual_seed(7)).double()
    prompt = Prompt(embedding, "random", 0, 0.5, 0.5, 40)
    backbone = sn.load_model(model, tokenizer=tokenizer)
    scores = sn.score(backbone, task, [prompt])[0]
    orders = ["pooled_mean", "pooled_maximum"]
    found = trial_peers(Inputs.beside(backbone, task, prompt), prompt, scores, orders, 10**9, "trial 1/1")
    train, dev = (pooled(name, model, tokenizer, task, split, embedding) for split in ("train", "dev"))
    in_train, in_dev = (np.array(task.labels)[getattr(task, split).labels] for split in ("train", "dev"))
    doubts = 0
    for index, subtask in enumerate(task.subtasks):
        sides = subtask.negative, subtask.positive
        for pool_index, order in enumerate(orders):
            either, doubt = [], []
            for before, after in zip(train, dev, strict=True):
                means = [before[np.isin(in_train, side), pool_index] for side in sides]
                base = np.mean([own.mean(0) for own in means], 0) if form == "three" else np.concatenate(means).mean(0)
                above = [after[np.isin(in_dev, side), pool_index] > base for side in sides]
                right = [~above[0], above[1]]
                share = np.mean([own.mean(0) for own in right], 0) if form == "three" else np.concatenate(right).mean(0)
                either.append(np.maximum(share, 1 - share))
                own = after[np.isin(in_dev, sides[0] + sides[1]), pool_index]
                doubt.append(((np.abs(own - base) < 1e-6) & (before[:, pool_index].any(0))).any(0))
            sure = ~np.concatenate(doubt)
            doubts += int((~sure).sum())
            assert np.abs(np.concatenate(either) - found.scores[order][index])[sure].max() < 1e-12
    assert doubts < 5
    assert found.pooled is not None and not found.probes and list(found.scores) == orders
