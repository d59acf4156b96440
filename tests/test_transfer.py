"""ON from the library's own activations, transfer as evaluate has it, correlations by brute force over the tasks."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from scipy.stats import spearmanr

import skillneurons as sn
from skillneurons.finding.portraits.shading import plain
from skillneurons.transferring import asked
from skillneurons.transferring.config import TransferConfig
from skillneurons.transferring.indicator import by_target, gained, indicated
from skillneurons.transferring.overlap import overlaps, states
from skillneurons.transferring.result import Transfer
from skillneurons.transferring.transfer import transfer
from skillneurons.tuning.evaluate import evaluate_inputs
from skillneurons.tuning.prompt import Prompt

from .backbones import fresh
from .commands import run
from .families import FAMILIES, save_tiny, tiny
from .makings import Form, make
from .reading import read_one

OPTIONS: dict[str, Any] = {"trials": 2, "prompt": "random", "init_std": 0.5}
TASKS: tuple[tuple[Form, int, int], ...] = (("single", 0, 3), ("pair", 0, 5), ("three", 0, 3), ("single", 1, 4))
"""Form, seed and positions."""


@cache
def backbone(name: str = "roberta") -> sn.Backbone:
    model, tokenizer = tiny(name)
    return sn.load_model(model, tokenizer=tokenizer)


@cache
def found(form: Form, seed: int, positions: int) -> sn.SkillNeurons:
    return sn.find(backbone(), make(form, seed=seed, kind=form), positions=positions, **OPTIONS)


@cache
def skills() -> list[sn.SkillNeurons]:
    return [found(*own) for own in TASKS]


@cache
def result() -> Transfer:
    return transfer(backbone(), *skills(), fraction=0.3)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return len(set(one.nonzero()[0]) & set(other.nonzero()[0])) / float(np.sqrt(one.sum() * other.sum()))


def mean_over_trials(target: list[np.ndarray], source: list[np.ndarray]) -> float:
    return float(np.mean([cosine(one, other) for one in target for other in source if one is not other]))


@torch.no_grad()
def alone(name: str, prompt: torch.Tensor) -> np.ndarray:
    """Every neuron's activation at the answer token, or an encoder's last prompt position, beside an empty text."""
    model, tokenizer = fresh(name)
    model.double()
    if tokenizer("")["input_ids"]:
        layers, where = read_one(name, model, tokenizer, [""], prompt)
        part = where["prompt" if FAMILIES[name].kind == "encoder-decoder" else "answer"]
        return np.concatenate([own[part][-1] for own in layers])
    rows: list[np.ndarray] = []  # a causal model that reads the prompt and nothing else
    for path in FAMILIES[name].sites:
        model.get_submodule(path).register_forward_pre_hook(lambda _, given: rows.append(given[0][0, -1].numpy()))
    model(inputs_embeds=prompt[None])
    return np.concatenate(rows)


@pytest.mark.parametrize("name", ["roberta", "bert", "albert", "modernbert", "gpt2", "opt", "llama", "t5", "t5-gated"])
def test_states_are_those_of_the_librarys_own_activations(name: str) -> None:
    model, tokenizer = fresh(name)
    own = sn.load_model(model.double(), tokenizer=tokenizer)
    for seed in range(2):
        draw = torch.Generator().manual_seed(seed)
        soft = torch.randn(4, own.embedding_size, generator=draw) * own.embedding_scale
        given = states(own, Prompt(soft, "random", 0, 0.5, 0.5, 10))
        expected = alone(name, soft.double()) > 0
        assert given.tolist() == expected.tolist()
        assert 0.1 < expected.mean() < 0.9


def test_on_is_the_cosine_of_states_averaged_over_trials() -> None:
    every = [[states(backbone(), prompt) for prompt in skill.prompts] for skill in skills()]
    begins = np.cumsum([0, *backbone().widths])
    for target, skill in enumerate(skills()):
        top = skill.table()
        top = top[(top["subtask"] == skill.about["task"]) & (top["rank"] <= round(0.3 * backbone().neurons))]
        chosen = [begins[layer] + neuron for layer, neuron in zip(top["layer"], top["neuron"], strict=True)]
        for source, other in enumerate(every):
            expected = mean_over_trials(every[target], other)
            assert result().matrix("on")[target, source] == pytest.approx(expected, abs=1e-12)
            part = [[own[chosen] for own in trials] for trials in (every[target], other)]
            if target == source:
                part[1] = part[0]
            expected = mean_over_trials(*part)
            assert result().matrix("on_restricted")[target, source] == pytest.approx(expected, abs=1e-12)
    on, restricted = (result().matrix(name) for name in ("on", "on_restricted"))
    assert np.array_equal(on, on.T) and not np.allclose(restricted, restricted.T)


def test_the_top_may_be_taken_layer_by_layer() -> None:
    given = transfer(backbone(), *skills()[:2], fraction=0.3, scope="layer")
    every = [[states(backbone(), prompt) for prompt in skill.prompts] for skill in skills()[:2]]
    begins = np.cumsum([0, *backbone().widths])
    chosen = [begins[layer] + neuron for layer, neuron in skills()[0].top(fraction=0.3, scope="layer")]
    expected = mean_over_trials(*([own[chosen] for own in trials] for trials in every))
    assert given.matrix("on_restricted")[0, 1] == pytest.approx(expected, abs=1e-12)
    assert np.array_equal(given.matrix("on"), result().matrix("on")[:2, :2])


def test_one_trial_has_no_other_to_overlap_with_and_silence_overlaps_with_nothing() -> None:
    own = np.array([[True, True, False, False]])
    silent = np.zeros((2, 4), bool)
    given = overlaps([own, silent])
    assert np.isnan(given[0, 0])
    assert given[0, 1] == given[1, 0] == given[1, 1] == 0
    assert overlaps([own, own | True], [np.array([0]), np.array([2, 3])])[[0, 1], [1, 0]].tolist() == [1, 0]


def test_zero_shot_accuracies_are_those_of_evaluate() -> None:
    table = result().table()
    assert result().tasks == ["single (1)", "pair", "three", "single (2)"] and len(table) == 16
    own = {}
    for target, goal in zip(result().tasks, skills(), strict=True):
        for source, skill in zip(result().tasks, skills(), strict=True):
            each = [sn.evaluate(backbone(), goal.task, prompt).accuracy for prompt in skill.prompts]
            row = table[(table["target"] == target) & (table["source"] == source)].iloc[0]
            assert row["accuracy"] == pytest.approx(np.mean(each), abs=1e-12)
            assert row["std"] == pytest.approx(np.std(each, ddof=1), abs=1e-12)
            assert row["low"] <= row["accuracy"] <= row["high"]
            own[target, source] = row["accuracy"]
    alone = np.array([own[target, target] for target in table["target"]])
    assert table["relative"].to_numpy() == pytest.approx(table["accuracy"] / alone, abs=1e-12)
    assert table["difference"].to_numpy() == pytest.approx(table["accuracy"] - alone, abs=1e-12)
    assert table["accuracy"].nunique() > 6


def test_the_samples_are_cut_as_the_target_has_them() -> None:
    short = sn.find(backbone(), make("pair", seed=2), positions=3, input_limit=6, **OPTIONS)
    long = found("single", 0, 3)
    given = transfer(backbone(), short, long)
    as_short = [replace(prompt, input_limit=6) for prompt in long.prompts]
    as_long = [replace(prompt, input_limit=None) for prompt in short.prompts]
    for pair, task, prompts in (((0, 1), short.task, as_short), ((1, 0), long.task, as_long)):
        expected = np.mean([sn.evaluate(backbone(), task, prompt).accuracy for prompt in prompts])
        assert given.matrix("accuracy")[pair] == pytest.approx(expected, abs=1e-12)


def test_a_limit_leaves_the_same_samples_to_every_prompt_and_keeps_them_apart(tmp_path: Path) -> None:
    few = transfer(backbone(), *skills()[:2], limit=20, out=tmp_path)
    for at, target in enumerate(skills()[:2]):
        assert len(target.tested.labels) > 20
        for of, source in enumerate(skills()[:2]):
            task = target.task.limited(test=20)
            each = [sn.evaluate(backbone(), task, prompt).accuracy for prompt in source.prompts]
            assert few.matrix("accuracy")[at, of] == pytest.approx(np.mean(each), abs=1e-12)
    all_of_them = transfer(backbone(), *skills()[:2], out=tmp_path).matrix("accuracy")
    assert np.array_equal(all_of_them, transfer(backbone(), *skills()[:2]).matrix("accuracy"))


def test_suggestions_are_the_targets_sources_best_first() -> None:
    given = result().suggest("three")
    assert sorted(given["source"]) == ["pair", "single (1)", "single (2)"]
    assert given["accuracy"].is_monotonic_decreasing and set(given["target"]) == {"three"}
    assert given["accuracy"][0] == np.delete(result().matrix("accuracy")[2], 2).max()


def drawn(tasks: int, seed: int = 0, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    if ties:
        return draw.integers(0, 4, (tasks, tasks)) / 10, draw.integers(0, 3, (tasks, tasks)) / 7
    return draw.random((tasks, tasks)), draw.random((tasks, tasks))


def spearman(one: np.ndarray, other: np.ndarray, target: int, tasks: list[int]) -> float:
    """Scipy's over the sources among `tasks`, which may name one several times; NaN where one side is constant."""
    sources = [source for source in tasks if source != target]
    rows = one[target, sources], other[target, sources]
    told = sources and all(np.ptp(row) > 0 for row in rows)
    return float(spearmanr(*rows).statistic) if told else np.nan


