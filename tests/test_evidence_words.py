"""Words of a neuron: streamed means are those over stored activations, cosines those worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot

import skillneurons as sn
from skillneurons.evidence.word_result import WAYS, Words
from skillneurons.evidence.words import extreme, words
from skillneurons.finding.portraits.shading import plain
from skillneurons.models import Backbone

from .backbones import fresh, hooks
from .makings import Form, make
from .reading import read_one
from .test_input_weights import PROJECTION, UP

OPTIONS: dict[str, Any] = {"trials": 2, "positions": 3, "prompt": "random", "init_std": 0.5}
CASES: list[tuple[str, Form]] = [
    ("bert", "pair"), ("albert", "single"), ("modernbert", "single"), ("gpt2", "three"), ("llama", "single"),
    ("opt-projected", "single"), ("t5-gated", "pair"),
]  # fmt: skip


@cache
def found(name: str, form: Form) -> tuple[Backbone, sn.SkillNeurons]:
    model, tokenizer = fresh(name)
    backbone = sn.load_model(model.double(), tokenizer=tokenizer)
    return backbone, sn.find(backbone, make(form), **OPTIONS)


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    pyplot.close("all")


@pytest.mark.parametrize(("name", "form"), CASES)
def test_streamed_means_are_those_over_stored_activations(name: str, form: Form) -> None:
    model, skill = found(name, form)
    chosen = [(model.layers - 1, 5), (0, 3), (0, 20)]
    result = words(model, skill, chosen, split="dev", trial=1, least=1)
    prompt, task = skill.prompts[1].embedding.double(), skill.task
    stored: dict[int, list[np.ndarray]] = {}
    for row in task.dev.rows:
        texts = [row[column] for column in task.text]
        layers, where = read_one(name, model.model, model.tokenizer, texts, prompt)
        if len(texts) == 2 and name == "gpt2":
            texts = ["\n".join(texts)]
        values = np.stack([layers[layer][where["inputs"], neuron] for layer, neuron in chosen], axis=1)
        for token, value in zip(model.tokenizer(*texts)["input_ids"], values, strict=True):
            stored.setdefault(token, []).append(value)
    activation, count = result.arrays["activation"].numpy(), result.arrays["count"].numpy()
    special = set(model.tokenizer.all_special_ids)
    assert {*np.flatnonzero(count)} == {*stored} and bool(special & {*stored}) == (name != "gpt2")
    for token, own in stored.items():
        assert count[token] == len(own)
        expected = np.full(3, np.nan) if token in special else np.mean(own, axis=0)
        np.testing.assert_allclose(activation[:, token], expected, rtol=1e-9, atol=1e-12)
    assert np.isnan(activation[:, count == 0]).all()
    assert hooks(model.model) == 0


@pytest.mark.parametrize(("name", "form"), CASES)
def test_cosines_are_those_by_hand(name: str, form: Form) -> None:
    model, skill = found(name, form)
    layer, neuron = chosen = (0, 7)
    module: Any = model.model.get_submodule(UP[name].format(layer))
    weight = module.weight[:, neuron] if name == "gpt2" else module.weight[neuron]
    table: Any = model.model.get_input_embeddings()
    cosine = words(model, skill, [chosen], least=1).arrays["cosine"][0]
    assert len(cosine) == len(table.weight)
    known = set(model.tokenizer.get_vocab().values()) - set(model.tokenizer.all_special_ids)
    for token in range(len(cosine)):
        if token not in known:
            assert torch.isnan(cosine[token])
            continue
        embedding = table.weight[token]
        if name in PROJECTION:
            embedding = model.model.get_submodule(PROJECTION[name])(embedding)
        expected = embedding @ weight / (embedding.norm() * weight.norm())
        assert float(cosine[token]) == pytest.approx(float(expected), abs=1e-12)


def test_rows_are_the_extremes_with_their_words() -> None:
    model, skill = found("bert", "pair")
    result = words(model, skill, [(1, 2)], least=4, most=3)
    table = result.table()
    assert len(table) == 2 * 2 * 3
    names = model.tokenizer.convert_ids_to_tokens([*range(model.tokenizer.vocab_size)])
    for way in ("cosine", "activation"):
        values = result.arrays[way][0].numpy()
        order = [token for token in np.argsort(-values) if not np.isnan(values[token])]
        for end, expected in (("top", order[:3]), ("bottom", order[::-1][:3])):
            rows = table[(table["way"] == way) & (table["end"] == end)]
            assert rows["token"].tolist() == expected and rows["place"].tolist() == [1, 2, 3]
            assert rows["text"].tolist() == [names[token] for token in expected]
            assert rows["value"].tolist() == [values[token] for token in expected]
    count = result.arrays["count"].numpy()
    assert (table["count"] == count[table["token"]]).all()
    assert (table[table["way"] == "activation"]["count"] >= 4).all()
    often = ~np.isnan(result.arrays["activation"][0].numpy())
    assert often.any() and (count[often] >= 4).all() and ((count > 0) & (count < 4)).any()


def test_the_best_neuron_of_each_subtask_is_taken() -> None:
    model, skill = found("gpt2", "three")
    result = words(model, skill)
    best = [skill.top(1, subtask=own.name).neurons[0] for own in skill.task.subtasks]
    assert result.neurons == list(dict.fromkeys(best))
    assert all(own["rank"] == 1 for own in result.about["neurons"])
    assert words(model, skill, skill.top(2)).neurons == list(skill.top(2).neurons)


@pytest.mark.parametrize(("name", "form"), [("bert", "pair"), ("gpt2", "three")])
def test_words_alone_read_labels_as_a_plain_loop_says(name: str, form: Form) -> None:
    model, skill = found(name, form)
    result = words(model, skill, least=2)
    task = skill.task
    for place, row in enumerate(result.readers().to_dict("records")):
        means = result.arrays["activation"][place].numpy()
        subtask = next(own for own in task.subtasks if own.name == row["subtask"])

        def read(split: str, means: np.ndarray = means) -> tuple[np.ndarray, list[str]]:
            values, rows = [], getattr(task, split).rows
            for sample in rows:
                texts = [sample[column] for column in task.text]
                ids = model.tokenizer(*(["\n".join(texts)] if name == "gpt2" else texts))["input_ids"]
                values.append(np.nanmean(means[ids]))
            return np.array(values), [task.labels[sample["label"]] for sample in rows]

        values, labels = read("train")
        high, low = (values[np.isin(labels, side)] for side in (subtask.positive, subtask.negative))
        cut = values.mean() if task.binary else (high.mean() + low.mean()) / 2
        halves = (high > cut).mean(), (low <= cut).mean()
        right = np.concatenate([high > cut, low <= cut]).mean() if task.binary else np.mean(halves)
        values, labels = read("test")
        above = (values > cut) if right >= 0.5 else (values <= cut)
        high, low = (above[np.isin(labels, side)] for side in (subtask.positive, subtask.negative))
        expected = np.concatenate([high, ~low]).mean() if task.binary else (high.mean() + (~low).mean()) / 2
        assert row["words_accuracy"] == pytest.approx(expected)
        assert row["words_low"] <= row["words_accuracy"] <= row["words_high"]
        best = next(own for own in skill.results["top_neurons"] if own["subtask"] == row["subtask"])
        assert row["test_accuracy"] == best["test_accuracy"] and row["low"] == best["low"]
    assert words(model, skill, skill.bottom(1)).readers()["test_accuracy"].isna().all()


def test_neurons_stand_beside_their_words_sample_by_sample() -> None:
    model, skill = found("bert", "pair")
    [row] = words(model, skill).about["neurons"]
    assert row["more"] == pytest.approx(row["test_accuracy"] - row["words_accuracy"])
    assert row["more_low"] <= row["more"] <= row["more_high"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([(0.2, 0.1, 0.3), (0.3, 0.2, 0.4)], "Holds: the skill neurons tell more than their words alone; neuron 2 of"),
        ([(0.2, 0.1, 0.3), (0.0, -0.01, 0.01)], "Does not hold: the words alone tell as much as the skill neuron; neu"),
        ([(0.2, 0.1, 0.3), (0.1, -0.1, 0.3)], "Cannot be told with this much data: whether the skill neurons tell"),
        ([None, (0.3, 0.2, 0.4)], "Holds"),
        ([None, None], "Cannot be told: none of these neurons is among the ten best"),
    ],
)
def test_its_verdict(more: list[tuple[float, float, float] | None], said: str) -> None:
    model, skill = found("bert", "pair")
    result = words(model, skill, [(1, 2), (0, 3)], least=2, most=4)
    rows = [
        {**row, "test_accuracy": 0.8, **dict(zip(("more", "more_low", "more_high"), own or [None] * 3, strict=True))}
        for row, own in zip(result.about["neurons"], more, strict=True)
    ]
    result = replace(result, about={**result.about, "neurons": rows})
    assert result.verdict.startswith(said)
    assert ("the least of 2 neurons" in result.verdict) == (None not in more)


def test_equal_values_come_by_their_number() -> None:
    values = torch.tensor([1.0, 3.0, torch.nan, 3.0, 0.0, 1.0])
    assert extreme(values, 3, top=True) == [1, 3, 0]
    assert extreme(values, 9, top=False) == [4, 0, 5, 1, 3]


def test_it_is_kept_and_shown(tmp_path: Path) -> None:
    model, skill = found("bert", "pair")
    result = words(model, skill, [(1, 2), (0, 3)], least=2, most=4)
    result.save(tmp_path)
    again = Words.load(tmp_path)
    assert again.table().equals(result.table()) and again.about == result.about
    assert all(torch.equal(again.arrays[key].nan_to_num(9), own.nan_to_num(9)) for key, own in result.arrays.items())
    shown = plain(again.screen())
    assert result.verdict in " ".join(shown.split())
    for row in result.of(1, "activation", "bottom"):
        assert row["text"] in shown
    assert "Neuron 2 of layer 1" in shown and "Neuron 3 of layer 0" in shown
    for way in WAYS:
        ax = result.plot(neuron=1, way=way)
        rows = [*result.of(1, way, "top"), *result.of(1, way, "bottom")[::-1]]
        labels = [label.get_text() for label in ax.get_yticklabels()]
        assert labels == [row["text"].strip() or repr(row["text"]) for row in rows]
        assert np.asarray(ax.get_lines()[1].get_xdata()).tolist() == [row["value"] for row in rows]


def test_what_cannot_be_told_is_refused() -> None:
    model, skill = found("bert", "pair")
    with pytest.raises(
        sn.SkillNeuronsError, match=r"at least 9999 times in train of pair; .* \d+ times. Lower --least"
    ):
        words(model, skill, least=9999)
    with pytest.raises(sn.SkillNeuronsError, match="layers 0 to 1; given: layer 7, neuron 0"):
        words(model, skill, [(7, 0)])
    with pytest.raises(sn.SkillNeuronsError, match="trials 0 to 1; given: 2"):
        words(model, skill, trial=2)
    with pytest.raises(sn.SkillNeuronsError, match="one neuron at least"):
        words(model, skill, [])
    with pytest.raises(sn.SkillNeuronsError, match="the model it was found in"):
        words(found("gpt2", "three")[0], skill)
    with pytest.raises(sn.SkillNeuronsError, match="neuron 0 to 0, by cosine or activation"):
        words(model, skill, [(0, 0)]).of(1)
