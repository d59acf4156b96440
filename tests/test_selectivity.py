"""The selectivity index is that of a plain loop over activations read one sample at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from rich.console import Console
from scipy.stats import spearmanr

import skillneurons as sn
from skillneurons.errors import SkillNeuronsError
from skillneurons.evidence.selectivity import Selectivity, selectivity, selectivity_index

from .backbones import fresh, hooks
from .makings import TELLING, Form, make, rows
from .reading import read_one

OPTIONS: dict[str, Any] = {"trials": 2, "positions": 3, "prompt": "random", "init_std": 0.5}
CASES: list[tuple[str, Form, dict[str, Any]]] = [
    ("roberta", "three", {}),
    ("bert", "pair", {"tokens": "answer", "values": "rectified"}),
    ("gpt2", "three", {"tokens": "input", "split": "test"}),
    ("llama", "single", {"tokens": "all", "values": "rectified"}),
    ("opt", "single", {"tokens": "input", "split": "train"}),
    ("t5-gated", "three", {"tokens": "all"}),
]


def found(name: str, form: Form) -> tuple[sn.Backbone, sn.SkillNeurons]:
    model, tokenizer = fresh(name)
    backbone = sn.load_model(model.double(), tokenizer=tokenizer)
    return backbone, sn.find(backbone, make(form), **OPTIONS)


@pytest.fixture(scope="module")
def three() -> tuple[sn.Backbone, sn.SkillNeurons, Selectivity]:
    backbone, skill = found("roberta", "three")
    return backbone, skill, selectivity(backbone, skill)


def by_hand(name: str, backbone: sn.Backbone, skill: sn.SkillNeurons, trial: int, config: dict[str, Any]) -> np.ndarray:
    """One trial's index of every neuron."""
    task, tokens = skill.task, config.get("tokens", "prompt")
    own: dict[int, list[np.ndarray]] = {}
    for row in getattr(task, config.get("split", "dev")).rows:
        texts = [row[column] for column in task.text]
        embedding = skill.prompts[trial].embedding.double()
        layers, where = read_one(name, backbone.model, backbone.tokenizer, texts, embedding)
        chosen = slice(None) if tokens == "all" else where["inputs" if tokens == "input" else tokens]
        activations = np.concatenate([layer[chosen] for layer in layers], axis=1)
        values = np.abs(activations) if config.get("values") != "rectified" else np.maximum(activations, 0)
        own.setdefault(row["label"], []).append(values.mean(0))
    index = []
    for neuron in range(backbone.neurons):
        means = sorted(float(np.mean([sample[neuron] for sample in samples])) for samples in own.values())
        most, rest = means[-1], float(np.mean(means[:-1]))
        index.append((most - rest) / (most + rest) if most + rest else 0.0)
    return np.array(index)