def rho(one: np.ndarray, other: np.ndarray, tasks: list[int]) -> float:
    """The mean over the targets that have a correlation."""
    every = np.array([spearman(one, other, target, tasks) for target in tasks])
    return float(np.nanmean(every)) if not np.isnan(every).all() else np.nan


@pytest.mark.parametrize("ties", [False, True])
def test_correlations_are_scipys_without_the_target_itself(ties: bool) -> None:
    on, relative = drawn(6, ties=ties)
    expected = [spearman(on, relative, target, [*range(6)]) for target in range(6)]
    assert by_target(on, relative) == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert indicated(on, relative, TransferConfig()).correlation == pytest.approx(np.nanmean(expected), abs=1e-12)


def test_a_target_whose_sources_are_equal_is_left_out() -> None:
    on, relative = drawn(5)
    relative[1] = 0.5
    relative[2] = np.nan  # its own prompts are never right
    given = by_target(on, relative)
    assert np.isnan(given).tolist() == [False, True, True, False, False]
    summed = indicated(on, relative, TransferConfig())
    assert summed.targets == 3 and summed.correlation == pytest.approx(np.nanmean(given))
    nothing = indicated(on, np.ones((5, 5)), TransferConfig())
    assert np.isnan(nothing.correlation) and np.isnan(nothing.low) and nothing.targets == 0 and nothing.p == 1


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_mantel_is_exact_over_all_relabellings_of_few_tasks(seed: int, ties: bool) -> None:
    on, relative = drawn(4, seed, ties)
    given = indicated(on, relative, TransferConfig())
    observed = rho(on, relative, [0, 1, 2, 3])
    every = [rho(on[np.ix_(order, order)], relative, [0, 1, 2, 3]) for order in permutations(range(4))]
    assert given.permutations == 24 and given.exact
    assert given.p == pytest.approx(np.mean([not own < observed - 1e-9 for own in every]))


