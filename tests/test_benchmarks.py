"""The speed benchmark: the plain workflow computes what the package does, and a ratio that falls behind is told."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import RobertaModel

import skillneurons as sn
from skillneurons.tasks.catalogue import CATALOGUE
from skillneurons.tuning.inputs import Inputs
from skillneurons.tuning.prompt import initial
from skillneurons.tuning.train import losses

from .families import tiny
from .makings import make

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
speed, figures, kept, page, paper, plainly, pruning, shape, turns = (
    importlib.import_module(name)
    for name in (
        "speed", "yardsticks.figure", "yardsticks.kept", "yardsticks.page", "yardsticks.paper", "yardsticks.plain",
        "yardsticks.pruning", "yardsticks.shape", "yardsticks.turns",
    )
)  # fmt: skip

POSITIONS = 5
MACHINE = {
    "device": "cpu", "processor": "one", "threads": 2, "shape": "small", "repeats": 3, "torch": "2", "transformers": "5"
}  # fmt: skip


def prepared(name: str, form: Any = "single") -> tuple[sn.Backbone, sn.Task, Any]:
    """A tiny model in float64, a task, and the plain workflow's copy of the model."""
    model, tokenizer = tiny(name)
    backbone, task = sn.load_model(model.double(), tokenizer=tokenizer), make(form)
    return backbone, task, plainly.Plain.of(backbone, task, POSITIONS)


def start(backbone: sn.Backbone) -> torch.Tensor:
    return initial(backbone, sn.TuneConfig.make(positions=POSITIONS, init_std=0.5), 0)


def texts(task: sn.Task, split: str) -> list[str]:
    return list(getattr(task, split).rows["text"])


@pytest.mark.parametrize("name", ["roberta", "bert"])
def test_the_plain_workflow_takes_the_same_steps(name: str) -> None:
    """Every step sees all samples, so that their order is out of play."""
    backbone, task, _ = prepared(name)
    for module in backbone.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    plain, steps, lr = plainly.Plain.of(backbone, task, POSITIONS), 6, 0.05
    config = sn.TuneConfig.make(positions=POSITIONS, init_std=0.5, batch=len(task.train))
    ours = losses(Inputs(backbone, task, POSITIONS), config, 0, lr, steps)
    everything = [np.arange(len(task.train))] * steps
    found = plainly.tune(
        plain, start(backbone), texts(task, "train"), task.train.labels, everything, lambda step: lr
    )  # fmt: skip
    assert list(found) == pytest.approx(ours, rel=1e-5)
    assert ours[-1] < ours[0] - 0.01


def test_the_plain_workflow_is_as_wasteful_as_is_said() -> None:
    backbone, task, plain = prepared("roberta")
    moved: set[str] = set()
    shapes: list[tuple[int, ...]] = []
    for path, weight in plain.model.named_parameters():
        weight.register_post_accumulate_grad_hook(lambda _, path=path: moved.add(path))
    plain.model.lm_head.register_forward_hook(lambda _module, _args, output: shapes.append(tuple(output.shape)))
    before = {path: weight.detach().clone() for path, weight in plain.model.named_parameters()}
    prompt = start(backbone)
    list(plainly.tune(plain, prompt, texts(task, "train"), task.train.labels, [[0, 1, 2]], lambda step: 0.1))
    longest = max(len(backbone.tokenizer(text)["input_ids"]) for text in texts(task, "train")[:3])
    assert moved == set(before)
    assert shapes == [(3, 1 + POSITIONS + longest, backbone.model.config.vocab_size)]
    assert all(torch.equal(weight, before[path]) for path, weight in plain.model.named_parameters())
    assert not torch.equal(prompt, start(backbone))


@pytest.mark.parametrize("name", ["roberta", "bert"])
def test_the_plain_workflow_counts_the_same(name: str) -> None:
    backbone, task, plain = prepared(name)
    prompt = sn.Prompt(start(backbone), "random", 0, 0.5, 0.5, 40)
    [ours] = sn.score(backbone, task, [prompt])
    baseline, accuracy = plainly.score(
        plain, prompt.embedding, texts(task, "train"), texts(task, "dev"), task.dev.labels
    )
    for layer in range(backbone.layers):
        assert np.abs(baseline[layer] - ours.baseline(layer)[0].numpy()).max() < 1e-6
        assert np.abs(accuracy[layer] - ours.exact_accuracy(layer)[0]).max() < 1e-12
    assert accuracy.std() > 0.01
    predicted = plainly.predict(plain, prompt.embedding, texts(task, "test"))
    assert (predicted == sn.evaluate(backbone, task, prompt).predicted).all()


