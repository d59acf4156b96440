"""A finding in Python: every family, what is chosen from it, what it shows, what it doubts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import skillneurons as sn
from skillneurons.finding.find import find
from skillneurons.finding.show import as_text

from .families import FAMILIES, tiny
from .makings import easy, make

OPTIONS: dict[str, Any] = {
    "trials": 2, "positions": 3, "steps": 4, "evaluate_every": 2, "lr": 0.05, "init_std": 0.5,
}  # fmt: skip


def backbone(name: str = "bert") -> sn.Backbone:
    model, tokenizer = tiny(name)
    return sn.load_model(model, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def binary() -> sn.SkillNeurons:
    return sn.find(backbone(), make("single"), **OPTIONS)


@pytest.fixture(scope="module")
def several() -> sn.SkillNeurons:
    return sn.find(backbone("llama"), make("three"), **OPTIONS)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_its_neurons_found(name: str) -> None:
    """The figures are those of what tune, score and rank give one by one."""
    model, task = backbone(name), make("pair", train=30, dev=20, test=10)
    skill = sn.find(model, task, **OPTIONS)
    prompts = sn.tune(model, task, **OPTIONS)
    scores = sn.score(model, task, prompts)
    for own, other in zip(skill.prompts, prompts, strict=True):
        assert torch.equal(own.embedding, other.embedding)
    layer, neuron = skill.top(1).neurons[0]
    each = [trial.exact_accuracy(layer)[0, :, neuron] for trial in scores]
    best = np.mean([np.maximum(own, 1 - own).max() for own in each])  # Eq. 5 and 6
    every = [
        [np.maximum(own, 1 - own).max(1)[0] for own in map(trial.exact_accuracy, range(trial.layers))]
        for trial in scores
    ]
    assert best == skill.results["top_neuron"]["predictivity"]
    assert best == pytest.approx(np.mean([np.concatenate(own) for own in every], axis=0).max(), abs=1e-12)
    assert len(skill.table()) == model.neurons == FAMILIES[name].width * FAMILIES[name].layers


def test_two_findings_of_one_seed_are_the_same_and_of_two_not() -> None:
    model, task = backbone("opt"), make("three")
    options = OPTIONS | {"lr": "auto", "init_std": "auto"}
    one, other = (sn.find(model, task, **options) for _ in range(2))
    assert one.about == other.about and one.neurons.equals(other.neurons)
    for a, b in zip(one.scores, other.scores, strict=True):
        assert all(a.tensors[name].equal(b.tensors[name]) for name in a.tensors)
    third = sn.find(model, task, **options, seed=1)
    assert third.about["fingerprints"] == one.about["fingerprints"] and third.about["identity"] != one.about["identity"]
    assert not third.neurons.equals(one.neurons)


def test_a_configuration_may_be_given_whole() -> None:
    config = sn.TuneConfig.make(**OPTIONS)
    skill = find(backbone(), make("single"), config=config)
    assert skill.config == config and skill.widths == (44, 44)


def test_sets_are_chosen_by_ranking_and_subtask(several: sn.SkillNeurons) -> None:
    table = several.table()
    for subtask in ("good-bad", None):
        own = table[table["subtask"] == (subtask or "three")]
        pairs = [*zip(own["layer"], own["neuron"], strict=True)]
        assert list(several.top(9, subtask=subtask)) == pairs[:9]
        assert list(several.bottom(9, subtask=subtask)) == pairs[::-1][:9]
    half = several.top(fraction=0.5, scope="layer", subtask="bad-neutral")
    assert [len(own) for own in half.by_layer().values()] == [22, 22]
    assert several.random(5, seed=1) == several.random(5, seed=1) != several.random(5, seed=2)
    assert several.top(1).neurons == several.top(1, subtask="good-rest").neurons
    with pytest.raises(
        sn.SkillNeuronsError, match="one of good-rest, good-bad, neutral-rest, bad-neutral; given: 'bad'"
    ):
        several.top(3, subtask="bad")


def test_chosen_neurons_can_be_edited_at_once(binary: sn.SkillNeurons) -> None:
    model = backbone()
    plain = sn.evaluate(model, binary.task, binary.prompts[0])
    with model.edit(binary.top(fraction=1.0), sn.Zero()):
        silent = sn.evaluate(model, binary.task, binary.prompts[0])
    assert len(set(silent.predicted.tolist())) == 1 or silent.accuracy != plain.accuracy
    assert sn.evaluate(model, binary.task, binary.prompts[0]).predicted.tolist() == plain.predicted.tolist()


def test_the_table_is_the_callers_to_change(binary: sn.SkillNeurons) -> None:
    changed = binary.table()
    changed["predictivity"] = 0.0
    assert binary.table()["predictivity"].min() >= 0.5


def test_the_answer_comes_first(binary: sn.SkillNeurons, several: sn.SkillNeurons) -> None:
    text = repr(binary)
    top = binary.results["top_neuron"]
    assert "single on BertForMaskedLM: 88 neurons, 2 trials, soft prompt of 3" in text
    row = next(line for line in text.splitlines() if line.split()[:2] == [str(top["neuron"]), str(top["layer"])])
    for share in (top["predictivity"], top["test_accuracy"], top["low"], top["high"]):
        assert f"{100 * share:.1f}" in row
    assert text.index("Top neurons") < text.index("prompt   ") < text.index("commonest label")
    assert f"{100 * binary.about['majority']:.1f} %" in text
    assert "did not beat the majority label" in text
    assert "top neurons together" in repr(several) and "top neurons together" not in text
    assert all(f"Top neurons, {name}" in repr(several) for name in ("good-rest", "bad-neutral"))


def test_a_notebook_shows_the_same_figures(several: sn.SkillNeurons) -> None:
    page = several._repr_html_()
    assert page.count("<table>") == page.count("</table>") == 5
    for record in several.results["top_neurons"]:
        if record["rank"] <= 5:
            assert f"<td>{record['neuron']}</td><td>{record['layer']}</td>" in page
    about = {**several.about, "model": "<script>"}
    assert "<script>" not in sn.SkillNeurons(about, several.neurons, [], [], several.tested)._repr_html_()


def test_inputs_that_were_cut_are_told() -> None:
    skill = sn.find(backbone(), make("pair"), input_limit=6, **OPTIONS)
    assert skill.about["cut"]["train"] > 0
    assert f"{skill.about['cut']['train']} of 60 train inputs were cut to fit." in repr(skill)
    assert "cut to fit" not in repr(sn.find(backbone(), make("pair"), **OPTIONS))


def test_hard_prompts_may_differ_in_length() -> None:
    task = replace(make("single"), prompts=("it is", "the film was very"))
    skill = sn.find(backbone("gpt2"), task, prompt="hard")
    assert [prompt.positions for prompt in skill.prompts] == [
        len(backbone("gpt2").tokenizer(text)["input_ids"]) for text in task.prompts
    ]
    assert skill.about["trials"] == 2 and skill.about["positions"] == skill.prompts[0].positions
    assert skill.scores[0].accuracy(0).shape[1] != skill.scores[1].accuracy(0).shape[1]
    assert "majority label" not in as_text(skill.about)  # an untuned prompt is not expected to beat it


def test_half_precision_is_another_model_with_the_same_statistics() -> None:
    task = make("single", train=20, dev=16, test=10)
    prints = set()
    for dtype in (torch.float32, torch.bfloat16):
        model, tokenizer = tiny("t5")
        loaded: Any = model.to(dtype)  # type: ignore[arg-type]
        skill = sn.find(sn.load_model(loaded, tokenizer=tokenizer), task, **OPTIONS)
        assert skill.scores[0].mean(0).dtype == torch.float32
        assert skill.about["source"]["dtype"] == str(dtype).removeprefix("torch.")
        prints.add(skill.about["fingerprints"]["model"])
    assert len(prints) == 2


def test_skill_that_is_there_is_found() -> None:
    """A prompt that learned its task makes some neuron tell the labels apart, on test too."""
    task = easy()
    skill = sn.find(backbone("llama"), task, preset="quick", trials=1, positions=4, epochs=8, evaluate_every=12)
    top = skill.results["top_neuron"]
    assert top["predictivity"] > 0.9 and top["low"] > task.majority("test")
    assert skill.table()["q_value"].min() < 1e-6
    assert skill.results["prompt_worth_ranking"] == [True] and "majority label" not in repr(skill)


def test_the_miniature_has_skill_neurons_for_films() -> None:
    model, task = sn.load_model("miniature"), sn.load_task("miniature/films")
    skill = sn.find(
        model, task, preset="quick", trials=1, positions=8, steps=120, evaluate_every=40,
        train_limit=600, dev_limit=300, test_limit=300,
    )  # fmt: skip
    top = skill.results["top_neuron"]
    assert skill.results["prompt_worth_ranking"] == [True]
    assert top["low"] > skill.about["majority"]


def test_words_that_will_not_do_are_told_before_any_work(tmp_path: Path) -> None:
    task = replace(make("single"), words={"negative": "negative", "positive": "unheard of"})
    with pytest.raises(sn.SkillNeuronsError, match="the word 'unheard of' of label 'positive' is not one known token"):
        sn.find(backbone(), task, out=tmp_path / "run", **OPTIONS)
    assert not (tmp_path / "run").exists()


def test_a_prompt_of_another_model_is_refused(binary: sn.SkillNeurons) -> None:
    other, task = sn.load_model("miniature"), make("single")
    for use in (lambda: sn.evaluate(other, task, binary.prompts[0]), lambda: sn.score(other, task, binary.prompts)):
        with pytest.raises(sn.SkillNeuronsError, match="it is 24 wide, the embeddings of miniature are 128"):
            use()