@pytest.mark.parametrize(("name", "form", "config"), CASES)
def test_it_is_the_index_of_stored_activations(
    name: str, form: Form, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skillneurons.tuning.inputs.TOKENS_IN_A_BATCH", 120)  # several batches, padding in them
    backbone, skill = found(name, form)
    attached = hooks(backbone.model)
    own = selectivity(backbone, skill, **config)
    expected = np.mean([by_hand(name, backbone, skill, trial, config) for trial in range(2)], axis=0)
    np.testing.assert_allclose(own.index, expected, rtol=1e-6, atol=1e-9)
    assert own.orders().keys() == {"selectivity_index"} and hooks(backbone.model) == attached
    assert own.index.min() >= 0 and 0 < own.index.max() <= 1


def test_the_formula() -> None:
    means = np.array([[3.0, 1, 0, 0, 2], [1, 1, 0, 5, 2], [0, 1, 0, 0, 2]])
    assert selectivity_index(means).tolist() == [2.5 / 3.5, 0, 0, 1, 0]
    assert selectivity_index(means[:2]).tolist() == [0.5, 0, 0, 1, 0]


def test_with_relu_both_values_are_the_same() -> None:
    backbone, skill = found("opt", "single")
    one, other = (selectivity(backbone, skill, values=values).index for values in ("absolute", "rectified"))
    assert np.array_equal(one, other)


def test_half_precision_is_widened() -> None:
    model, tokenizer = fresh("bert")
    backbone = sn.load_model(model.to(torch.bfloat16), tokenizer=tokenizer)
    skill = sn.find(backbone, make("single"), **OPTIONS)
    own = selectivity(backbone, skill)
    assert np.isfinite(own.index).all() and own.arrays["means"].dtype == torch.float32


def test_the_table_stands_beside_predictivity(
    three: tuple[sn.Backbone, sn.SkillNeurons, Selectivity],
) -> None:
    _, skill, own = three
    assert [row["subtask"] for row in own.rows] == [subtask.name for subtask in skill.task.subtasks]
    width = skill.widths[0]
    selective = set(np.argsort(-own.index)[:10].tolist())
    for at, row in enumerate(own.rows):
        assert row["layer"] * width + row["neuron"] == own.index.argmax() and row["index"] == own.index.max()
        ranking = skill.table().query(f"subtask == '{row['subtask']}'")
        first = ranking[ranking["rank"] <= 10]
        skilled = set((first["layer"] * width + first["neuron"]).tolist())
        assert row["overlap"] == len(selective & skilled) / 10 and row["chance"] == 10 / len(own.index)
        values = ranking.sort_values(["layer", "neuron"])["predictivity"].to_numpy()
        assert row["correlation"] == pytest.approx(spearmanr(values.round(12), own.index).statistic, abs=1e-9)
        assert row["predictivity"] == values[own.index.argmax()]
        assert set(own.arrays["best"][at].tolist()) == skilled


def test_saved_drawn_and_shown(three: tuple[sn.Backbone, sn.SkillNeurons, Selectivity], tmp_path: Path) -> None:
    _, _, own = three
    own.save(tmp_path)
    again = Selectivity.load(tmp_path)
    assert again.table().equals(own.table()) and np.array_equal(again.index, own.index)
    assert again.about["config"] == {"tokens": "prompt", "split": "dev", "values": "absolute"}
    ax = again.plot(subtask="good-bad")
    assert np.array_equal(ax.lines[0].get_xdata(), own.index) and len(np.asarray(ax.lines[1].get_xdata())) == 10
    assert ax.get_title(loc="left") == "three: good-bad"
    pyplot.close()
    console = Console(width=140)
    with console.capture() as seen:
        console.print(own.screen())
    row = min(own.rows, key=lambda row: row["overlap"])
    assert f"{100 * row['overlap']:.1f} % of their top 10 in common on {row['subtask']}" in own.verdict
    assert own.verdict in " ".join(seen.get().split())
    assert "most selective" in seen.get() and "neutral-rest" in seen.get()


def test_what_is_refused(three: tuple[sn.Backbone, sn.SkillNeurons, Selectivity]) -> None:
    backbone, skill, own = three
    model, tokenizer = fresh("bert")
    with pytest.raises(SkillNeuronsError, match="a run is read with the model it was found in"):
        selectivity(sn.load_model(model, tokenizer=tokenizer), skill)
    with pytest.raises(SkillNeuronsError, match="tokens"):
        selectivity(backbone, skill, tokens="words")
    with pytest.raises(SkillNeuronsError, match="a subtask is one of good-rest"):
        own.plot(subtask="bad")
    t5, other = found("t5", "single")
    with pytest.raises(SkillNeuronsError, match="the answer token of an encoder-decoder is its decoder's"):
        selectivity(t5, other, tokens="answer")


def test_a_label_without_samples_is_named() -> None:
    splits: dict[str, Any] = {split: rows("three", 40, seed) for seed, split in enumerate(("train", "dev"))}
    splits["test"] = [row for row in rows("three", 40, 2) if row["label"] != "neutral"]
    words = {label: label for label in TELLING}
    subtasks = [{"name": "good-bad", "positive": ["positive"], "negative": ["negative"]}]
    task = sn.Task.from_rows("lacking", **splits, text=["text"], words=words, subtasks=subtasks)
    model, tokenizer = fresh("bert")
    backbone = sn.load_model(model, tokenizer=tokenizer)
    skill = sn.find(backbone, task, **OPTIONS)
    with pytest.raises(SkillNeuronsError, match="test of lacking has none labelled neutral"):
        selectivity(backbone, skill, split="test")