def test_mantel_draws_where_there_are_many_and_counts_the_observed() -> None:
    on, _ = drawn(7)
    given = indicated(on, on, TransferConfig(permutations=200))
    assert not given.exact and given.permutations == 201 and given.p == 1 / 201
    assert indicated(on, on, TransferConfig(permutations=200, seed=1)).permutations == 201
    exact = indicated(on, on, TransferConfig())
    assert exact.exact and exact.permutations == 5040 and exact.p == 1 / 5040
    assert indicated(on, -on, TransferConfig(permutations=200)).p == 1


def test_mantel_is_right_where_there_is_nothing() -> None:
    """Symmetric random matrices: p at most 0.1 in about a tenth of the cases."""
    p = []
    for seed in range(150):
        on, relative = drawn(5, seed)
        p.append(indicated(on + on.T, relative + relative.T, TransferConfig(resamples=100)).p)
    assert 0.04 < np.mean(np.array(p) <= 0.1) < 0.17


@pytest.mark.parametrize("ties", [False, True])
def test_intervals_are_those_of_tasks_drawn_again(ties: bool) -> None:
    config = TransferConfig(resamples=100)
    restricted, on = drawn(5, 1, ties)
    _, relative = drawn(5, 2, ties)
    often = np.random.default_rng(0).multinomial(5, np.full(5, 0.2), 100)
    resamples = [np.repeat(np.arange(5), own).tolist() for own in often]
    one, other = (np.array([rho(own, relative, tasks) for tasks in resamples]) for own in (restricted, on))
    given = indicated(restricted, relative, config)
    assert (given.low, given.high) == pytest.approx(tuple(np.nanpercentile(one, [2.5, 97.5])))
    gain = gained(restricted, on, relative, config)
    assert gain.difference == pytest.approx(rho(restricted, relative, [*range(5)]) - rho(on, relative, [*range(5)]))
    assert (gain.low, gain.high) == pytest.approx(tuple(np.nanpercentile(one - other, [2.5, 97.5])))


def test_three_tasks_have_no_interval() -> None:
    on, relative = drawn(3)
    given, gain = indicated(on, relative, TransferConfig()), gained(on, relative, relative, TransferConfig())
    assert np.isnan([given.low, given.high, gain.low, gain.high]).all() and not np.isnan(given.correlation)
    assert given.permutations == 6


