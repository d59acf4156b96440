"""Scores are Eq. 3 and 4: a loop in float64 over the library's own activations, one sample at a time, says the same."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import skillneurons as sn
from skillneurons.finding import statistics
from skillneurons.finding.score import TrialScores
from skillneurons.finding.statistics import Counts, Means, scoring_bytes
from skillneurons.models import Batch
from skillneurons.tuning.prompt import Prompt

from .families import FAMILIES, tiny
from .makings import Form, make
from .reading import Seen, read

CLOSE = 1e-5  # an activation as near as this to its baseline may be counted on either side
POSITIONS = 5
FORMS: tuple[Form, ...] = ("single", "pair", "three")
CASES = [(name, form) for name in ("roberta", "gpt2", "t5") for form in FORMS]
CASES += [("bert", "pair"), ("albert", "single"), ("opt", "three"), ("llama", "pair"), ("bart", "pair")]
EXACT = [*CASES, ("t5-gated", "three")]  # whose wide gates give a sample other sixth digits in a batch than alone


def mean(samples: Sequence[np.ndarray]) -> np.ndarray:
    return sum(samples, np.zeros_like(samples[0])) / len(samples)


def check_subtask(task: sn.Task, index: int, train: Seen, dev: Seen, layer: int, scores: TrialScores) -> None:
    """Eq. 3 and 4 for one subtask and layer, in float64; a subtask of several labels weighs its two sides equally."""
    sides = task.subtasks[index].negative, task.subtasks[index].positive
    of_train, of_dev = (
        [[own for own, label in zip(seen.prompt[layer], seen.labels, strict=True) if label in side] for side in sides]
        for seen in (train, dev)
    )
    base = mean([mean(own) for own in of_train]) if len(task.labels) > 2 else mean(of_train[0] + of_train[1])
    above = [sum((own > base).astype(int) for own in side) for side in of_dev]
    n0, n1 = len(of_dev[0]), len(of_dev[1])
    if len(task.labels) > 2:
        accuracy = (above[1] / n1 + (n0 - above[0]) / n0) / 2
    else:
        accuracy = (above[1] + (n0 - above[0])) / (n0 + n1)

    assert (
        np.abs(scores.baseline(layer)[index].double().numpy() - base) <= 1e-6 * np.abs(train.prompt[layer]).mean()
    ).all()
    dead = ~train.prompt[layer].any(0)  # exactly at a baseline of exactly 0: there is no doubt
    unsure = np.stack([sum(((np.abs(own - base) <= CLOSE) & ~dead).astype(int) for own in side) for side in of_dev])
    fired = scores.fired(layer)[index].numpy()
    assert fired.dtype == np.int32 and fired.shape == (2, *base.shape)
    assert (np.abs(fired - np.stack(above)) <= unsure).all()
    share = unsure[1] / n1 / 2 + unsure[0] / n0 / 2 if len(task.labels) > 2 else unsure.sum(0) / (n0 + n1)
    assert (np.abs(scores.accuracy(layer)[index].numpy() - accuracy) <= share + 1e-7).all()
    assert (unsure == 0).mean() > 0.9  # or all this would show nothing
    assert list(scores.totals[index]) == [n0, n1]


@pytest.mark.parametrize(
    ("name", "form", "dtype"),
    [(*case, torch.float32) for case in CASES] + [(*case, torch.float64) for case in EXACT],
)
def test_scores_are_the_equations(name: str, form: Form, dtype: torch.dtype) -> None:
    model, tokenizer = tiny(name)
    model = model.double() if dtype == torch.float64 else model
    task = make(form)
    prompt = drawn(model).to(dtype)
    scores = sn.score(sn.load_model(model, tokenizer=tokenizer), task, [as_prompt(prompt)])[0]
    train, dev = (read(name, model, tokenizer, task, split, prompt) for split in ("train", "dev"))
    assert scores.layers == FAMILIES[name].layers
    for layer in range(scores.layers):
        for index in range(len(task.subtasks)):
            check_subtask(task, index, train, dev, layer, scores)
        rows = scores.mean(layer).double().numpy()
        assert rows.shape == (POSITIONS + 2, FAMILIES[name].width)
        whose = [(rows[:POSITIONS], train.prompt), (rows[POSITIONS], train.answer), (rows[POSITIONS + 1], train.inputs)]
        for part, own in whose:
            if len(own[layer]):
                assert (np.abs(part - mean(list(own[layer]))) <= 1e-6 * np.abs(own[layer]).mean()).all()
        assert np.isnan(rows).any() == np.isnan(rows[POSITIONS]).all() == (FAMILIES[name].kind == "encoder-decoder")


def drawn(model: Any) -> Tensor:
    width = model.get_input_embeddings().weight.shape[1]
    return torch.randn(POSITIONS, width, generator=torch.Generator().manual_seed(7))


def as_prompt(embedding: Tensor, trial: int = 0) -> Prompt:
    return Prompt(embedding, "random", trial, 0.5, 0.5, 40)


@pytest.mark.parametrize("form", ["single", "three"])
def test_accuracies_follow_from_the_counts_that_are_kept(form: Form) -> None:
    model, tokenizer = tiny("bert")
    task = make(form)
    scores = sn.score(sn.load_model(model, tokenizer=tokenizer), task, [as_prompt(drawn(model))])[0]
    for layer in range(scores.layers):
        fired = scores.fired(layer).double().numpy()
        n0, n1 = scores.totals.T[:, :, None, None]
        if form == "single":
            expected = (fired[:, 1] + n0 - fired[:, 0]) / (n0 + n1)
        else:
            expected = (fired[:, 1] / n1 + 1 - fired[:, 0] / n0) / 2
        assert np.abs(scores.exact_accuracy(layer) - expected).max() < 1e-15
        assert np.abs(scores.accuracy(layer).numpy() - expected).max() < 1e-7


def test_batches_decide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = tiny("llama")
    model.double()
    backbone, task = sn.load_model(model, tokenizer=tokenizer), make("three")
    prompts = [as_prompt(drawn(model)), as_prompt(-drawn(model), 1)]
    together = sn.score(backbone, task, prompts)
    monkeypatch.setattr("skillneurons.tuning.inputs.TOKENS_IN_A_BATCH", 1)
    for one, other in zip(together, sn.score(backbone, task, prompts), strict=True):
        for name in one.tensors:
            assert torch.allclose(one.tensors[name].double(), other.tensors[name].double(), rtol=0, atol=1e-5), name
    assert not torch.equal(together[0].accuracy(0), together[1].accuracy(0))


def test_nothing_of_a_sample_outlives_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = tiny("opt")
    alive: list[int] = []
    seen: list[weakref.ref[Tensor]] = []
    for statistic in (Means, Counts):

        def watched(self: Any, layer: int, activations: Tensor, own: Any = statistic.__call__) -> None:
            alive.append(sum(ref() is not None for ref in seen))
            own(self, layer, activations)
            seen.append(weakref.ref(activations))

        monkeypatch.setattr(statistic, "__call__", watched)
    monkeypatch.setattr("skillneurons.tuning.inputs.TOKENS_IN_A_BATCH", 64)
    scores = sn.score(sn.load_model(model, tokenizer=tokenizer), make("single"), [as_prompt(drawn(model))])
    assert len(seen) > 20 * scores[0].layers
    assert max(alive) <= 1 and not any(ref() is not None for ref in seen)


def placed(samples: int, tokens: int, prompt: slice, inputs: Tensor) -> Batch:
    """A batch of which only the places matter."""
    return Batch(torch.empty(samples, tokens, 1), torch.ones(samples, tokens, dtype=torch.long), inputs, prompt, 0, {})


@pytest.mark.parametrize("count", [400, 4000])
def test_a_neuron_far_more_active_than_the_others_spoils_no_sum(count: int) -> None:
    draw = torch.Generator().manual_seed(0)
    labels = np.random.default_rng(0).integers(0, 2, count)
    means = Means([256], 3, labels, classes=2, device=torch.device("cpu"))
    total, tokens, there, size = torch.zeros(3, 256).double(), torch.zeros(256).double(), 0, 0.0
    for samples in np.arange(count).reshape(-1, 200):
        activations = torch.rand(200, 8, 256, generator=draw)
        activations[:, :, 0] += 100  # the mean of all is 0.9
        inputs = torch.rand(200, 8, generator=draw) < 0.6
        inputs[:, :4] = False
        means.begin(placed(200, 8, slice(1, 4), inputs), samples[np.argsort(labels[samples])])
        means(0, activations)
        total += activations[:, 1:4].double().sum(0)
        tokens += activations[inputs].double().sum(0)
        there, size = there + int(inputs.sum()), size + float(activations.mean()) * 200 / count
    weights = np.full((1, 2), 1 / count)
    assert (means.baseline(0, weights)[0] - total / count).abs().max() < 1e-6 * size
    assert (means.mean(0, answer=True)[:3] - total / count).abs().max() < 1e-6 * size
    assert (means.mean(0, answer=True)[4] - tokens / there).abs().max() < 1e-6 * size


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("prompt", [slice(0, 4), slice(1, 5), slice(3, 7)])
def test_statistics_are_a_plain_loop(
    dtype: torch.dtype, ordered: bool, prompt: slice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every sample on its own, in float64; worked on a few neurons and a few samples at a time."""
    monkeypatch.setattr(statistics, "CELLS", 9)
    monkeypatch.setattr(statistics, "MANY", 16)
    draw = np.random.default_rng(0)
    labels, sides = draw.integers(0, 3, 300), np.array([[[1, 0, 1], [0, 1, 0]], [[0, 0, 1], [1, 0, 0]]])
    values = torch.from_numpy(draw.normal(size=(300, 7, 11))).to(dtype)
    inputs = torch.from_numpy(draw.random((300, 7)) < 0.5)
    inputs[:, prompt] = False
    baselines = torch.from_numpy(draw.normal(size=(2, 4, 11)) / 3).float()
    baselines[:, :, 0] = values[7, prompt, 0]  # which is not above itself
    means, counts = Means([11], 4, labels, 3, torch.device("cpu")), Counts([baselines], labels, sides)
    for samples in np.array_split(draw.permutation(300), 5):
        samples = samples[np.argsort(labels[samples])] if ordered else samples
        for statistic in (means, counts):
            statistic.begin(placed(len(samples), 7, prompt, inputs[samples]), samples)
            statistic(0, values[samples])

    plain = values.double().numpy()
    sums = np.stack([plain[labels == label][:, prompt].sum(0) for label in range(3)])
    rest = np.stack([plain[:, 0].mean(0), plain[inputs.numpy()].mean(0)])
    assert np.abs(means.sums[0].numpy() - sums).max() < 1e-6 * 300
    assert np.abs(means.mean(0, answer=True).numpy() - np.concatenate([sums.sum(0) / 300, rest])).max() < 1e-6
    weights = draw.random((2, 3))
    assert np.abs(means.baseline(0, weights).numpy() - np.einsum("sc,cpn->spn", weights, sums)).max() < 1e-6 * 300
    for subtask, of in enumerate(sides):
        above = plain[:, prompt] > baselines[subtask].double().numpy()
        for side, members in enumerate(of):
            assert np.array_equal(counts.fired[0][subtask, side].numpy(), above[members[labels] == 1].sum(0))


