"""Timing: in turn, of the right works, with ratios that are those of the turns, beside the arithmetic."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

import skillneurons as sn
from skillneurons.cli.shipping import Bench as Command
from skillneurons.pruning import bench as timing
from skillneurons.pruning.artifact import load_pruned
from skillneurons.pruning.bench import as_shipped, bench, inputs, only_read, threads, turns
from skillneurons.pruning.bench_result import DENSE, PRUNED, READ, Bench
from skillneurons.pruning.config import BenchConfig
from skillneurons.pruning.onnx import export
from skillneurons.pruning.pruned import Pruned

from .backbones import backbone, prompt
from .families import tiny
from .test_artifact import pruned

QUICK: dict[str, Any] = {"turns": 2, "batch": 3, "tokens": (4, 9)}
MODELS = [DENSE, READ, PRUNED, "onnx"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each work is called once a turn."""
    monkeypatch.setattr(turns, "__defaults__", (0.0,))


@pytest.fixture(scope="module")
def small() -> Pruned:
    return pruned("bert", trials=1)


@pytest.fixture(scope="module")
def folder(small: Pruned, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shipped model that was exported; to be looked at only."""
    folder = small.save(tmp_path_factory.mktemp("bench") / "small")
    export(load_pruned(folder, device="cpu"))
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> Bench:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(turns, "__defaults__", (0.0,))
        return bench(folder, **QUICK)


def given(seconds: dict[str, list[float]]) -> Bench:
    """A result of these times: 100, 50 and 20 multiplications."""
    sizes = {DENSE: 100, READ: 50, PRUNED: 20}
    rows = [
        {"model": name, "tokens": 8, "batch": 4, "seconds": own, "parameters": 7, "bytes": 28,
         "multiplications": sizes[name]} for name, own in seconds.items()
    ]  # fmt: skip
    about = {"task": "t", "model": "m", "positions": 3, "threads": 1, "dense": None, "config": {"turns": 3}}
    return Bench(about, rows)


def row(found: Bench, **wanted: Any) -> dict[Any, Any]:
    """The first row of the table that is of all that."""
    rows = found.table().to_dict("records")
    return next(own for own in rows if all(own[name] == value for name, value in wanted.items()))


def test_ratios_are_those_of_the_turns() -> None:
    found = given({DENSE: [4.0, 9.0, 8.0], READ: [2.0, 4.0, 3.0], PRUNED: [1.0, 1.0, 2.0]})
    own = row(found, model=PRUNED)
    assert (own["seconds"], own["low"], own["high"], own["per_second"]) == (1.0, 1.0, 1.5, 4.0)
    assert (own["faster"], own["faster_low"], own["faster_high"], own["faster_read"]) == (4.0, 4.0, 6.5, 2.0)
    assert (own["fewer"], own["fewer_read"]) == (5.0, 2.5)
    assert row(found, model=DENSE)["faster"] == row(found, model=READ)["faster_read"] == 1.0


def test_works_run_in_turn_and_as_long_as_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    works: dict[str, Callable[[], object]] = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    found = turns(works, 3, "", 0.0)
    assert "".join(calls) == "aabb" + "ab" * 3
    assert [len(own) for own in found.values()] == [3, 3]
    clock = iter(range(1000))
    calls.clear()
    monkeypatch.setattr("time.perf_counter", lambda: next(clock) / 10)  # every call takes a tenth of a second
    assert turns(works, 1, "", 0.25) == {"a": [pytest.approx(0.1 / 3)], "b": [pytest.approx(0.1 / 3)]}
    assert "".join(calls) == "aabb" + "aaabbb"


@pytest.mark.parametrize("name", ["roberta", "modernbert", "gpt2", "llama", "t5", "bart"])
@torch.no_grad()
def test_both_dense_works_answer_alike(name: str) -> None:
    model = backbone(name)
    ids, soft = inputs(model, 6, 2), prompt(model)
    place = {"masked": 0, "causal": -1, "encoder-decoder": 0}[model.kind]
    whole = as_shipped(model, soft, ids)
    assert whole.shape[1] == (1 if model.kind == "encoder-decoder" else len(soft) + 6 + (model.kind == "masked"))
    assert torch.allclose(whole[:, place], only_read(model, soft, ids), atol=1e-9)


def test_inputs_have_their_length_and_differ() -> None:
    model = backbone("roberta")
    found = inputs(model, 7, 5)
    assert [len(row) for row in found] == [7] * 5 and len({row.tobytes() for row in found}) == 5
    assert max(row.max() for row in found) < len(model.tokenizer)
    assert np.array_equal(found[0], inputs(model, 7, 5)[0])


def test_threads_are_set_for_the_time_of_the_block() -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    with pytest.raises(ZeroDivisionError), threads(before + 2):
        raise ZeroDivisionError
    assert torch.get_num_threads() == before
    with threads(None):
        assert torch.get_num_threads() == before


def test_everything_is_timed(found: Bench, folder: Path, small: Pruned) -> None:
    table = found.table()
    assert [*zip(table["tokens"], table["batch"], table["model"], strict=True)] == [
        (tokens, batch, model) for tokens in (4, 9) for batch in (1, 3) for model in MODELS
    ]
    assert (table["seconds"] > 0).all() and all(len(row["seconds"]) == 2 for row in found.rows)
    shipped = load_pruned(folder)
    dense, read, pruned, exported = (row(found, model=model) for model in MODELS)
    assert dense["parameters"] == read["parameters"] == shipped.about.dense
    assert pruned["parameters"] == exported["parameters"] == shipped.about.parameters
    assert pruned["bytes"] == 4 * (shipped.about.parameters + shipped.prompt.numel())
    assert exported["bytes"] == (folder / "model.onnx").stat().st_size
    assert (table["multiplications"].to_numpy().reshape(4, 4)[:, 2:].std(1) == 0).all()
    assert found.about["threads"] == torch.get_num_threads() and found.about["dense"] is None


def test_multiplications_fall_from_what_is_read_and_from_pruning(found: Bench, small: Pruned) -> None:
    own = {model: row(found, model=model, tokens=9)["multiplications"] for model in MODELS}
    dense, hidden = small.dense, small.dense.embedding_size
    tokens, vocabulary = 1 + 3 + 9, dense.model.config.vocab_size
    width = dense.widths[-1]
    transform = hidden**2
    late = 2 * hidden**2  # queries and outputs of the last attention
    assert own[DENSE] - own[READ] == (tokens - 1) * (2 * hidden * width + late + transform + hidden * vocabulary)
    cut = [before - after for before, after in zip(dense.widths, small.model(0).widths, strict=True)]
    rows = [tokens] * (dense.layers - 1) + [1]
    frozen = sum(2 * hidden * row * less for row, less in zip(rows, cut, strict=True))
    assert own[READ] - own[PRUNED] == frozen + hidden * (vocabulary - 2)


def test_a_dense_model_of_ones_own(folder: Path, small: Pruned) -> None:
    found = bench(folder, small.dense, turns=1, batch=1, tokens=(4,))
    assert found.about["dense"] == small.dense.name
    assert [row["batch"] for row in found.rows] == [1] * 4
    model, tokenizer = tiny("roberta")
    with pytest.raises(sn.SkillNeuronsError, match=r"is the one that was made smaller, .* is masked with"):
        bench(folder, sn.load_model(model, tokenizer=tokenizer), turns=1)


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_other_kinds(name: str, tmp_path: Path) -> None:
    found = bench(pruned(name, trials=1).save(tmp_path), turns=1, batch=2, tokens=(5,))
    assert set(found.table()["model"]) == {DENSE, READ, PRUNED}


def test_what_does_not_fit_is_told(folder: Path, small: Pruned) -> None:
    room = small.dense.room(3)
    assert room is not None
    bench(folder, turns=1, tokens=(room,), batch=1)
    with pytest.raises(sn.SkillNeuronsError, match=rf"prompt of 3 positions .* of {room} tokens at most; given: "):
        bench(folder, turns=1, tokens=(4, room + 1))
    with pytest.raises(sn.SkillNeuronsError, match="3 problems"):
        bench(folder, turns=0, tokens=(0,), batch=-1)
    with pytest.raises(sn.SkillNeuronsError, match="there is no"):
        bench(folder / "nowhere")


def test_threads_go_back_after_a_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    before = torch.get_num_threads()
    monkeypatch.setattr(timing, "multiplications", fails)
    with pytest.raises(KeyboardInterrupt):
        bench(folder, threads=before + 1)
    assert torch.get_num_threads() == before


def test_screen_picture_and_file(found: Bench, tmp_path: Path) -> None:
    screen = io.StringIO()
    Console(width=200, file=screen).print(found.screen())
    told = screen.getvalue()
    own = row(found, tokens=9, batch=3, model=PRUNED)
    for part in (f"{own['per_second']:.4g} [", f"{own['faster']:.2f} ({own['faster_read']:.2f})", "random weights"):
        assert part in told
    assert "inputs of 4 tokens" in told and "inputs of 9 tokens" in told and "Medians of 2 turns" in told
    ax = found.plot()
    assert [text.get_text() for text in ax.get_yticklabels()] == MODELS
    assert len(ax.get_legend().get_texts()) == 4  # type: ignore[union-attr]
    assert json.loads(found.save(tmp_path).read_text()) == {"about": dict(found.about), "rows": list(found.rows)}
    assert repr(found).count(PRUNED) == 4


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = BenchConfig.make(tokens=(4,), batch=2, turns=1, threads=1)
    Command(folder, out=tmp_path / "speed", config=config, quiet=True).run()
    told = capsys.readouterr().out
    assert "1 thread" in told and str(tmp_path / "speed" / "bench.json") in told
    assert {path.name for path in (tmp_path / "speed").rglob("*.*")} == {"bench.json", "speed.svg", "speed.png"}


def test_configuration_is_told() -> None:
    assert BenchConfig.make().tokens == (28,)
    with pytest.raises(sn.SkillNeuronsError, match="threads"):
        BenchConfig.make(threads=0)
