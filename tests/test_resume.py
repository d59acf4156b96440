"""The same work makes the same files, however often and wherever it was killed on the way."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import skillneurons as sn
from skillneurons.tuning import train as training
from skillneurons.tuning import tune as tuning
from skillneurons.tuning.evaluate import evaluate_inputs
from skillneurons.tuning.inputs import Inputs

from .commands import files, run
from .families import save_tiny, tiny
from .makings import make

TRIALS, EVALUATIONS = 2, 2
OPTIONS = [
    "--trials", "2", "--positions", "3", "--steps", "8", "--evaluate-every", "4", "--lr", "0.05", "--init-std", "0.5",
    "--quiet", "--no-pictures", "--out",
]  # fmt: skip
FOUND = 1 + TRIALS * (EVALUATIONS + 1) + 4  # the plan; states and scores; ranking, test, log and run.json
WRITES = FOUND + 2  # the nulls' two files


@dataclass(frozen=True)
class Undisturbed:
    """A command that nobody disturbed: its words but for the folder, the files it made, the seconds it took."""

    words: tuple[str, ...]
    files: dict[str, bytes]
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    model = save_tiny("bert", folder / "model")
    make("single").save(folder / "task")
    words = ("find", str(model), str(folder / "task"), *OPTIONS)
    run(*words, folder / "first")  # after which nothing is imported or tokenised any more
    began = time.monotonic()
    done = run(*words, folder / "run")
    seconds = time.monotonic() - began
    assert done.status == 0, done.err
    assert files(folder / "first") == files(folder / "run")  # the same seed, the same bytes
    return Undisturbed(words, files(folder / "run"), seconds)


def test_a_run_has_these_files_and_no_others(undisturbed: Undisturbed) -> None:
    assert [*sorted(undisturbed.files)] == [
        "neurons.parquet", "nulls.json", "nulls.safetensors", "run.json", "test.safetensors",
        "trial-0.safetensors", "trial-1.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize("writes", range(WRITES))
def test_killed_at_each_write_and_started_again(undisturbed: Undisturbed, writes: int, tmp_path: Path) -> None:
    """Just before a file takes its place, when its bytes lie beside it under another name."""
    out = tmp_path / "run"
    assert run(*undisturbed.words, out, kill_at=writes).status == -9
    for path in out.glob("trial-*.safetensors"):  # whole or absent
        assert len(load_file(path)) == 1 + 4 * 2
    if writes < FOUND:
        with pytest.raises(sn.SkillNeuronsError, match=r"unfinished run|there is no .*run\.json"):
            sn.SkillNeurons.load(out)
    else:
        assert sn.SkillNeurons.load(out).nulls is None
    done = run(*undisturbed.words, out)
    assert done.status == 0, done.err
    assert files(out) == undisturbed.files


def test_there_are_no_more_writes_than_were_tried(undisturbed: Undisturbed, tmp_path: Path) -> None:
    assert run(*undisturbed.words, tmp_path / "run", kill_at=WRITES).status == 0


@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again_at_any_moment(undisturbed: Undisturbed, seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    cache = {"SKILLNEURONS_CACHE": str(tmp_path / "cache")}  # whose making is killed as well
    for _ in range(6):
        seconds = draw.uniform(0.1, 0.9) * undisturbed.seconds
        run(*undisturbed.words, tmp_path / "run", kill_after=seconds, environment=cache)
    done = run(*undisturbed.words, tmp_path / "run", environment=cache)
    assert done.status == 0, done.err
    assert files(tmp_path / "run") == undisturbed.files


def test_control_c_stops_cleanly_and_the_same_command_goes_on(undisturbed: Undisturbed, tmp_path: Path) -> None:
    done = run(*undisturbed.words, tmp_path / "run", interrupt_at=2)
    assert done.status == 130
    assert "the same command goes on where this one was" in done.err and "Traceback" not in done.err
    assert run(*undisturbed.words, tmp_path / "run").status == 0
    assert files(tmp_path / "run") == undisturbed.files


@pytest.mark.parametrize("rubbish", [b"", b"rubbish", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_state_that_cannot_be_read_costs_its_trial_and_no_more(
    undisturbed: Undisturbed, rubbish: bytes, tmp_path: Path
) -> None:
    assert run(*undisturbed.words, tmp_path / "run", kill_at=3).status == -9
    state = tmp_path / "run/unfinished/trial-0.safetensors"
    assert state.exists()
    state.write_bytes(rubbish)
    assert run(*undisturbed.words, tmp_path / "run").status == 0
    assert files(tmp_path / "run") == undisturbed.files


class Killed(BaseException):
    """Not an error that anything would catch."""


def backbone() -> sn.Backbone:
    model, tokenizer = tiny("opt")
    return sn.load_model(model, tokenizer=tokenizer)


def test_killed_at_every_evaluation_a_rate_being_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each start gets one evaluation further; the steps since the last one are taken again."""
    model, task = backbone(), make("three")
    options: dict[str, Any] = {
        "trials": 2, "positions": 3, "lr": "auto", "init_std": "auto", "steps": 10, "evaluate_every": 3, "patience": 3,
    }  # fmt: skip
    sn.find(model, task, out=tmp_path / "whole", **options)
    calls, kills = 0, 0

    def evaluation(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Killed
        return evaluate_inputs(*given)

    monkeypatch.setattr(training, "evaluate_inputs", evaluation)
    while True:
        calls = 0
        try:
            skill = sn.find(model, task, out=tmp_path / "broken", **options)
            break
        except Killed:
            kills += 1
    assert kills == 7  # two trials of four evaluations; the last of all is the first of its start
    assert files(tmp_path / "broken") == files(tmp_path / "whole")
    assert skill.prompts[0].lr == skill.prompts[1].lr
    assert [point.step for point in skill.prompts[1].history] == [3, 6, 9, 10]


def test_a_rate_that_was_found_is_kept_though_another_would_be_found_now(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, task = backbone(), make("three")
    options: dict[str, Any] = {"trials": 2, "positions": 3, "lr": "auto", "steps": 6, "evaluate_every": 2}
    monkeypatch.setattr(tuning, "choose_rate", lambda inputs, config: 0.03)
    whole = sn.find(model, task, out=tmp_path / "whole", **options)
    calls = 0

    def evaluation(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Killed
        return evaluate_inputs(*given)

    with monkeypatch.context() as patched:
        patched.setattr(training, "evaluate_inputs", evaluation)
        with pytest.raises(Killed):
            sn.find(model, task, out=tmp_path / "broken", **options)
    monkeypatch.setattr(tuning, "choose_rate", lambda inputs, config: 0.01)
    found = sn.find(model, task, out=tmp_path / "broken", **options)
    assert [prompt.lr for prompt in found.prompts] == [prompt.lr for prompt in whole.prompts] == [0.03, 0.03]
    assert files(tmp_path / "broken") == files(tmp_path / "whole")


def test_patience_goes_on_where_it_stood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Killed between the second and the third evaluation without a gain, a trial still stops at the third."""
    accuracies = [0.5, 0.6, 0.4, 0.4, 0.4, 0.9]
    given: list[float] = []
    killed = False

    def evaluation(*_: object) -> Any:
        nonlocal killed
        if len(given) == 4 and not killed:
            killed = True
            raise Killed
        given.append(accuracies[len(given)])
        return type("Evaluation", (), {"accuracy": given[-1]})

    monkeypatch.setattr(training, "evaluate_inputs", evaluation)
    jobs = [training.Job(Inputs(backbone(), make("single"), 3), 0, 0.05)]
    config = sn.TuneConfig.make(trials=1, positions=3, evaluate_every=1, patience=3)
    with pytest.raises(Killed):
        training.train(jobs, config, tmp_path / "state", "same")
    [prompt] = training.train(jobs, config, tmp_path / "state", "same")
    assert [point.accuracy for point in prompt.history] == accuracies[:5]
    assert prompt.accuracy == 0.6
    given.clear()
    [anew] = training.train(jobs, config, tmp_path / "state", "other")
    assert anew.history[0].step == 1


def test_a_finished_run_is_given_back_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, task = backbone(), make("single")
    options: dict[str, Any] = {"trials": 1, "positions": 3, "steps": 4, "out": tmp_path}
    first = sn.find(model, task, **options)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setattr(type(model.model), "forward", lambda *_, **__: pytest.fail("the model ran"))
    again = sn.find(model, task, **options)
    assert again.about == first.about and again.table().equals(first.table())
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_trials_that_are_there_are_not_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, task = backbone(), make("single")
    options: dict[str, Any] = {"trials": 2, "positions": 3, "steps": 4, "out": tmp_path}
    sn.find(model, task, **options)
    whole = files(tmp_path)
    for name in ("run.json", "neurons.parquet", "trial-1.safetensors"):
        (tmp_path / name).unlink()
    seen: list[int] = []

    def train(jobs: list[training.Job], *given: Any) -> list[sn.Prompt]:
        seen.extend(job.trial for job in jobs)
        return training.train(jobs, *given)

    monkeypatch.setattr(tuning, "train", train)
    sn.find(model, task, **options)
    assert seen == [1] and files(tmp_path) == whole
