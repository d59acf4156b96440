"""The shuffled null is Eq. 6 under one permutation after the other, by the plain scorer; and it holds its level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import Tensor

import skillneurons as sn
from skillneurons import score
from skillneurons.finding.nulls import permutation, permuted
from skillneurons.finding.nulls.permutation import EDGES, Shuffled, shuffled, shuffled_bytes
from skillneurons.finding.nulls.permuted import PermutedCounts
from skillneurons.finding.ranking import reduce_trial
from skillneurons.finding.score import TrialScores, accuracies
from skillneurons.finding.sides import subtask_sides
from skillneurons.finding.significance import over_trials
from skillneurons.finding.statistics import Counts
from skillneurons.models import Batch
from skillneurons.tuning.inputs import Inputs
from skillneurons.tuning.prompt import Prompt
from skillneurons.units import in_bytes

from .families import tiny
from .makings import Form, make

POSITIONS = 3
CASES: list[tuple[str, Form, torch.dtype]] = [
    ("bert", "single", torch.float32), ("gpt2", "three", torch.float32), ("albert", "pair", torch.float32),
    ("t5", "three", torch.bfloat16),
]  # fmt: skip


@cache
def scored(
    name: str, form: Form, dtype: torch.dtype = torch.float32, subtasks: int = 4
) -> tuple[sn.Backbone, sn.Task, list[Prompt], list[TrialScores]]:
    """Two trials of random prompts."""
    model, tokenizer = tiny(name)
    loaded: Any = model.to(dtype)  # type: ignore[arg-type]
    backbone, task = sn.load_model(loaded, tokenizer=tokenizer), make(form)
    task = replace(task, subtasks=task.subtasks[:subtasks])
    draw = torch.Generator().manual_seed(3)
    prompts = [
        Prompt(torch.randn(POSITIONS, backbone.embedding_size, generator=draw), "random", trial, 0.5, 0.5, 40)
        for trial in range(2)
    ]
    return backbone, task, prompts, score(backbone, task, prompts)


@torch.no_grad()
def plainly(
    model: sn.Backbone, inputs: Inputs, prompt: Prompt, baselines: Sequence[Tensor], side: np.ndarray
) -> Counts:
    """The plain scorer over dev, for one subtask: `side` [sample] is 0, 1, or 2 for a sample of neither side."""
    counts = Counts(baselines, side, np.array([[[1, 0, 0], [0, 1, 0]]]))
    with model.observe(counts):
        for chosen in inputs.by_length("dev"):
            batch = inputs.batch("dev", chosen, prompt.embedding)
            counts.begin(batch, chosen)
            model.read(batch)
    return counts


@pytest.mark.parametrize(("name", "form", "dtype"), CASES)
def test_counts_are_those_of_a_loop_over_permutations(
    name: str, form: Form, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, task, prompts, scores = scored(name, form, dtype)
    monkeypatch.setattr("skillneurons.tuning.inputs.TOKENS_IN_A_BATCH", 100)  # many batches, of several sizes
    monkeypatch.setattr(permutation, "_TOGETHER", 12)  # counted many times, never at the end of dev
    monkeypatch.setattr(permuted, "COLUMNS", 50)
    monkeypatch.setattr(permuted, "CELLS", 300)  # two permutations at a time
    labels, sides, shuffles = task.dev.labels, subtask_sides(task), 5
    rows = permuted.permuted(labels, sides, shuffles, seed=4)
    best = np.zeros((len(sides), shuffles, 2, model.neurons))
    for trial, (prompt, own) in enumerate(zip(prompts, scores, strict=True)):
        inputs = Inputs.beside(model, task, prompt)
        found = permuted.count(inputs, prompt, own, range(model.layers), rows, 12, "dev")
        for subtask, members in enumerate(sides[:, :, labels].max(1) == 1):
            baselines = [own.baseline(layer)[[subtask]] for layer in range(model.layers)]
            for shuffle in range(shuffles):
                side = np.where(members, rows[subtask, shuffle], 2).astype(np.int64)
                expected = plainly(model, inputs, prompt, baselines, side)
                accuracy = []
                for layer, fired in enumerate(expected.fired):
                    counts = found.counts[layer][subtask].view(shuffles + 1, *baselines[layer].shape[1:])
                    assert torch.equal(counts[shuffle], fired[0, 1].float())
                    assert torch.equal(counts[-1] - counts[shuffle], fired[0, 0].float())
                    accuracy.append(accuracies(fired.numpy(), own.totals[[subtask]], own.weighted)[0])
                best[subtask, shuffle, trial] = np.concatenate([np.maximum(part, 1 - part).max(0) for part in accuracy])
    null = shuffled(model, task, prompts, scores, permutations=shuffles, seed=4)
    assert null.subtasks == tuple(subtask.name for subtask in task.subtasks)
    assert np.abs(null.maxima - best.mean(2).max(2)).max() < 1e-12
    assert null.maxima.std() > 0
    assert null.counts.sum(1).tolist() == [shuffles * model.neurons] * len(sides)
    middles = (EDGES[1:] + EDGES[:-1]) / 2
    assert null.counts @ middles / null.counts.sum(1) == pytest.approx(best.mean((1, 2, 3)), abs=0.005)


def test_permutations_shuffle_the_sides_of_a_subtasks_own_samples() -> None:
    task = make("three")
    labels, sides = task.dev.labels, subtask_sides(task)
    rows = permuted.permuted(labels, sides, 50, seed=0)
    for index, (negative, positive) in enumerate(sides[:, :, labels] == 1):
        assert np.array_equal(rows[index, -1], negative | positive)
        assert set(rows[index, :-1].sum(1)) == {int(positive.sum())}
        assert not (rows[index, :-1] & ~(negative | positive)).any()
        assert len(np.unique(rows[index, :-1], axis=0)) == 50
        share = rows[index, :-1, negative | positive].mean()
        assert share == pytest.approx(positive.sum() / (negative | positive).sum())
    assert np.array_equal(rows, permuted.permuted(labels, sides, 50, seed=0))
    assert not np.array_equal(rows, permuted.permuted(labels, sides, 50, seed=1))


@pytest.mark.parametrize(("form", "passes"), [("single", 3), ("three", 2)])
def test_several_passes_give_what_one_gives(form: Form, passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, task, prompts, scores = scored("albert", form)
    subtasks = len(task.subtasks)
    told = [
        shuffled_bytes(model.widths[:layers], POSITIONS, 30, subtasks, len(task.dev), 64)
        for layers in range(1, model.layers + 1)
    ]
    whole = shuffled(model, task, prompts, scores, permutations=30, memory=told[-1] / 1e9)
    counted: list[list[int]] = []

    def count(*given: Any) -> PermutedCounts:
        counted.append(list(given[3]))
        return permuted.count(*given)

    monkeypatch.setattr(permutation, "count", count)
    monkeypatch.setattr("skillneurons.tuning.inputs.TOKENS_IN_A_BATCH", 500)  # so that batches are no more than 64
    parts = shuffled(model, task, prompts, scores, permutations=30, memory=told[-passes] / 1e9)
    assert len(counted) == 2 * passes  # two trials
    assert sorted(layer for own in counted for layer in own) == sorted([*range(model.layers)] * 2)
    assert np.array_equal(parts.maxima, whole.maxima) and np.array_equal(parts.counts, whole.counts)


@pytest.mark.parametrize("form", ["single", "three"])
def test_the_bytes_that_are_told_are_those_that_are_taken(form: Form) -> None:
    model, task, prompts, scores = scored("bert", form)
    labels, shuffles = task.dev.labels, 40
    rows = permuted.permuted(labels, subtask_sides(task), shuffles, seed=0)
    found = permuted.count(
        Inputs.beside(model, task, prompts[0]), prompts[0], scores[0], range(model.layers), rows, 64, "dev"
    )
    tensors = [*found.counts.values(), *found.above.values(), *found.baselines.values(), found.rows]
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    held += 2 * found.predictivity(scores[0].totals, scores[0].weighted).nbytes  # of a trial, and their sum
    told = shuffled_bytes(model.widths, POSITIONS, shuffles, len(task.subtasks), len(labels))
    widened = 64 * POSITIONS * max(model.widths) * 4 + 64 * rows.shape[0] * rows.shape[1] * 4
    worked = len(task.subtasks) * shuffles * POSITIONS * max(model.widths) * 48
    assert told == held + widened + worked


def test_more_permutations_than_fit_are_refused_with_how_many_would() -> None:
    model, task, prompts, scores = scored("bert", "single")
    told = in_bytes(shuffled_bytes(model.widths[:1], POSITIONS, 1000, 1, len(task.dev)))
    with pytest.raises(
        sn.SkillNeuronsError,
        match=rf"1000 permutations take {told} for layer 0 alone, and 2 MB are allowed. At most \d+ would",
    ) as raised:
        shuffled(model, task, prompts, scores, permutations=1000, memory=0.002)
    most = int(str(raised.value).partition("At most ")[2].split()[0])
    assert shuffled(model, task, prompts, scores, permutations=most, memory=0.002).permutations == most > 100
    with pytest.raises(sn.SkillNeuronsError, match=f"At most {most} would fit"):
        shuffled(model, task, prompts, scores, permutations=most + 1, memory=0.002)


def test_what_is_needed_is_said_beforehand(capsys: pytest.CaptureFixture[str]) -> None:
    model, task, prompts, scores = scored("bert", "single")
    shuffled(model, task, prompts[:1], scores[:1], permutations=19)
    told = in_bytes(shuffled_bytes(model.widths, POSITIONS, 19, 1, len(task.dev)))
    assert f"19 permutations take {told} in 1 pass over dev for 1 trial" in capsys.readouterr().err


def test_scores_of_other_samples_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, task, prompts, scores = scored("bert", "single")
    with pytest.raises(sn.SkillNeuronsError, match=r"another dev split than that of single. Give the task of the"):
        shuffled(model, task.limited(dev=20), prompts, scores, permutations=19)
    monkeypatch.setattr(permutation, "EXACT", 39)
    with pytest.raises(sn.SkillNeuronsError, match=r"exact up to 39 samples; dev of single has 40. Set --dev-limit 39"):
        shuffled(model, task, prompts, scores, permutations=19)


@pytest.mark.parametrize("permutations", [19, 20, 100, 999])
def test_the_threshold_is_where_p_falls_below_the_share(permutations: int) -> None:
    draw = np.random.default_rng(permutations)
    maxima = (draw.integers(50, 80, (2, permutations)) / 100).round(12)  # with ties
    null = Shuffled(("one", "other"), maxima, np.zeros((2, 100), dtype=np.int64))
    for share in (0.05, 0.2, 0.5):
        for index, name in enumerate(null.subtasks):
            for observed in np.arange(45, 85) / 100 + 1e-15:
                p = (1 + sum(maximum >= observed - 1e-12 for maximum in maxima[index])) / (1 + permutations)
                assert null.p_value(name, observed) == p
                assert (observed - 1e-12 > null.threshold(share)[index]) == (p <= share)
    with pytest.raises(
        sn.SkillNeuronsError, match=rf"no p below 1 / \(R \+ 1\).*of {permutations}. Take at least 1999"
    ):
        null.threshold(0.0005)


Recorded = list[tuple[Batch, np.ndarray, list[Tensor]]]


@torch.no_grad()
def record(model: sn.Backbone, inputs: Inputs, prompt: Prompt) -> Recorded:
    """A small model's whole dev pass: each batch, its samples and its layers' activations."""
    found: Recorded = []
    for chosen in inputs.by_length("dev"):
        found.append((inputs.batch("dev", chosen, prompt.embedding), chosen, []))
        with model.observe(lambda _, activations: found[-1][2].append(activations.clone())):
            model.read(found[-1][0])
    return found


@pytest.mark.parametrize("form", ["single", "three"])
def test_without_any_skill_p_values_hold_their_level(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dev's labels drawn anew, 400 times, whatever the texts: what was recorded of the model is used again.

    With 19 permutations the true labels' best neuron beats the threshold once in 20, but for ties, which make the test
    the more careful. So the count of p <= alpha must not exceed what chance does to a share of alpha (0.9999 of the
    binomial distribution); and with ties broken at random, which makes it exact, must not fall below it either.
    """
    model, task, prompts, scores = scored("roberta", form, subtasks=1)
    repetitions, draw = 400, np.random.default_rng(11)
    recorded = [record(model, Inputs.beside(model, task, prompt), prompt) for prompt in prompts]
    tokens = Inputs.beside(model, task, prompts[0]).tokens("dev")
    sides = subtask_sides(task)
    at = {id(prompt.embedding): own for prompt, own in zip(prompts, recorded, strict=True)}

    def replay(_inputs: Inputs, _split: str, embedding: Tensor, statistics: Sequence[PermutedCounts], _: str) -> None:
        for batch, samples, layers in at[id(embedding)]:
            for statistic in statistics:
                statistic.begin(batch, samples)
                for layer, activations in enumerate(layers):
                    statistic(layer, activations)

    monkeypatch.setattr(permuted, "sweep", replay)
    p_shuffled, p_broken, p_exact = [], [], []
    for repetition in range(repetitions):
        labels = draw.permutation(task.dev.labels)
        fresh: Any = {"dev": SimpleNamespace(labels=labels)}
        drawn = replace(task, **fresh)
        monkeypatch.setattr(Inputs, "tokens", lambda *_, labels=labels: replace(tokens, labels=labels))
        best = []
        for own, batches in zip(scores, recorded, strict=True):
            counts = Counts([own.baseline(layer) for layer in range(model.layers)], labels, sides)
            for batch, samples, layers in batches:
                counts.begin(batch, samples)
                for layer, activations in enumerate(layers):
                    counts(layer, activations)
            fired = {f"fired.{layer}": own_fired for layer, own_fired in enumerate(counts.fired)}
            best.append(reduce_trial(replace(own, tensors={**own.tensors, **fired})))
        null = shuffled(model, drawn, prompts, scores, permutations=19, seed=repetition)
        observed = round(float(np.mean([own.predictivity[0] for own in best], axis=0).max()), 12)
        p_shuffled.append(null.p_value(null.subtasks[0], observed))
        ties = int((null.maxima[0] == observed).sum())
        p_broken.append(p_shuffled[-1] - draw.integers(ties + 1) / 20)
        p_exact.append(over_trials(np.stack([own.p[0] for own in best])))
    for alpha in (0.05, 0.1, 0.25, 0.5):
        low, high = (binom.ppf(share, repetitions, alpha) for share in (0.0001, 0.9999))
        assert (np.array(p_shuffled) <= alpha + 1e-9).sum() <= high, alpha
        assert low <= (np.array(p_broken) <= alpha + 1e-9).sum() <= high, alpha
        most = binom.ppf(1 - 0.0001 / model.neurons, repetitions, alpha)  # of each of so many neurons
        assert ((np.stack(p_exact) <= alpha).sum(0) <= most).all(), alpha