BITS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32, torch.float64: torch.int64}


@pytest.mark.parametrize("dtype", BITS)
def test_activations_are_compared_with_the_baseline_itself(dtype: torch.dtype) -> None:
    """Every half-precision number, or those around it, beside baselines between two of them, on one and next to one.

    A baseline rounded to the activations' precision the wrong way would let a number count that it passed, or miss one.
    """
    draw = torch.Generator().manual_seed(0)
    some = torch.cat([torch.randn(30, generator=draw), torch.randn(10, generator=draw).bfloat16().float()])
    some = torch.cat(
        [some, torch.tensor([0.0, -0.0, 1e-45, -1e-45, 1e-30, -1e-30, 6e-5, 65504, 65519, 65520, 3.39e38])]
    )
    some = torch.cat([some, -some, some * 1000, some / 1000])
    most = torch.full_like(some, torch.inf)
    baselines = torch.cat([some, some.nextafter(most), some.nextafter(-most)])
    baselines = baselines[baselines.isfinite()]
    if dtype.itemsize == 2:
        numbers = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)  # all there are
    else:
        near = (baselines.to(dtype).view(BITS[dtype])[:, None] + torch.arange(-2, 3)).to(BITS[dtype]).view(dtype)
        numbers = torch.cat([near.flatten(), torch.tensor([torch.inf, -torch.inf, 0.0, -0.0], dtype=dtype)])
    numbers = numbers[~numbers.isnan()]
    labels = np.zeros(len(numbers), np.int64)
    counts = Counts([baselines[None, None]], labels, np.array([[[0], [1]]]))
    for samples in np.array_split(np.arange(len(numbers)), 50):
        counts.begin(placed(len(samples), 1, slice(0, 1), torch.zeros(len(samples), 1, dtype=torch.bool)), samples)
        counts(0, numbers[samples][:, None, None].expand(-1, 1, len(baselines)))
    expected = (numbers.double()[:, None] > baselines.double()).sum(0)
    assert torch.equal(counts.fired[0][0, 1, 0].long(), expected)
    assert counts.fired[0][0, 0].sum() == 0


