"""Linear probes are scikit-learn's, on features gathered one sample at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import skillneurons as sn
from skillneurons.finding.peers.passes import trial_peers
from skillneurons.finding.peers.probe import SIZE, Averages, Told, fit, layer_groups
from skillneurons.finding.sides import class_weights, subtask_sides
from skillneurons.finding.sweep import sweep
from skillneurons.tuning.inputs import Inputs
from skillneurons.tuning.prompt import Prompt

from .families import tiny
from .makings import Form, make
from .reading import read


@pytest.mark.parametrize(("name", "form"), [("bert", "single"), ("gpt2", "three"), ("t5", "pair")])
@pytest.mark.parametrize("memory", [10**9, 80 * 44 * SIZE])
def test_probes_are_scikit_learns(name: str, form: Form, memory: int) -> None:
    """The reference drops the samples of neither side, weighs the sides by `balanced` and works in float64."""
    model, tokenizer = tiny(name)
    task = make(form, train=80, test=60)
    embedding = torch.randn(4, 24, generator=torch.Generator().manual_seed(7))
    prompt = Prompt(embedding, "random", 0, 0.5, 0.5, 40)
    backbone = sn.load_model(model, tokenizer=tokenizer)
    inputs = Inputs.beside(backbone, task, prompt)
    scores = sn.score(backbone, task, [prompt])[0]
    found = trial_peers(inputs, prompt, scores, ["probe"], memory, "trial 1/1")
    told = Told(found.probes, 60, len(task.subtasks))
    sweep(inputs, "test", embedding, [told], "test")
    train, test = (read(name, model, tokenizer, task, split, embedding) for split in ("train", "test"))
    start = 0
    for layer, width in enumerate(backbone.widths):
        scaler = StandardScaler().fit(train.prompt[layer].mean(1))
        for index, subtask in enumerate(task.subtasks):
            own = np.isin(train.labels, subtask.positive + subtask.negative)
            regression = LogisticRegression(max_iter=1000, tol=1e-8, class_weight=None if task.binary else "balanced")
            positive = np.isin(train.labels, subtask.positive)
            regression.fit(scaler.transform(train.prompt[layer].mean(1))[own], positive[own])
            weights = np.abs(regression.coef_[0])
            assert np.abs(found.scores["probe"][index, start : start + width] - weights).max() < 0.01 * weights.max()
            says = regression.decision_function(scaler.transform(test.prompt[layer].mean(1)))
            sure = np.abs(says) > 0.05
            assert sure.mean() > 0.8
            assert ((says > 0) == told.positive[:, layer, index])[sure].all()
        start += width


def test_a_constant_feature_spoils_nothing() -> None:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(50, 3)).astype(np.float32)
    features[:, 1] = np.float32(0.1)
    labels = (features[:, 0] > 0).astype(np.int64)
    task = make("single")
    probe = fit(features, labels, subtask_sides(task), np.full((1, 2), 1 / 50))
    assert np.isfinite(probe.weights).all() and abs(probe.weights[0, 1]) < 1e-3 < probe.weights[0, 0]


def test_weights_of_a_subtasks_samples_add_up_to_one() -> None:
    forms: tuple[Form, ...] = ("single", "three")
    for form in forms:
        task = make(form)
        weights = class_weights(task, "train")[:, task.train.labels]
        assert np.allclose(weights.sum(1), 1)
        if form == "single":
            assert len(np.unique(weights)) == 1
        else:
            sides = subtask_sides(task)[:, :, task.train.labels]
            assert np.allclose(np.einsum("skn,sn->sk", sides, weights), 0.5)


@pytest.mark.parametrize(
    ("memory", "groups"), [(2000, [[0, 1, 2, 3]]), (1200, [[0, 1], [2, 3]]), (1199, [[0], [1, 2], [3]])]
)
def test_layers_are_taken_in_groups_that_fit(memory: int, groups: list[list[int]]) -> None:
    widths = [10, 20, 5, 5]
    assert layer_groups(widths, 10, memory) == groups
    for group in groups:
        assert sum(own.nbytes for own in Averages(group, widths, 10).features.values()) <= memory