def matrices(tasks: int, noise: float, other: float) -> Transfer:
    """Transfer that ON over skill neurons tells up to `noise`, and ON over all neurons up to `other`."""
    draw = np.random.default_rng(0)
    relative = draw.random((tasks, tasks))
    on = relative + other * draw.normal(size=relative.shape)
    restricted = relative + noise * draw.normal(size=relative.shape)
    np.fill_diagonal(relative, 1.0)
    names = [f"t{place}" for place in range(tasks)]
    arrays = {"on": on, "on_restricted": restricted, "accuracy": 0.8 * relative, "relative": relative}
    rows = [
        {"target": target, "source": source, "std": None, "low": 0.0, "high": 1.0, "difference": 0.0}
        | {name: values[at] for name, values in arrays.items()}
        for at in np.ndindex(tasks, tasks) for target, source in [(names[at[0]], names[at[1]])]
    ]  # fmt: skip
    about = {"config": {"resamples": 500}, "tasks": names, "kinds": [None] * tasks, "majority": [0.5] * tasks}
    return Transfer(about, rows, {name: torch.from_numpy(values) for name, values in arrays.items()})


@pytest.mark.parametrize(
    ("tasks", "noise", "other", "said"),
    [
        (7, 0.1, 9.0, ["Holds: prompts transfer better the more of", "Holds: skill neurons tell transferability"]),
        (7, 0.1, 0.1, ["Holds: prompts transfer better", "skill neurons tell transferability better than all"]),
        (7, 9.0, 0.1, ["prompts", "Does not hold: all neurons tell transferability as well as skill neurons; -"]),
        (4, 0.1, 9.0, ["Holds: prompts transfer better", "over 24 relabellings"]),
        (3, 0.0, 9.0, ["Cannot be told with this much data: whether prompts", "over 6 relabellings"]),
        (2, 0.0, 9.0, ["Cannot be told: a rank correlation takes a target with two sources that differ"]),
    ],
)
def test_the_verdict(tasks: int, noise: float, other: float, said: list[str]) -> None:
    given = matrices(tasks, noise, other)
    assert all(part in given.verdict for part in said), given.verdict
    assert "own prompts do not beat" not in given.verdict
    shown = " ".join(plain(given.screen()).split())
    assert given.verdict in shown
    assert f"No other task's prompts beat the commonest label of {', '.join(given.tasks)}." in shown
    weak = replace(given, about={**given.about, "majority": [0.9] + [0.5] * (tasks - 1)})
    assert tasks < 3 or weak.verdict.endswith("On t0 the own prompts do not beat the commonest label.")


def test_an_opposite_indicator_does_not_hold() -> None:
    given = matrices(7, 0.0, 0.1)
    turned = replace(given, arrays={**given.arrays, "on_restricted": -given.arrays["on_restricted"]})
    assert turned.verdict.startswith("Does not hold: prompts that share more of the target's active skill neurons")


def test_the_picture_has_both_matrices() -> None:
    figure = result().plot().get_figure(root=True)
    assert figure is not None
    shown = (result().matrix("on_restricted"), result().matrix("relative"))
    for ax, values in zip(figure.axes[:2], shown, strict=True):
        order = [0, 3, 1, 2]  # by kind
        cells = {(int(own.get_position()[1]), int(own.get_position()[0])): own.get_text() for own in ax.texts}
        assert cells == {
            (row, column): f"{values[order[row], order[column]]:.2f}"
            for row in range(4) for column in range(4) if row != column
        }  # fmt: skip
    one = result().plot(matrix="on")
    assert one.texts[0].get_text() == f"{result().matrix('on')[0, 3]:.2f}"
    pyplot.close("all")


def test_it_is_kept(tmp_path: Path) -> None:
    result().save(tmp_path)
    again = Transfer.load(tmp_path)
    assert again.table().equals(result().table())
    assert again.verdict == result().verdict and again.indicator("on") == result().indicator("on")
    assert again.correlations().equals(result().correlations())


def counted(monkeypatch: pytest.MonkeyPatch, most: int = 1000) -> list[str]:
    """The labels of what is evaluated; after `most` of these the user stops."""
    labels: list[str] = []

    def counting(inputs: Any, embedding: Any, split: Any, label: str) -> Any:
        if len(labels) == most:
            raise KeyboardInterrupt
        labels.append(label)
        return evaluate_inputs(inputs, embedding, split, label)

    monkeypatch.setattr(asked, "evaluate_inputs", counting)
    return labels