def test_the_plain_workflow_from_end_to_end() -> None:
    backbone, task, plain = prepared("roberta")
    prompt = start(backbone)
    predictivity, accuracy = plainly.find(plain, prompt.clone(), task, steps=9, every=3, lr=0.0)
    _, expected = plainly.score(plain, prompt, texts(task, "train"), texts(task, "dev"), task.dev.labels)
    assert (predictivity == np.maximum(expected, 1 - expected).max(1)).all()
    assert accuracy == (plainly.predict(plain, prompt, texts(task, "test")) == task.test.labels).mean()


@pytest.mark.parametrize("tokens", shape.LENGTHS)
def test_inputs_are_as_long_as_is_said(tokens: int) -> None:
    model = shape.backbone("small", torch.float32, torch.device("cpu"))
    task = shape.task(model, tokens, train=6, dev=3, subtasks=2)
    inputs = Inputs(model, task, shape.POSITIONS)
    assert set(inputs.tokens("train").lengths) == set(inputs.tokens("dev").lengths) == {tokens}
    assert inputs.batch("dev", [0, 1, 2], torch.zeros(127, 64)).embeddings.shape == (3, 128 + tokens, 64)
    assert len(task.subtasks) == 2 and len(set(texts(task, "train"))) == 6
    assert [word.token for word in inputs.words] == [4, 5, 6]
    assert min(inputs.tokens("train").ids[1 : tokens - 1]) > 6


def test_multiplications_are_those_the_library_makes() -> None:
    config = shape.config("small")
    config._attn_implementation = "eager"
    encoder: Any = RobertaModel(config, add_pooling_layer=False).eval().requires_grad_(False)
    embeddings = torch.randn(1, 20, config.hidden_size, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        output = encoder(inputs_embeds=embeddings).last_hidden_state
    forward = counter.get_total_flops() // 2  # an addition to each
    assert forward == config.num_hidden_layers * shape.multiplications(config, 20, 20)
    with FlopCounterMode(display=False) as counter:
        output.backward(torch.ones_like(output))
    backward = counter.get_total_flops() // 2
    assert backward == config.num_hidden_layers * shape.multiplications(config, 20, 20, 2)
    hidden, width = config.hidden_size, config.intermediate_size
    unread = 19 * (2 * (2 * hidden**2 + 2 * hidden * width) + 3 * 2 * 20 * hidden)  # queries, output, FFN; attention
    assert shape.step_multiplications(config, 7, 20) == 7 * (forward + backward - unread)


def test_works_run_in_turn() -> None:
    calls: list[str] = []
    seconds = turns.turns(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, torch.device("cpu"), least=0.0
    )
    assert "".join(calls) == "ab" + "ab" * 3
    assert [len(own) for own in seconds.values()] == [3, 3]


def run(*values: float, better: str = "more", unit: str = "times", spread: float = 0.1, **machine: Any) -> Any:
    own = tuple(
        figures.Figure(f"figure {index}", value, value - spread / 2, value + spread / 2, better, unit)
        for index, value in enumerate(values)
    )
    return figures.Run(MACHINE | machine, (figures.Row("some", "Some", "So.", own),))


def test_a_ratio_is_the_median_of_the_turns() -> None:
    found = figures.ratio("plain / ours", [4.0, 9.0, 8.0], [2.0, 3.0, 2.0], "more", asked=2.5)
    assert (found.value, found.low, found.high) == (3.0, 2.5, 3.5)
    assert found.seconds == (8.0, 2.0) and found.met and not replace(found, asked=3.1).met


def test_a_ratio_that_fell_is_told() -> None:
    before = run(2.0, 3.0, 4.0)
    assert kept.fallen(run(1.75, 3.0, 5.0), before) == [
        "some, figure 0: 1.75 (1.7 to 1.8), kept 2 (1.95 to 2.05)",
    ]
    assert kept.fallen(run(1.85, 3.0, 5.0), before) == []  # both spreads together are 0.2
    steady = run(2.0, spread=0.0)
    assert kept.fallen(run(1.97, spread=0.0), steady) == []  # less than 2 %
    assert len(kept.fallen(run(1.95, spread=0.0), steady)) == 1


def test_of_what_should_be_small_the_larger_has_fallen() -> None:
    before = run(1.05, better="less", spread=0.02)
    assert len(kept.fallen(run(1.12, better="less", spread=0.02), before)) == 1
    assert kept.fallen(run(0.9, better="less", spread=0.02), before) == []
    assert kept.fallen(run(9.0, better="less", unit="s"), run(1.0, better="less", unit="s")) == []


@pytest.mark.parametrize(("key", "other"), [("processor", "two"), ("threads", 4), ("shape", "large"), ("device", "x")])
def test_other_machines_are_not_compared(key: str, other: Any) -> None:
    assert not kept.alike(run(1.0), run(1.0, **{key: other}))
    assert kept.alike(run(1.0), run(1.0, torch="3", repeats=9))


def test_rows_that_were_not_measured_stay_kept() -> None:
    first = run(1.0)
    second = figures.Run(MACHINE, (figures.Row("more", "More", "So.", skipped="no reason"),))
    assert [row.name for row in kept.merged(first, second).rows] == ["some", "more"]
    assert kept.merged(first, run(2.0)).rows == run(2.0).rows
    assert kept.merged(run(1.0, processor="two"), second) == second == kept.merged(None, second)


def test_a_run_comes_back_from_its_file(tmp_path: Path) -> None:
    found = figures.ratio("plain / ours", [2.0, 3.0], [1.0, 1.0], "more", asked=2.0)
    row = figures.Row("some", "Some", "So.", (found,), ("one remark",), None)
    runs = {"cpu": figures.Run(MACHINE, (row,)), "cuda": run(3.0, device="a card")}
    kept.write(tmp_path / "kept.json", runs)
    assert kept.read(tmp_path / "kept.json") == runs
    assert kept.read(tmp_path / "none.json") == {}


def test_the_command_compares_keeps_and_writes_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed, "KEPT", tmp_path / "kept.json")
    monkeypatch.setattr(speed, "PAGE", tmp_path / "speed.md")

    def command(given: Any, *options: str) -> int:
        (tmp_path / "run.json").write_text(json.dumps(given.record()))
        monkeypatch.setattr(sys, "argv", ["speed.py", "--run", str(tmp_path / "run.json"), *options])
        return int(speed.main())

    assert command(run(2.0, 3.0)) == 0  # nothing is kept yet
    assert not (tmp_path / "kept.json").exists()
    assert command(run(2.0, 3.0), "--keep") == 0
    assert "| figure 1 | 3.00 | 2.95 to 3.05 |" in (tmp_path / "speed.md").read_text()
    assert command(run(2.0, 3.0)) == 0 and "Nothing fell behind" in capsys.readouterr().out
    assert command(run(2.0, 2.0)) == 1
    told = capsys.readouterr().out
    assert "some, figure 1: 2 (1.95 to 2.05), kept 3 (2.95 to 3.05)" in told and "figure 0:" not in told
    assert command(run(2.0, 2.0, threads=4)) == 0 and "another machine" in capsys.readouterr().out
    assert kept.read(tmp_path / "kept.json") == {"cpu": run(2.0, 3.0)}
    (tmp_path / "speed.md").unlink()
    assert command(run(1.0), "--page") == 0 and "figure 1" in (tmp_path / "speed.md").read_text()


