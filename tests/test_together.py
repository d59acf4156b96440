"""Several trials, and several tasks, in one pass: each prompt sees and becomes what it would alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import skillneurons as sn
from skillneurons.tuning import train as training
from skillneurons.tuning.evaluate import evaluate_inputs
from skillneurons.tuning.inputs import Inputs
from skillneurons.tuning.train import Job, train

from .backbones import without_dropout
from .commands import files
from .families import tiny
from .makings import make

STEPS = 20
OPTIONS: dict[str, Any] = {
    "positions": 3, "init_std": 0.5, "steps": STEPS, "batch": 5, "epochs": 100, "evaluate_every": 5, "patience": 100,
}  # fmt: skip


def loaded(name: str = "bert", dropout: bool = False) -> sn.Backbone:
    model, tokenizer = tiny(name)
    if not dropout:
        without_dropout(model)
    return sn.load_model(model, tokenizer=tokenizer)


def close(one: sn.Prompt, other: sn.Prompt) -> None:
    """Rounding grows from step to step: 1e-3 of entries of about 0.5 after twenty."""
    assert one.trial == other.trial and one.lr == other.lr
    assert [point.step for point in one.history] == [point.step for point in other.history]
    for a, b in zip(one.history, other.history, strict=True):
        assert a.loss == pytest.approx(b.loss, abs=1e-4)
    assert torch.allclose(one.embedding, other.embedding, atol=1e-3)


@pytest.mark.parametrize("objective", ["words", "vocabulary"])
@pytest.mark.parametrize("name", ["roberta", "llama", "t5"])
def test_trials_together_are_as_in_turn(name: str, objective: Any) -> None:
    backbone, task = loaded(name), make("single", train=12, dev=9)
    options = OPTIONS | {"trials": 3, "lr": 0.02, "objective": objective}
    turn = sn.tune(backbone, task, **options)
    for together in (2, 3):
        prompts = sn.tune(backbone, task, together=together, **options)
        for one, other in zip(prompts, turn, strict=True):
            close(one, other)
    assert not torch.allclose(turn[0].embedding, turn[1].embedding, atol=0.1)


def test_tasks_together_are_as_alone() -> None:
    """Other labels, other words, other lengths, and one that has fewer steps to take."""
    backbone = loaded()
    tasks = [make("single", train=12, dev=9), make("pair", train=10, dev=9), make("three", train=5, dev=9)]
    config = sn.TuneConfig.make(**OPTIONS | {"epochs": 8})  # 24, 16 and 8 steps, at most 20
    jobs = [Job(Inputs(backbone, task, 3), 0, rate) for task, rate in zip(tasks, (0.02, 0.01, 0.03), strict=True)]
    prompts = train(jobs, config)
    assert [prompt.history[-1].step for prompt in prompts] == [20, 16, 8]
    for job, prompt in zip(jobs, prompts, strict=True):
        [alone] = train([job], config)
        close(prompt, alone)


def test_a_stopped_trial_leaves_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, task = loaded(), make("single", train=12, dev=9)
    accuracies = {0: [0.9, 0.1, 0.1, 0.1], 1: [0.1, 0.2, 0.3, 0.4]}
    sizes: list[list[int]] = []
    gradients = training._gradients

    def watched(states: Any, config: Any, chosen: Any) -> Any:
        sizes.append([own.job.trial for own in states])
        return gradients(states, config, chosen)

    def evaluation(_inputs: object, _prompt: object, _split: str, label: str) -> Any:
        trial = int(label.split()[1].rstrip(":")) - 1
        return type("Evaluation", (), {"accuracy": accuracies[trial].pop(0)})

    monkeypatch.setattr(training, "_gradients", watched)
    monkeypatch.setattr(training, "evaluate_inputs", evaluation)
    one, two = sn.tune(backbone, task, together=2, **OPTIONS | {"trials": 2, "lr": 0.02, "patience": 2})
    assert sizes == [[0, 1]] * 15 + [[1]] * 5
    assert [point.accuracy for point in one.history] == [0.9, 0.1, 0.1] and len(two.history) == 4


@pytest.mark.parametrize("most", [1, 24, 10**6])
def test_parts_change_nothing(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    backbone, task = loaded("electra"), make("three", train=20, dev=9)
    options = OPTIONS | {"trials": 2, "together": 2, "lr": 0.02, "steps": 6, "batch": 8}
    expected = sn.tune(backbone, task, **options)
    tokens: list[int] = []
    place = sn.Backbone.place

    def watched(self: Any, *given: Any) -> Any:
        batch = place(self, *given)
        if given[0].dim() == 3:
            tokens.append(batch.attention.numel())
            own = batch.attention.sum(1)
            assert len(own) == 1 or int(own.max()) * len(own) <= most
        return batch

    monkeypatch.setattr(training, "most_tokens", lambda *_, **__: most)
    monkeypatch.setattr(sn.Backbone, "place", watched)
    for one, other in zip(sn.tune(backbone, task, **options), expected, strict=True):
        close(one, other)
    assert len(tokens) > 6 if most < 10**6 else len(tokens) == 6


def test_a_step_takes_each_sample_of_each_trial_once() -> None:
    inputs = Inputs(loaded(), make("single", train=30), 3)
    config = sn.TuneConfig.make(**OPTIONS)
    states = [training._begin(Job(inputs, trial, 0.1), config) for trial in range(3)]
    chosen = [np.array([3, 1, 29]), np.array([3, 7]), np.arange(20)]
    seen: list[list[int]] = [[], [], []]
    for part in training._parts(states, config, chosen):
        for one, some in part:
            seen[one] += some.tolist()
    assert [sorted(own) for own in seen] == [sorted(own.tolist()) for own in chosen]


class Killed(BaseException):
    """Not an error that anything would catch."""


def test_killed_at_every_evaluation_they_end_as_they_would_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, task = loaded("opt", dropout=True), make("three")
    options: dict[str, Any] = OPTIONS | {"trials": 3, "together": 2, "lr": 0.05, "steps": 7, "evaluate_every": 3}
    sn.find(model, task, out=tmp_path / "whole", **options)
    calls = kills = 0

    def evaluation(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:  # the second evaluation of two prompts has begun
            raise Killed
        return evaluate_inputs(*given)

    monkeypatch.setattr(training, "evaluate_inputs", evaluation)
    while True:
        calls = 0
        try:
            sn.find(model, task, out=tmp_path / "broken", **options)
            break
        except Killed:
            kills += 1
    assert kills >= 3
    assert files(tmp_path / "broken") == files(tmp_path / "whole")
    monkeypatch.undo()
    (tmp_path / "broken/run.json").unlink()
    (tmp_path / "broken/trial-1.safetensors").unlink()  # made again beside the one that is there
    sn.find(model, task, out=tmp_path / "broken", **options)
    assert files(tmp_path / "broken") == files(tmp_path / "whole")
