"""What a neuron does: portraits and tokens are those of plain passes of the library's model, one sample at a time."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import skillneurons as sn
from skillneurons.finding.portraits.by_token import by_token
from skillneurons.finding.portraits.portrait import portrait, portraits

from .families import FAMILIES, tiny
from .makings import Form, make
from .reading import Seen, read, read_one

OPTIONS: dict[str, Any] = {"trials": 2, "positions": 4, "prompt": "random", "init_std": 0.5}
CASES: list[tuple[str, Form]] = [
    ("bert", "single"), ("roberta", "pair"), ("gpt2", "three"), ("llama", "pair"), ("t5", "three"), ("bart", "pair"),
]  # fmt: skip


@cache
def found(name: str, form: Form) -> tuple[sn.Backbone, Any, Any, sn.SkillNeurons]:
    """In float64, where a sample alone and in a batch are the same to many digits."""
    model, tokenizer = tiny(name)
    model.double()
    backbone = sn.load_model(model, tokenizer=tokenizer)
    return backbone, model, tokenizer, sn.find(backbone, make(form), **OPTIONS)


@cache
def plain(name: str, form: Form, split: str, trial: int) -> Seen:
    _, model, tokenizer, skill = found(name, form)
    return read(name, model, tokenizer, skill.task, split, skill.prompts[trial].embedding)


def row(skill: sn.SkillNeurons, subtask: str, layer: int, neuron: int) -> Any:
    table = skill.table()
    return table[(table["subtask"] == subtask) & (table["layer"] == layer) & (table["neuron"] == neuron)].iloc[0]


@pytest.mark.parametrize(("name", "form"), CASES)
@pytest.mark.parametrize(("split", "trial"), [("dev", 0), ("dev", 1), ("test", 1)])
def test_a_portrait_is_what_a_plain_pass_shows(name: str, form: Form, split: Any, trial: int) -> None:
    backbone, _, _, skill = found(name, form)
    task, seen = skill.task, plain(name, form, split, trial)
    subtask = task.subtasks[-1]
    neurons = [(0, 3), (FAMILIES[name].layers - 1, 0), (0, 1), (0, 3)]
    for (layer, neuron), own in zip(
        neurons,
        portraits(backbone, skill, neurons, split=split, trial=trial, most=4, subtask=subtask.name),
        strict=True,
    ):
        line = row(skill, subtask.name, layer, neuron)
        position = int(line["position"][trial])
        values = seen.prompt[layer][:, position, neuron]
        baseline = float(skill.scores[trial].baseline(layer)[len(task.subtasks) - 1, position, neuron])
        assert (own.layer, own.neuron, own.position, own.baseline) == (layer, neuron, position, baseline)
        assert (own.standing.rank, own.standing.predictivity) == (line["rank"], line["predictivity"])
        assert own.standing.of == sum(skill.widths)

        # of equal ones, such as T5's zeros, the earlier sample comes first at either end
        assert [example.sample for example in own.highest] == np.lexsort((np.arange(len(values)), -values))[:4].tolist()
        assert [example.sample for example in own.lowest] == np.lexsort((np.arange(len(values)), values))[:4].tolist()
        for example in (*own.highest, *own.lowest):
            assert example.activation == pytest.approx(values[example.sample], abs=1e-9)
            assert example.label == seen.labels[example.sample]
            sample = getattr(task, split).rows[example.sample]
            assert example.tokens.texts == tuple(sample[column] for column in task.text)

        codes = np.array([task.labels.index(label) for label in seen.labels])
        assert own.samples.tolist() == np.bincount(codes, minlength=len(task.labels)).tolist()
        assert own.fired.tolist() == [int((values[codes == code] > baseline).sum()) for code in range(len(task.labels))]
        for code in range(len(task.labels)):
            assert np.array_equal(np.histogram(values[codes == code], own.edges)[0], own.counts[code])


@pytest.mark.parametrize(("name", "form"), CASES)
def test_firing_on_dev_is_what_was_scored(name: str, form: Form) -> None:
    backbone, _, _, skill = found(name, form)
    for index, subtask in enumerate(skill.task.subtasks):
        for trial in range(2):
            own = portrait(backbone, skill, 1, 7, trial=trial, subtask=subtask.name)
            fired = skill.scores[trial].fired(1)[index, :, own.position, 7].tolist()
            shown = own.table()
            assert [int(shown["fired"][shown["side"] == side].sum()) for side in ("negative", "positive")] == fired
            counts = skill.scores[trial].totals[index].tolist()
            assert [int(shown["samples"][shown["side"] == side].sum()) for side in ("negative", "positive")] == counts
            share = shown["fired"] / shown["samples"]
            assert np.allclose(shown["share"], share)


def test_trials_are_those_of_the_ranking() -> None:
    backbone, _, _, skill = found("gpt2", "three")
    own = portrait(backbone, skill, 0, 5, subtask="good-bad")
    line, trials = row(skill, "good-bad", 0, 5), own.trials()
    assert trials["position"].tolist() == list(line["position"]) and trials["sign"].tolist() == list(line["sign"])
    assert trials["predictivity"].mean() == pytest.approx(line["predictivity"], abs=1e-12)  # Eq. 6
    says = {1: ("positive",), -1: ("negative",)}
    assert [own.says(trial) for trial in range(2)] == [says[sign] for sign in line["sign"]]


def test_without_a_subtask_it_is_the_one_that_a_neuron_ranks_best_in() -> None:
    backbone, _, _, skill = found("gpt2", "three")
    for own in portraits(backbone, skill, skill.top(12), most=1):
        ranks = {part.name: row(skill, part.name, own.layer, own.neuron)["rank"] for part in skill.task.subtasks}
        assert own.standing.rank == min(ranks.values()) == ranks[own.standing.subtask]


def test_batches_and_company_decide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, _, _, skill = found("llama", "pair")
    together = portraits(backbone, skill, skill.top(6))
    monkeypatch.setattr("skillneurons.tuning.inputs.TOKENS_IN_A_BATCH", 1)
    for own in together:
        alone = portrait(backbone, skill, own.layer, own.neuron)
        assert alone.fired.tolist() == own.fired.tolist() and alone.edges.tolist() == own.edges.tolist()
        assert [example.sample for example in alone.highest] == [example.sample for example in own.highest]
        assert alone.texts()["text"].tolist() == own.texts()["text"].tolist()
    assert portraits(backbone, skill, []) == []


def test_a_split_smaller_than_what_is_asked_is_shown_whole() -> None:
    backbone, _, _, skill = found("bert", "single")
    own = portrait(backbone, skill, 0, 0, most=1000)
    count = skill.task.sizes["dev"]
    assert len(own.highest) == len(own.lowest) == len(own.texts()) == count
    assert [example.sample for example in own.highest] == [example.sample for example in own.lowest][::-1]
    assert own.texts()["activation"].is_monotonic_decreasing


@pytest.mark.parametrize(("name", "form"), CASES)
def test_tokens_are_those_of_the_librarys_own_pass(name: str, form: Form) -> None:
    backbone, model, tokenizer, skill = found(name, form)
    texts = ["we won today", "a dull scene , but quick ."][: len(skill.task.text)]
    prompt = skill.prompts[1].embedding
    layers, where = read_one(name, model, tokenizer, texts, prompt)
    subtask = skill.task.subtasks[0].name
    for layer, neuron in ((0, 2), (1, 40)):
        own = by_token(backbone, skill, texts if len(texts) == 2 else texts[0], layer, neuron, 1)
        values = layers[layer][:, neuron]
        table = own.table()
        assert np.allclose(table["activation"], values, atol=1e-9)  # the whole sequence, in its order
        for part, shown in (("prompt", own.prompt), ("inputs", own.inputs)):
            assert np.allclose(shown, values[where[part]], atol=1e-9)
        if FAMILIES[name].kind != "encoder-decoder":
            assert own.answer == pytest.approx(values[where["answer"]][0], abs=1e-9)
        assert own.activation == own.prompt[own.position] and own.baseline == own.usual.baseline[own.position]
        assert "".join(own.tokens).split() == tokenizer.decode(ids(tokenizer, name, texts)).split()
        named = by_token(backbone, skill, tuple(texts), layer, neuron, 1, subtask=subtask)
        scores = skill.scores[1]
        assert named.position == row(skill, subtask, layer, neuron)["position"][1]
        assert named.usual.baseline.tolist() == scores.baseline(layer)[0, :, neuron].tolist()
        usual = table["usual"][table["part"] == "input"]
        assert (usual == float(scores.mean(layer)[-1, neuron])).all()


def ids(tokenizer: Any, name: str, texts: list[str]) -> list[int]:
    joined = ["\n".join(texts)] if name == "gpt2" else texts
    return list(tokenizer(*joined)["input_ids"])


@pytest.mark.parametrize("name", ["roberta", "bert", "gpt2"])
def test_a_text_of_the_split_is_read_alike_even_where_it_is_cut(name: str) -> None:
    model, tokenizer = tiny(name)
    tokenizer.truncation_side = "left"  # a tokenizer's own wish, which a split does not follow
    backbone = sn.load_model(model, tokenizer=tokenizer)
    skill = sn.find(backbone, make("pair"), input_limit=7, **OPTIONS)
    assert skill.about["cut"]["dev"] > 20
    for example in portrait(backbone, skill, 1, 4, most=20).highest:
        alone = by_token(backbone, skill, example.tokens.texts, 1, 4)
        assert alone.tokens == example.tokens.tokens and len(alone.tokens) <= 7
        assert np.array_equal(alone.inputs, example.tokens.inputs)
        assert alone.activation == pytest.approx(example.activation, abs=1e-5)


def test_tokens_of_unknown_signs_still_spell_the_text() -> None:
    backbone, _, _, skill = found("gpt2", "three")
    own = by_token(backbone, skill, "na\u00efve \U0001f600 \u4f60\u597d", 0, 0)
    assert "".join(own.tokens) == "na\u00efve \U0001f600 \u4f60\u597d"
    assert "" in own.tokens  # the first bytes of a sign of several
    empty = by_token(backbone, skill, "", 0, 0)
    assert empty.tokens == () and len(empty.table()) == 4 and "input" in repr(empty)


def test_what_is_shown_are_the_figures() -> None:
    backbone, _, _, skill = found("gpt2", "three")
    own = portrait(backbone, skill, *skill.top(1).neurons[0], most=2)
    text, page = repr(own), own._repr_html_()
    fired = [f"{count} of {samples}" for count, samples in zip(own.fired, own.samples, strict=True)]
    for shown in (*fired, f"rank 1 of {sum(skill.widths)}", f"{100 * own.standing.predictivity:.1f} %", *own.labels):
        assert shown in text and shown in page
    for example in (*own.highest, *own.lowest):
        assert f"{example.activation:.3g}" in text and f"{example.activation:.3g}" in page
        assert letters(example.tokens.texts[0]) in letters(text)
    assert text.index("Firing") < text.index("Highest") < text.index("Lowest")
    assert "\x1b" not in text


def test_shades_run_from_the_lowest_to_the_highest_token() -> None:
    backbone, _, _, skill = found("bert", "single")
    own = by_token(backbone, skill, "a dull film is a bright film", 0, 3)
    text = repr(own)
    low, high = int(own.inputs.argmin()), int(own.inputs.argmax())
    assert f"{own.tokens[low].strip()}\u2581" in text and f"{own.tokens[high].strip()}\u2588" in text
    assert f"{own.inputs[low]:.3g}" in text and f"{own.inputs[high]:.3g}" in text


def test_texts_are_shown_and_never_obeyed() -> None:
    rows = [
        {"text": f"\x1b[31m<script>alert({index})</script>\r{mood} [bold]$x_1$", "label": label}
        for index in range(8)
        for label, mood in (("negative", "dull"), ("positive", "bright"))
    ]
    words = {"negative": "negative", "positive": "positive"}
    task = sn.Task.from_rows("mean", train=rows, dev=rows, test=rows, words=words)
    model, tokenizer = tiny("gpt2")
    backbone = sn.load_model(model, tokenizer=tokenizer)
    own = portrait(backbone, sn.find(backbone, task, **OPTIONS), 0, 0)
    for text in (repr(own), repr(own.highest[0].tokens)):
        assert "\x1b" not in text and "\r" not in text and "script" in letters(text)
    for page in (own._repr_html_(), own.highest[0].tokens._repr_html_()):
        assert "<script" not in page and "\x1b" not in page


def letters(text: str) -> str:
    """Without the blocks, blanks and line ends that stand between the tokens."""
    return "".join(sign for sign in text if sign.isascii() and sign.isalpha())


def test_a_label_without_samples_is_no_division_by_nothing() -> None:
    backbone, _, _, skill = found("bert", "single")
    task = skill.task
    alone = replace(task, test=task.test.take(np.flatnonzero(task.test.labels == 1)))
    own = portrait(backbone, replace(skill, _task=alone), 0, 0, split="test")
    assert "no samples" in repr(own) and np.isnan(own.table()["share"][0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neurons": [(2, 0)]}, "layers 0 to 1; given: layer 2, neuron 0"),
        ({"neurons": [(0, 0), (-1, 0)]}, "layers 0 to 1; given: layer -1, neuron 0"),
        ({"neurons": [(1, 44)]}, "layer 1 of .* has neurons 0 to 43; given: layer 1, neuron 44"),
        ({"split": "validation"}, "a split is one of train, dev, test; given: 'validation'"),
        ({"trial": 2}, "counted from 0: this run has trials 0 to 1; given: 2"),
        ({"trial": -1}, "counted from 0"),
        ({"most": 0}, "at least 1 text"),
        ({"subtask": "elsewhere"}, "a subtask of this run is one of single; given: 'elsewhere'"),
    ],
)
def test_what_is_not_there_is_told(options: dict[str, Any], message: str) -> None:
    backbone, _, _, skill = found("bert", "single")
    with pytest.raises(sn.SkillNeuronsError, match=message):
        portraits(backbone, skill, **{"neurons": [(0, 0)], **options})


def test_wrong_inputs_are_told() -> None:
    backbone, _, _, skill = found("roberta", "pair")
    with pytest.raises(sn.SkillNeuronsError, match=r"an input of pair is 2 texts \(before, text\); given: 1"):
        by_token(backbone, skill, "only one", 0, 0)
    with pytest.raises(sn.SkillNeuronsError, match="neurons 0 to 43; given: layer 0, neuron 99"):
        by_token(backbone, skill, ("one", "two"), 0, 99)
    with pytest.raises(sn.SkillNeuronsError, match="this run has trials 0 to 1; given: 5"):
        by_token(backbone, skill, ("one", "two"), 0, 0, 5)


def test_another_model_is_refused() -> None:
    _, _, _, skill = found("bert", "single")
    for model, tokenizer in (tiny("bert", seed=1), tiny("bert")):  # other weights; the same in float32
        other = sn.load_model(model, tokenizer=tokenizer)
        for use in (lambda own: portrait(own, skill, 0, 0), lambda own: by_token(own, skill, "a film", 0, 0)):
            with pytest.raises(sn.SkillNeuronsError, match=r"read with the model it was found in: .* in float64"):
                use(other)


def test_activations_that_are_no_numbers_are_refused_and_nothing_stays_hooked() -> None:
    from .backbones import hooks

    backbone, model, _, skill = found("bert", "single")
    chosen = sn.NeuronSet(((0, 3),), widths=backbone.widths)
    with (
        pytest.raises(sn.SkillNeuronsError, match="finite numbers"),
        backbone.edit(chosen, sn.Scale(float("inf"))),
    ):
        portrait(backbone, skill, 0, 3)
    assert hooks(model) == 0


def test_half_precision_is_read_too() -> None:
    model, tokenizer = tiny("t5")
    backbone = sn.load_model(model.to(torch.bfloat16), tokenizer=tokenizer)  # type: ignore[arg-type]
    skill = sn.find(backbone, make("single", train=20, dev=16, test=10), **OPTIONS)
    own = portrait(backbone, skill, 0, 0)
    fired = skill.scores[0].fired(0)[0, :, own.position, 0].tolist()
    assert own.fired.tolist() == fired and own.counts.sum() == 16