def test_the_page_is_made_from_what_is_kept() -> None:
    template = (ROOT / "benchmarks" / "speed_page.md").read_text(encoding="utf-8")
    expected = page.markdown(template, kept.read(ROOT / "benchmarks" / "kept.json"))
    assert (ROOT / "docs" / "speed.md").read_text(encoding="utf-8") == expected


def test_the_price_is_the_sum_over_the_tasks() -> None:
    sizes = [entry.paper for entry in CATALOGUE.values()]
    steps = [4 * ceil(own.train / 8) for own in sizes]
    found = paper.price("steps alone", lambda tokens: 0.5, lambda tokens: 0.0)
    assert found.value == pytest.approx(5 * sum(steps) * 0.5 / 3600, rel=1e-4)
    found = paper.price("samples alone", lambda tokens: 0.0, lambda tokens: float(tokens == 243))
    imdb = CATALOGUE["imdb"].paper
    passed = 4 * ceil(imdb.train / 8) / 2000 * imdb.dev + imdb.train + imdb.dev + imdb.test
    assert found.value == pytest.approx(5 * passed / 3600, rel=1e-4)
    assert set(paper.TOKENS) == set(CATALOGUE)


def test_the_pruned_models_are_as_is_said() -> None:
    row = pruning.measure(pruning.Setting(torch.device("cpu"), 2, "small"))
    assert [own.asked for own in row.figures] == [1.6, 2.8, 10.0] and all(own.value > 0 for own in row.figures)
    dense = shape.backbone("small", torch.float32, torch.device("cpu"))
    small = pruning.made(dense, range(1, 3))
    assert small.widths == (256, 5, 5) and small.model.get_output_embeddings().out_features == 2
    inside = pruning.frozen(small)
    assert inside.inside == shape.POSITIONS
    ids = pruning.inputs(dense, 28, 2)
    alone = inside.place(torch.zeros(0, 64), ids)
    assert alone.embeddings.shape == (2, 29, 64) and inside.answer(alone).shape == (2, 2)