def test_it_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = skills()[:3]
    with monkeypatch.context() as stopping:
        first = counted(stopping, most=5)
        with pytest.raises(KeyboardInterrupt):
            transfer(backbone(), *every, out=tmp_path)
    with monkeypatch.context() as going:
        rest = counted(going)
        given = transfer(backbone(), *every, out=tmp_path)
    assert len(first) == 5 and len(set(first + rest)) == len(first + rest) == 3 * 2 * 2
    for part in ("answer", "read"):
        monkeypatch.setattr(sn.Backbone, part, lambda *_: pytest.fail("the model ran"))
    again = transfer(backbone(), *every, fraction=0.5, out=tmp_path)
    assert again.table()["accuracy"].equals(given.table()["accuracy"])
    assert Transfer.load(tmp_path).table().equals(again.table())


def test_each_answer_is_kept_as_soon_as_it_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "UNKEPT", 0.0)
    counted(monkeypatch, most=3)
    write = asked.Asked._write
    written: list[int] = []

    def writing(self: asked.Asked) -> None:
        write(self)
        written.append(len(self.known))

    monkeypatch.setattr(asked.Asked, "_write", writing)
    with pytest.raises(KeyboardInterrupt):
        transfer(backbone(), *skills()[:2], out=tmp_path)
    assert written == [1, 2, 3, 4, 5, 6, 7, 7]  # four states, three answers, the end


def test_a_run_more_is_asked_for_alone_and_a_broken_file_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer(backbone(), *skills()[:2], out=tmp_path)
    labels = counted(monkeypatch)
    transfer(backbone(), *skills()[:3], out=tmp_path)
    assert len(labels) == 4 * 2 and all("three" in label for label in labels)
    file = tmp_path / asked.FILE
    file.write_bytes(file.read_bytes()[:-50])
    labels.clear()
    transfer(backbone(), *skills()[:2], out=tmp_path)
    assert len(labels) == 2 * 2


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    single, pair = skills()[:2]
    with pytest.raises(sn.SkillNeuronsError, match="at least two runs are compared; given: 1"):
        transfer(backbone(), single)
    with pytest.raises(sn.SkillNeuronsError, match=r"single \(1\) and single \(2\) are the same finding"):
        transfer(backbone(), single, pair, single)
    other = sn.find(backbone("bert"), make("pair"), positions=3, **OPTIONS | {"trials": 1})
    with pytest.raises(sn.SkillNeuronsError, match="Choose runs of the same model"):
        transfer(backbone(), single, other)
    with pytest.raises(sn.SkillNeuronsError, match="a run is read with the model it was found in"):
        transfer(backbone("bert"), single, pair)
    with pytest.raises(sn.SkillNeuronsError, match=r"(?s)2 problems.*fraction.*scope"):
        transfer(backbone(), single, pair, fraction=0, scope="all")
    pair.save(tmp_path)
    with pytest.raises(sn.SkillNeuronsError, match="in a folder of its own"):
        transfer(backbone(), single, pair, out=tmp_path)
    asks: list[Any] = [result().suggest, result().matrix, result().indicator]
    for ask in asks:
        with pytest.raises(sn.SkillNeuronsError, match=r"is one of .*; given: 'films'"):
            ask("films")


def test_the_command(tmp_path: Path) -> None:
    model = sn.load_model(save_tiny("bert", tmp_path / "model"))
    runs = []
    for form in ("single", "pair", "three"):
        make(form, kind=form).save(tmp_path / form)
        task = sn.load_task(tmp_path / form / "task.toml")
        runs.append(tmp_path / "runs" / form)
        sn.find(model, task, positions=3, out=runs[-1], **OPTIONS)
    out = tmp_path / "out"
    done = run("transfer", *runs, "--out", out, "--fraction", "0.5")
    assert done.status == 0, done.err
    assert all(f"\n{form} " in done.out for form in ("single", "pair", "three"))
    assert (out / "figures/transfer.svg").exists() and "prompts" in done.out
    assert Transfer.load(out).tasks == ["single", "pair", "three"]
    before = (out / asked.FILE).stat().st_mtime_ns
    moved = [(tmp_path / form).rename(tmp_path / f"moved-{form}") / "task.toml" for form in ("single", "pair", "three")]
    again = run("transfer", *runs, "--out", out, "--fraction", "0.5", "--tasks", *moved, "--quiet")
    assert (again.status, again.out, again.err) == (0, done.out, "")
    assert (out / asked.FILE).stat().st_mtime_ns == before
    wrong = run("transfer", *runs, "--out", out, "--tasks", moved[0])
    assert wrong.status == 2 and "one task for each run; 3 runs, 1 tasks given" in wrong.err