def test_half_precision_is_widened_before_it_is_summed() -> None:
    samples, labels = np.arange(256), np.zeros(256, np.int64)
    means = Means([1], 1, labels, classes=1, device=torch.device("cpu"))
    values = torch.tensor([256.0] + [1.0] * 255, dtype=torch.bfloat16)  # bfloat16 cannot tell 257 from 256
    batch = placed(256, 1, slice(0, 1), torch.zeros(256, 1, dtype=torch.bool))
    means.begin(batch, samples)
    means(0, values[:, None, None])
    assert float(means.mean(0, answer=True)[0, 0]) == 511 / 256
    counts = Counts([torch.full((1, 1, 1), 1.0009765625)], labels, np.array([[[0], [1]]]))
    counts.begin(batch, samples)
    counts(0, torch.tensor([1.0, 1.0078125], dtype=torch.bfloat16).repeat(128)[:, None, None])
    assert counts.fired[0].flatten().tolist() == [0, 128]


@pytest.mark.parametrize("form", ["single", "three"])
def test_the_bytes_that_are_told_are_those_of_the_statistics(form: Form) -> None:
    model, tokenizer = tiny("bart")
    task = make(form)
    backbone = sn.load_model(model, tokenizer=tokenizer)
    kept = sn.score(backbone, task, [as_prompt(drawn(model))])[0].tensors
    told = scoring_bytes(backbone.widths, POSITIONS, len(task.labels), len(task.subtasks))
    result = sum(tensor.numel() * tensor.element_size() for tensor in kept.values())
    sums = backbone.neurons * (len(task.labels) * POSITIONS + 2) * 8
    assert max(result, sums) <= told <= result + sums


@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_side_without_samples_is_refused(split: str) -> None:
    model, tokenizer = tiny("bert")
    task = make("three")
    kept = getattr(task, split)
    without: dict[str, Any] = {split: kept.take(np.flatnonzero(kept.labels != 1))}
    with pytest.raises(
        sn.SkillNeuronsError, match=f"{split} of three has none labelled neutral .subtask neutral-rest.*limit"
    ):
        sn.score(sn.load_model(model, tokenizer=tokenizer), replace(task, **without), [as_prompt(drawn(model))])


def test_limits_bound_what_is_scored() -> None:
    model, tokenizer = tiny("gpt2")
    backbone, task = sn.load_model(model, tokenizer=tokenizer), make("single")
    limited = sn.score(backbone, task, [as_prompt(drawn(model))], train_limit=30, dev_limit=20)[0]
    same = sn.score(backbone, task.limited(train=30, dev=20), [as_prompt(drawn(model))])[0]
    assert limited.totals.sum() == 20
    assert all(torch.equal(limited.tensors[name], same.tensors[name]) for name in limited.tensors)
